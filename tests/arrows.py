"""How a daemon's status and mode may change, and why: the seed's arrows, and what we add to them.

Source: seed 004 "State Transitions"; docs/architecture.md shows the same table, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping

STATUS_ARROWS: Mapping[tuple[str, str], str] = {
    ("healthy", "locked"): "nobody can write, or it cannot be read, for half a second",
    ("locked", "healthy"): "by itself, once the lock has ended and a quick check passed",
    ("healthy", "corrupted"): "SQLite, or a row's seal, says that it is damaged; or it is gone",
    ("corrupted", "healthy"): "a person mended or rebuilt it, or a rebuild was allowed",
    ("healthy", "schema-mismatch"): "another format, or configs that do not fit new models",
    ("schema-mismatch", "healthy"): "the program, the values or the file were changed so that they fit",
    ("schema-mismatch", "corrupted"): "two faults that followed one another: it is damaged or gone, too",
    ("corrupted", "schema-mismatch"): "what was rebuilt or put back holds configs that do not fit the models",
    ("locked", "corrupted"): "two faults that followed one another: it is found when the lock ends",
    ("corrupted", "locked"): "two faults that followed one another: a lock beside a damaged row",
}
MODE_ARROWS: Mapping[tuple[str, str], str] = {
    ("normal", "read-only-fallback"): "the status is not healthy any more; or (ours) a hold",
    ("read-only-fallback", "normal"): "the status is healthy and nothing holds",
    ("normal", "rebuilding"): "a person asks for a rebuild of a healthy store",
    ("read-only-fallback", "rebuilding"): "a person asks for a rebuild, or it is allowed",
    ("rebuilding", "normal"): "the new store has answered",
    ("rebuilding", "read-only-fallback"): "(ours) the rebuild failed, or the new store is in trouble too",
}


def table() -> str:
    """Return all arrows as the lines of a Markdown table."""
    rows = [
        f"| {what} | `{before}` | `{after}` | {why} |"
        for what, arrows in (("status", STATUS_ARROWS), ("mode", MODE_ARROWS))
        for (before, after), why in arrows.items()
    ]
    return "\n".join(["| of | from | to | when |", "|---|---|---|---|", *rows])
