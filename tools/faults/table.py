"""All faults, by name."""

from __future__ import annotations

from tools.faults import rows_broker, rows_daemon, rows_keys, rows_machine, rows_store
from tools.faults.run import FAULTS, Fault

__all__ = ["FAULTS", "Fault", "rows_broker", "rows_daemon", "rows_keys", "rows_machine", "rows_store"]
