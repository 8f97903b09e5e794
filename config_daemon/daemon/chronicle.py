"""Log what went wrong and when it was over: a condition is created, logged, and at last resolved.

Laws: each opening and each end is told once, in the log and in status.db; a detail goes into status.db only,
since the log carries no values; what comes and goes between two looks was not worth telling.

Source: seed 000 "Error Context", its state transitions.
"""

from __future__ import annotations

from collections.abc import Iterable

from config_daemon.logs import Logger
from config_daemon.store.status import StatusBoard
from config_daemon.wire.messages import Condition


class Chronicle:
    """Compares the open conditions with those of the last look."""

    def __init__(self, log: Logger, board: StatusBoard) -> None:
        self._log, self._board = log, board
        self._open: dict[tuple[str, str], Condition] = {}

    def look(self, conditions: Iterable[Condition], now: str) -> None:
        """Tell what was opened and what was resolved since the last look; `now` is RFC 3339."""
        before, self._open = self._open, {(one.name, one.subject): one for one in conditions}
        for key, one in self._open.items():
            if key not in before:
                self._log.warning(
                    "condition_opened", name=one.name, subject=one.subject, severity=one.severity
                )
                self._board.event(one.since, "warning", "condition_opened", one.model_dump(mode="json"))
        for key, one in before.items():
            if key not in self._open:
                self._log.info("condition_resolved", name=one.name, subject=one.subject, since=one.since)
                facts = {**one.model_dump(mode="json"), "resolved_at": now}
                self._board.event(now, "info", "condition_resolved", facts)
