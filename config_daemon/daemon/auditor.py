"""Carry the heads of the audit chains into the beacon and the marks, while they extend what was known.

Laws: a head goes out only after its chain was checked to extend the one known before; a chain that was
rewritten is told and leaves the beacon; a host that knew no head takes the chains as they are; reading is
done in slices, so that a long history holds no tick up.

Source: docs/protocol.md "Audit head".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from config_daemon.core.health import Findings
from config_daemon.errors import StoreError
from config_daemon.store.audit import Heads, HistoryRewritten, Trail, present_heads
from config_daemon.store.marks import Numbers
from config_daemon.wire.beacon import Numbered

SLICE = 500  # rows of each chain


class Auditor:
    """Follows the chains of one database; `heads` is None while they are not known to be whole."""

    def __init__(
        self,
        path: Path,
        numbers: Numbers,
        findings: Findings,
        now_text: Callable[[], str],
        readable: Callable[[], bool],
    ) -> None:
        self._path, self._numbers, self._findings, self._now_text = path, numbers, findings, now_text
        self._readable = readable  # who asks a store that is locked may wait for ten seconds
        self._trail: Trail | None = None
        self._is_behind = True

    def step(self) -> None:
        """Read on where a long history was not read to its end yet."""
        if self._is_behind:
            self.heads()

    def heads(self) -> dict[str, Numbered] | None:
        """Check what is new and return both heads as the beacon carries them; None where that cannot be done."""
        if not self._readable():
            self._is_behind = False
            return None
        try:
            if self._trail is None:
                self._trail = Trail(self._path, self._numbers.marks.audit or present_heads(self._path))
            found = self._trail.step(SLICE)
        except HistoryRewritten as error:
            self._is_behind = False
            self._findings.open("history-rewritten", error.table, error.message, self._now_text())
            return None
        except StoreError:
            self._is_behind = False  # the next beacon asks again
            return None
        self._is_behind = found is None
        if found is None:
            return None
        self._findings.close("history-rewritten")
        self._numbers.note_audit(found)
        return {"history": Numbered(*found.history), "access": Numbered(*found.access)}

    def adopted(self, heads: Heads) -> None:
        """Go on with the chains that an adoption has begun."""
        self._trail, self._is_behind = Trail(self._path, heads), True
        self._findings.close("history-rewritten")
