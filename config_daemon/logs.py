"""Structured logs: JSON lines on stderr, or readable ones on a terminal.

Laws: an event is a constant in snake_case and the past tense, facts are keys; no values, payloads or
secrets; tracebacks never show local variables. `docs/events.md` lists every event.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

Logger = Any


def configure(level: str = "info") -> None:
    """Set logging up for this process, once, at its start."""
    terminal = sys.stderr.isatty()
    renderers: list[Any] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if terminal
        else [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger(module: str) -> Logger:
    """Return the logger of a module, named `config_daemon.<module>`."""
    return structlog.get_logger().bind(logger=f"config_daemon.{module}")
