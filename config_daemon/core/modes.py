"""The state machine: what the daemon does, given what the store says.

Laws: the mode is derived from three facts and never stored; the table is total, so no combination
is undefined; a fallback never looks normal.

Source: seed 004 "Database Health States" and "Operational Modes".
"""

from __future__ import annotations

from typing import Literal, get_args

Status = Literal["healthy", "locked", "corrupted", "schema-mismatch"]
Mode = Literal["normal", "read-only-fallback", "rebuilding"]

STATUSES: tuple[Status, ...] = get_args(Status)
MODES: tuple[Mode, ...] = get_args(Mode)

_TABLE: dict[tuple[Status, bool, bool], Mode] = {
    # status, held, rebuilding
    ("healthy", False, False): "normal",
    ("healthy", True, False): "read-only-fallback",
    ("healthy", False, True): "rebuilding",
    ("healthy", True, True): "rebuilding",
    ("locked", False, False): "read-only-fallback",
    ("locked", True, False): "read-only-fallback",
    ("locked", False, True): "rebuilding",
    ("locked", True, True): "rebuilding",
    ("corrupted", False, False): "read-only-fallback",
    ("corrupted", True, False): "read-only-fallback",
    ("corrupted", False, True): "rebuilding",
    ("corrupted", True, True): "rebuilding",
    ("schema-mismatch", False, False): "read-only-fallback",
    ("schema-mismatch", True, False): "read-only-fallback",
    ("schema-mismatch", False, True): "rebuilding",
    ("schema-mismatch", True, True): "rebuilding",
}


def mode_of(status: Status, held: bool, rebuilding: bool) -> Mode:
    """Return the mode; `held` is true while a condition that stops publishing is open."""
    return _TABLE[status, held, rebuilding]
