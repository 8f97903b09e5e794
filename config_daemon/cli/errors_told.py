"""The errors of a daemon as ErrorContexts: those that are open, and the last ones that were resolved.

Laws: an error was logged before it is shown here; a resolved one keeps its words and says when it ended.

Source: seed 000 "Error Context".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from config_daemon.core.health import CONDITIONS
from config_daemon.errors import ErrorContext
from config_daemon.store.refusal import ALTERED_ROWS, MISFITS, stops_everything
from config_daemon.store.status import StatusView

SHOWN_RESOLVED = 100


def errors_told(conditions: Iterable[Mapping[str, Any]], view: StatusView) -> list[dict[str, Any]]:
    """Return the open conditions, then the last resolved ones with the newest first."""
    ended = [facts for _, _, name, facts in reversed(view.events()) if name == "condition_resolved"]
    return [
        *(_told(one, "logged", None) for one in conditions),
        *(_told(one, "resolved", one["resolved_at"]) for one in ended[:SHOWN_RESOLVED]),
    ]


def _told(one: Mapping[str, Any], state: str, resolved_at: str | None) -> dict[str, Any]:
    name = one["name"]
    code = name.replace("-", "_")
    kind = CONDITIONS.get(name)
    context = ErrorContext(
        error_type=code,
        error_code=code.upper(),
        message=one["detail"] or name,
        suggestion=one.get("remedy") or (kind.remedy if kind else "See docs/events.md."),
        failed_field=one["subject"],
        fallback_applied=name in (ALTERED_ROWS, MISFITS) or stops_everything(name),
    )
    return {
        **context.as_dict(), "severity": one["severity"], "state": state, "since": one["since"],
        "resolved_at": resolved_at,
    }  # fmt: skip
