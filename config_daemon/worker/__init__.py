"""The edge: receive, verify, keep, apply, report. Needs nothing but the base installation.

What a program uses is here: `ConfigClient` for threads and `AsyncConfigClient` for asyncio; docs/worker.md
says how. Both are imported when they are asked for, since other parts of this package do without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config_daemon.worker.aio import AsyncConfigClient
    from config_daemon.worker.apply import RestartNeeded, RolledBack
    from config_daemon.worker.change import Change, Update
    from config_daemon.worker.report import Report
    from config_daemon.worker.sdk import ConfigClient

__all__ = [
    "AsyncConfigClient", "Change", "ConfigClient", "Report", "RestartNeeded", "RolledBack", "Update",
]  # fmt: skip
_HOMES = {
    "AsyncConfigClient": "aio", "Change": "change", "ConfigClient": "sdk", "Report": "report", "RestartNeeded": "apply",
    "RolledBack": "apply", "Update": "change",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
