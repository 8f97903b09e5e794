"""What the store itself holds against values, and how the problems of one commit are told.

Law: every problem names its service, since a commit may change several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from config_daemon.errors import ErrorContext, NotAllowed


def unnameable(values: Mapping[str, Any], prefix: str = "") -> Iterator[ErrorContext]:
    """Yield the members that no dotted key can name, so that history could not tell them from others."""
    for name, value in values.items():
        if not name or "." in name:
            where = f"the object {prefix[:-1]}" if prefix else "the config"
            message = f"{where} has a member {name[:80]!r}, whose name no key can hold"
            mend = "Use a name without dots, or nest it."
            yield ErrorContext("invalid_config", "UNKNOWN_KEY", message, mend, failed_field=prefix[:-1])
        elif isinstance(value, Mapping):
            yield from unnameable(value, f"{prefix}{name}.")


def of_service(service: str, problem: ErrorContext) -> ErrorContext:
    """Return a problem whose message names its service."""
    if service in problem.message:
        return problem
    return replace(problem, message=f"{service}: {problem.message}")


def fixed_by_env(service: str, key: str, place: str) -> NotAllowed:
    """Return the error for a write to a value that `.env` fixes at `place`, which is `file:line`."""
    return NotAllowed(
        f"{service} {key} is fixed by {place}",
        code="FIXED_BY_ENV",
        suggestion=f"Change or remove that line of {place.rpartition(':')[0]}; it wins over the database.",
    )


def headline(problems: Sequence[ErrorContext]) -> str:
    """Return one line for all problems."""
    if len(problems) == 1:
        return problems[0].message
    return f"{len(problems)} values are not valid; nothing was stored"
