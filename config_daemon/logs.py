"""Structured logs: JSON lines on stderr, or readable ones on a terminal.

Laws: an event is a constant in snake_case and the past tense, facts are keys; no values, payloads or
secrets; a line that cannot be written stops nobody. `docs/events.md` lists every event, and
docs/adr/0011 says why this is no library.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(slots=True)
class _Settings:
    """What `configure` said; one for the process."""

    least: int = LEVELS.index("info")


_settings = _Settings()


@dataclass(frozen=True, slots=True)
class Logger:
    """Writes the events of one part of the program."""

    name: str

    def debug(self, event: str, **facts: Any) -> None:
        """Tell of something that only a developer asks for."""
        if _settings.least == 0:
            _write(self.name, "debug", event, facts)

    def info(self, event: str, **facts: Any) -> None:
        """Tell of something that an operator may want to know."""
        _write(self.name, "info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Tell of something that an operator should look at."""
        _write(self.name, "warning", event, facts)


def configure(level: str = "info") -> None:
    """Say which level is the least to be written, once, at the start."""
    _settings.least = LEVELS.index(level)


def logger(module: str) -> Logger:
    """Return the logger of a module, named `config_daemon.<module>`."""
    return Logger(f"config_daemon.{module}")


def _write(name: str, level: str, event: str, facts: dict[str, Any]) -> None:
    if LEVELS.index(level) < _settings.least:
        return
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if sys.stderr.isatty():
        told = " ".join(f"{key}={json.dumps(fact, default=str)}" for key, fact in facts.items())
        line = f"{now} {level:8}{event} {told}".rstrip()
    else:
        line = json.dumps(
            {"timestamp": now, "level": level, "logger": name, "message": event, **facts}, default=str
        )
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
