"""Follow the definitions as a whole: whether they are those that the stored configs are known to fit.

Laws: under other definitions nothing new is published before every stored config was judged by them; they are
recorded only for the database as it was judged; while a config does not fit, or the record cannot be written,
the mode is a fallback that says so, and it ends by itself.

A config without a definition, and a row that cannot be read, decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import islice

from config_daemon.catalog.catalog import Catalog
from config_daemon.core.health import Findings
from config_daemon.daemon.judge import Judge
from config_daemon.daemon.sight import Sight
from config_daemon.errors import StoreError, StoreLocked
from config_daemon.store.status import StatusBoard
from config_daemon.store.writer import SqliteWriter

CONDITION, SUBJECT = "model-hash", "config.db"
AGAIN_SECONDS = 0.25
SHOWN_SERVICES, SHOWN_FIELDS = 5, 3


class Models:
    """Acts on a doubt of the judge; `upgraded` is called when other definitions were recorded."""

    def __init__(
        self,
        judge: Judge,
        sight: Sight,
        catalog: Catalog,
        findings: Findings,
        board: StatusBoard,
        writer: SqliteWriter,
        upgraded: Callable[[], None],
        now_text: Callable[[], str],
    ) -> None:
        self._judge, self._sight, self._catalog = judge, sight, catalog
        self._findings, self._board, self._writer = findings, board, writer
        self._upgraded, self._now_text = upgraded, now_text
        self._doubted = self._recorded = False
        self._again_at = 0.0
        self._misfits: list[str] = []

    def step(self, now: float) -> None:
        """Judge the definitions when they are others and all rows are known, or end the doubt about them."""
        if self._judge.doubts:
            self._doubted = True
            if self._sight.rows_known and not self._findings.holding:
                self._decide(now)
        elif self._doubted:
            self._end()

    def tell(self) -> None:
        """Say in status.db which services may be written meanwhile, so that somebody can mend them."""
        self._board.daemon(misfits=self._misfits)

    def _decide(self, now: float) -> None:
        if self._judge.misfits:
            misfits = self._judge.misfits
            self._mismatch(_words(misfits), misfits)
        elif now >= self._again_at:
            self._again_at = now + AGAIN_SECONDS
            self._record()

    def _record(self) -> None:
        """Record the definitions; the next look at the store sees it, and the doubt is over."""
        facts, place = self._sight.facts, self._sight.place
        assert facts is not None and place is not None
        try:
            if self._writer.record_models(self._catalog.model_hash, facts, place):
                self._recorded = True
        except StoreLocked:
            pass  # somebody writes: again soon, or the store is found locked
        except StoreError as error:
            self._mismatch(
                f"all stored configs fit the new models, which cannot be recorded: {error.message}"
            )
        finally:
            self._writer.close()

    def _mismatch(self, detail: str, misfits: Collection[str] = ()) -> None:
        self._sight.misfit = True
        self._findings.open(CONDITION, SUBJECT, detail, self._now_text())
        self._remember(misfits)

    def _end(self) -> None:
        self._doubted = self._sight.misfit = False
        self._findings.close(CONDITION, SUBJECT)
        self._remember(())
        self._sight.reread(self._judge.take_undecided())
        if self._recorded:
            self._recorded = False
            self._upgraded()

    def _remember(self, misfits: Collection[str]) -> None:
        if sorted(misfits) != self._misfits:
            self._misfits = sorted(misfits)
            self.tell()


def _words(misfits: Mapping[str, Collection[str]]) -> str:
    """Return which services do not fit, and in which fields, as far as a person reads on."""
    some = [
        f"{service} ({', '.join(islice(fields, SHOWN_FIELDS))}{', …' if len(fields) > SHOWN_FIELDS else ''})"
        for service, fields in islice(sorted(misfits.items()), SHOWN_SERVICES)
    ]
    more = f" and {len(misfits) - len(some)} more" if len(misfits) > len(some) else ""
    return f"stored configs do not fit the new models: {'; '.join(some)}{more}"
