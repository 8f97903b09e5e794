"""A worker's program in a test: what it was told, what it applied, and how it may fail.

Laws: one object is one life of the process; the next life is another object on the same folder.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from nacl.signing import SigningKey

from config_daemon.errors import ErrorContext, InvalidConfig
from config_daemon.worker.follow import FirstUse, Follower
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.program import Handed
from config_daemon.worker.report import Report
from config_daemon.worker.trust import Belief, Trust
from tests.keyrings import ring_of
from tests.worker.updates import KEY, SERVICE, TOPIC, TOPICS

NOW_MS = 1_767_323_045_678  # 2026-01-02T03:04:05.678Z
PROBLEM = ErrorContext("type_error", "NOT_A_NUMBER", "number: must be one", "Give a number.", "number")


class Edge:
    """Follows one service; refuses configs with `invalid`, and fails to apply those with `failing`."""

    def __init__(
        self,
        folder: Path,
        *,
        keys: Sequence[SigningKey] = (KEY,),
        mended: bool = False,
        generation: int = 1,
        disk: Callable[[Path, str], Keep] = Keep,
        first_use: FirstUse = "run",
    ) -> None:
        self.folder, self.mended = folder, mended
        self.applied: list[Any] = []
        self.attempts: list[Any] = []
        self.reports: list[Report] = []
        self.on_report: Callable[[Report], None] = self.reports.append
        self.on_apply: Callable[[Any], object] = lambda values: None
        self.on_validate: Callable[[Any], Any] = lambda values: values
        trust = Trust(ring_of(*(key.verify_key for key in keys), generation=generation), [SERVICE], TOPICS)
        self.keep = disk(folder, trust.anchor)
        self.clock, self.calendar_ms = 1000.0, NOW_MS
        self.shown: list[tuple[str, bytes]] = []
        self.lookout = Lookout(
            trust, [SERVICE], TOPICS, "edge", lambda *what: self.shown.append(what),
            clock=lambda: self.clock, calendar=lambda: self.calendar_ms,
        )  # fmt: skip
        self.follower = Follower(
            trust,
            self.keep,
            [SERVICE],
            TOPICS,
            apply=self._apply,
            report=lambda report: self.on_report(report),
            validate={SERVICE: self._validate},
            lookout=self.lookout,
            first_use=first_use,
            calendar=lambda: self.calendar_ms,
        )

    def start(self) -> Self:
        """Start from what is kept."""
        self.follower.start()
        return self

    def next_life(self, *, keys: Sequence[SigningKey] = (KEY,), mended: bool = False) -> Edge:
        """Return the program after a restart, already started."""
        return Edge(self.folder, keys=keys, mended=mended).start()

    def receive(self, raw: bytes, topic: str = TOPIC) -> Report:
        """Deliver one message, and return the one report about it; only a later keyring may have it come again."""
        asked_again, report = self.deliver(raw, topic)
        assert asked_again == (report.reason == "keyring-behind")
        return report

    def deliver(self, raw: bytes, topic: str = TOPIC) -> tuple[bool, Report]:
        """Deliver one message; return whether it is wanted again, and the one report about it."""
        before = len(self.reports)
        done = self.follower.receive(topic, raw)
        (report,) = self.reports[before:]
        return not done, report

    @property
    def runs(self) -> Any:
        """What the program runs; None before anything was applied."""
        return self.applied[-1] if self.applied else None

    @property
    def verdicts(self) -> list[tuple[int | None, str, str | None]]:
        """Every report so far as (sequence, state, reason)."""
        return [(report.sequence, report.state, report.reason) for report in self.reports]

    def kept(self) -> Belief:
        """What the disk holds, read as the next life would."""
        return self.keep.load(SERVICE).belief

    def floor(self) -> int | None:
        """The sequence number below which nothing is accepted, as the disk holds it."""
        floor = self.kept().floor
        return None if floor is None else floor.sequence

    @property
    def state_file(self) -> Path:
        """The one file that the state of the service is in."""
        return self.folder / f"{SERVICE}.state"

    def _validate(self, values: Any) -> Any:
        if "invalid" in values and not self.mended:
            raise InvalidConfig("it breaks the definition", contexts=[PROBLEM])
        return self.on_validate(values)

    def _apply(self, handed: Handed) -> None:
        values = handed.values
        self.attempts.append(copy.deepcopy(values))
        self.on_apply(values)
        if "failing" in values and not self.mended:
            raise RuntimeError("this program cannot do that")
        self.applied.append(values)
