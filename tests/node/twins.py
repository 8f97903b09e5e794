"""One worker in two languages: the same orders for both, and what each says came of them.

Laws: both are told the time; a message that ends the process ends it in both at the same place, after the message was
made durable and before anything was applied.
"""

from __future__ import annotations

import errno
import hashlib
import json
import struct
import subprocess
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from config_daemon.worker.durable import replace
from config_daemon.worker.standing import Standing
from tests.node.programs import workshop
from tests.worker.edge import NOW_MS, Edge
from tests.worker.updates import KEY, SERVICE

Order = dict[str, Any]
Outcome = dict[str, Any]
DEAD = "dead"


class _Killed(BaseException):
    """The process ends here, as by signal 9."""


def tagged(value: Any) -> Any:
    """Return values so that the other language's are the same text: what it calls a number, by its binary64."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and abs(value) >= 1 << 53:
        return f"integer {value}"
    if isinstance(value, int | float):
        return f"number {struct.pack('<d', value).hex()}"
    if isinstance(value, list):
        return [tagged(one) for one in value]
    return [[key, tagged(value[key])] for key in sorted(value, key=lambda key: key.encode("utf-16-be"))]


class PythonTwin:
    """Ours; `obey` does one order at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._edge: Edge | None = None
        self._is_full = False

    def obey(self, order: Order, raw: bytes = b"") -> Outcome:
        """Do one order; `raw` is the message of one that delivers."""
        before = self._edge
        seen = (len(before.reports), len(before.shown), len(before.applied)) if before else (0, 0, 0)
        settled: Any = None
        try:
            with patch("config_daemon.worker.keep.replace", self._replace):
                settled = self._do(order, raw)
        except _Killed:
            settled = DEAD
        edge = self._edge
        assert edge is not None
        if edge is not before:
            seen = (0, 0, 0)
        return {
            "settled": settled,
            "reports": [_told(vars_of(one)) for one in edge.reports[seen[0] :]],
            "shown": [[topic, hashlib.sha256(bytes_).hexdigest()] for topic, bytes_ in edge.shown[seen[1] :]],
            "applied": [tagged(values) for values in edge.applied[seen[2] :]],
            "standing": None if settled == DEAD else _stands(edge.follower.standing(SERVICE)),
        }

    def _do(self, order: Order, raw: bytes) -> Any:
        if order["do"] == "live":
            self._is_full = order["full"]
            edge = Edge(self._folder, first_use=order["firstUse"], mended=order["mended"])
            self._edge, edge.on_apply = edge, self._apply
            edge.clock, edge.calendar_ms = order["now"]["clock"], order["now"]["calendar"]
            edge.start()
            return None
        assert self._edge is not None
        if order["do"] == "damage":
            (self._folder / f"{order['subject']}.state").write_text("what was here is lost")
            return None
        if order["do"] == "disk":
            self._is_full = order["full"]
            return None
        if order["do"] == "receive":
            return self._edge.follower.receive(order["topic"], raw)
        if order["do"] == "tick":
            self._edge.follower.tick()
            return None
        self._edge.clock, self._edge.calendar_ms = order["now"]["clock"], order["now"]["calendar"]
        return None

    def _replace(self, path: Path, content: bytes) -> None:
        if self._is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(path, content)

    def _apply(self, values: Any) -> None:
        assert self._edge is not None
        if "deadly" in values and not self._edge.mended:
            raise _Killed


def _stands(standing: Standing) -> dict[str, Any]:
    """Return what a status tells, but for words and times, which each worker has of its own."""
    told = {"running": standing.running, "last_attempt": standing.last_attempt}
    members = {
        name: one and one.model_dump(exclude={"applied_at", "at", "errors"}) for name, one in told.items()
    }
    return {**members, "flags": sorted(standing.flags)}


def vars_of(report: Any) -> dict[str, Any]:
    """Return the members of a report that every worker tells."""
    names = ("service", "generation", "sequence", "config_version", "state", "reason", "flags")
    return {name: getattr(report, name) for name in names}


def _told(report: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: one for name, one in report.items() if name != "errors"},
        "flags": sorted(report["flags"]),
    }


def live(
    calendar_ms: int = NOW_MS, first_use: str = "run", *, mended: bool = False, full: bool = False
) -> Order:
    """Return the order to begin a life of the program."""
    return {
        "do": "live", "now": {"clock": 1000.0, "calendar": calendar_ms}, "key": bytes(KEY.verify_key).hex(),
        "firstUse": first_use, "mended": mended, "full": full,
    }  # fmt: skip


def deliver(topic: str, raw: bytes) -> Order:
    """Return the order to take a message."""
    return {"do": "receive", "topic": topic, "raw": b64encode(raw).decode()}


def node_outcomes(orders: Iterable[Order], workplace: Path) -> list[Outcome]:
    """Have the example worker do orders, one after the other; return what came of each."""
    text = "".join(f"{json.dumps(order)}\n" for order in orders)
    argv = workshop(workplace, "follow_program.mjs")
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    outcomes = [json.loads(line) for line in done.stdout.split("\n") if line]
    return [{**one, "reports": [_told(report) for report in one["reports"]]} for one in outcomes]
