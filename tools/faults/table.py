"""All faults, by name: each module of rows puts its own into the table."""

from __future__ import annotations

from importlib import import_module

from tools.faults.run import FAULTS, Fault

__all__ = ["FAULTS", "Fault"]

for _part in (
    "daemon", "broker", "attack", "access", "load", "store", "store_other", "machine", "keys", "daemons",
    "recovery", "worker",
):  # fmt: skip
    import_module(f"tools.faults.rows_{_part}")
