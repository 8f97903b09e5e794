"""What a run left behind: the driver's notes, acknowledged writes, what workers said, what was heard.

Laws: a line that a killed process left unfinished counts as never written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.faults.checker import wire
from tools.faults.checker.ear import Heard

Place = tuple[int, int]


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole JSON lines of a file; nothing when there is none."""
    with contextlib.suppress(FileNotFoundError):
        for text in path.read_text(errors="replace").split("\n")[:-1]:
            with contextlib.suppress(ValueError):
                found = json.loads(text)
                if isinstance(found, dict):
                    yield found


@dataclass
class Sealed:
    """A verified message with the time and the topic of its coming."""

    heard: Heard
    message: wire.Message


@dataclass
class Worker:
    """What one worker said: starts, what it applied, reports, in order."""

    name: str
    said: list[dict[str, Any]]

    def place(self, service: str) -> Place | None:
        """Return the last message that it applied, or whose deletion it took."""
        return next((place_of(one) for one in reversed(self.said) if has_taken(one, service)), None)


def has_taken(report: dict[str, Any], service: str) -> bool:
    """Tell whether a line says that a service's message was applied."""
    return report.get("service") == service and report.get("state") in ("applied", "deleted")


def place_of(report: dict[str, Any]) -> Place:
    """Return what orders the message of a report."""
    return report["generation"] or 0, report["sequence"] or 0


@dataclass
class Record:
    """Everything about a run; made anew for each look."""

    spec: dict[str, Any]
    notes: list[dict[str, Any]]
    acks: list[dict[str, Any]]
    workers: list[Worker]
    sealed: list[Sealed] = field(default_factory=list)
    theirs: set[str] = field(default_factory=set)

    @property
    def configs(self) -> list[Sealed]:
        """Return the daemon's own config messages, as they came on config topics."""
        return [
            one for one in self.sealed
            if one.message.kind == "config" and one.heard.topic.split("/")[1] == "config"
            and hashlib.sha256(one.heard.raw).hexdigest() not in self.theirs
        ]  # fmt: skip

    def highest(self, service: str) -> Place:
        """Return the highest number that anybody saw for a service."""
        heard = [one.message.place for one in self.configs if one.message.body["service"] == service]
        taken = [worker.place(service) for worker in self.workers]
        return max([*heard, *filter(None, taken)], default=(0, 0))


def gather(spec: dict[str, Any], heard: list[Heard]) -> Record:
    """Read everything that there is by now."""
    notes = sorted(lines(Path(spec["notes"])), key=lambda note: note["at"])
    acks = [line for path in sorted(Path(spec["acks"]).glob("*.jsonl")) for line in lines(path)]
    workers = [Worker(name, list(lines(Path(path)))) for name, path in spec["workers"].items()]
    record = Record(spec, notes, acks, workers)
    record.theirs = {note["sha256"] for note in notes if note["kind"] == "theirs"}
    keys = keys_of(spec, heard)
    for one in heard:
        with contextlib.suppress(wire.Forged, ValueError, KeyError):
            record.sealed.append(Sealed(one, wire.unseal(one.topic, one.raw, keys)))
    return record


def keys_of(spec: dict[str, Any], heard: list[Heard]) -> dict[str, set[bytes]]:
    """Return all keys that were ever believed, by role: each keyring is signed by a root of an earlier one."""
    first = {bytes.fromhex(key) for key in spec["keys"]}
    keys: dict[str, set[bytes]] = defaultdict(set, root=set(first), config=set(first))
    known = -1
    while known != len(keys["root"]) + len(keys["config"]):
        known = len(keys["root"]) + len(keys["config"])
        for one in heard:
            if wire.kind_of(one.topic) != "keyring":
                continue
            with contextlib.suppress(wire.Forged, ValueError, KeyError):
                for key in wire.unseal(one.topic, one.raw, keys).body["keys"]:
                    for role in key["roles"]:
                        keys[role].add(bytes.fromhex(key["public_key"]))
    return keys
