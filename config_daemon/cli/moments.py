"""Moments as people write them: a duration back from now, a date, a time."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from config_daemon.cli.printing import quoted
from config_daemon.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BACK = re.compile(r"([0-9]{1,9})([smhdw])")


def moment(text: str, now_seconds: float | None = None) -> str:
    """Return a moment in the form of stored timestamps; what has no time zone is UTC.

    Raises: UsageError.
    """
    back = _BACK.fullmatch(text)
    try:
        if back:
            seconds = (time.time() if now_seconds is None else now_seconds) - int(back[1]) * _SECONDS[back[2]]
            found = datetime.fromtimestamp(max(seconds, 0.0), UTC)
        else:
            found = datetime.fromisoformat(text)
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        return f"{found:%Y-%m-%dT%H:%M:%S}.{found.microsecond // 1000:03d}Z"
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{quoted(text)} is no moment",
            suggestion="Write 30d, 12h, 15m, 2026-01-31 or 2026-01-31T12:00:00Z.",
        ) from error
