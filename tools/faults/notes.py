"""What the driver tells the checker: what it expects to hear, when a fault begins and ends, what others did."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from tests.raw_client import Refused
from tools.faults.scene import Scene

HEALTH = "system/health/config-daemon"
_LONG = {"status": "database_status", "mode": "operational_mode"}


class Notes(Scene):
    """A scene with a pencil; times are the machine's monotonic ones."""

    def note(self, kind: str, **facts: Any) -> None:
        """Write down what the checker has to know."""
        line = json.dumps({"at": time.monotonic(), "kind": kind, **facts}) + "\n"
        with (self.folder / "notes.jsonl").open("a") as notes:
            notes.write(line)

    def expect(self, *, within: float = 5.0, wire: bool = True, **health: Any) -> None:
        """Have the checker look for a health that says this, from now on; `wire`: on the broker, not only here."""
        self.note("expect", health={_LONG.get(name, name): value for name, value in health.items()}, within=within,
                  wire=wire)  # fmt: skip

    def see(self, *, within: float = 5.0, **health: Any) -> None:
        """Expect a health on the broker, and look until it is there or too late; the checker judges."""
        self.expect(within=within, **health)
        wanted = {_LONG.get(name, name): value for name, value in health.items()}
        end = time.monotonic() + within
        while time.monotonic() < end and not self._told(wanted):
            time.sleep(0.02)

    def _told(self, wanted: Mapping[str, Any]) -> bool:
        try:
            said = json.loads(self.retained_on(HEALTH))
        except (OSError, ValueError, AssertionError, Refused):
            return False
        names = [condition["name"] for condition in said["conditions"]]
        return all(
            value in names if name == "condition" else said[name] == value for name, value in wanted.items()
        )

    def wrong(self, within: float = 5.0) -> None:
        """Note that from now on, and after a little time, no health may say that all is well."""
        self.note("wrong", within=within)

    def right(self) -> None:
        """Note that the fault is over."""
        self.note("right")

    def theirs(self, raw: bytes) -> bytes:
        """Note that a message is not the daemon's doing: forged, or put back."""
        self.note("theirs", sha256=hashlib.sha256(raw).hexdigest())
        return raw
