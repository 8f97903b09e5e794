"""What must be true at every moment of a simulated fleet, and the history that says so.

Laws: nothing here asks the daemon; messages are judged when they leave it, configs when a worker's
program gets them. A broken law raises at once, so that the trace ends where it broke.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from config_daemon.catalog.catalog import Catalog
from config_daemon.core.health import CONDITIONS
from config_daemon.core.modes import mode_of
from config_daemon.wire.keyring import KEYRING
from config_daemon.worker.report import Report
from tests.arrows import MODE_ARROWS, STATUS_ARROWS
from tests.fleet_host import Host
from tests.fleet_worker import FakeWorker

TTS, STT = "tts-worker", "stt-worker"
KEY = {TTS: "volume_percent", STT: "vad_silence_duration_ms"}
ENV_SERVICE, ENV_KEY, ENV_NAME = TTS, "piper_voice", "TTS_WORKER__PIPER_VOICE"
HOLDS = tuple(name for name, kind in CONDITIONS.items() if kind.holds)


@cache
def _catalog() -> Catalog:
    return Catalog.load()


class Stored(NamedTuple):
    """A row as an operator knows it: its version, and its value (None: deleted)."""

    version: int
    value: int | None


@dataclass
class Laws:
    """Everything that was ever committed, and what was said so far."""

    catalog: Catalog = field(default_factory=_catalog)
    committed: set[tuple[str, Stored]] = field(default_factory=set)
    voices: set[str | None] = field(default_factory=lambda: {None})
    numbers: dict[tuple[str, int | str, int], bytes] = field(default_factory=dict)
    contents: dict[tuple[str, str, int], Any] = field(default_factory=dict)
    forgot: bool = False  # a daemon lost what it knew of its last seals
    hid: bool = False  # the broker lost, or was robbed of, what it held
    may_rebuild: bool = False  # somebody asked for it
    numbers_may_repeat: bool = False  # marks were lost, and a clock may be behind
    purged: set[str] = field(default_factory=set)  # topics of services that somebody purged
    reached: dict[str, tuple[int, int]] = field(default_factory=dict)
    revoked: dict[str, set[str]] = field(default_factory=dict)
    said: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    arrows: set[tuple[str, str]] = field(default_factory=set)  # how status and mode changed in health

    def effective(self, service: str, value: int, voice: str | None) -> dict[str, Any]:
        """Return the whole config that a row and `.env` make together."""
        definition = self.catalog.get(service)
        assert definition is not None
        fixed = {ENV_KEY: voice} if service == ENV_SERVICE and voice is not None else {}
        return definition.effective({KEY[service]: value, **fixed})

    def sent(self, host: Host, topic: str, raw: bytes) -> None:
        """A daemon signed something and sends it, or leaves it as its will; or it clears a topic."""
        if not raw:
            assert topic in self.purged, f"{topic} is cleared, and nobody asked for it"
            assert not host.held, f"{topic} is cleared although {host.held} holds"
            return
        body = json.loads(raw)
        if "/trust/keyring" in topic:
            assert not host.held, f"{topic} is published although {host.held} holds"
            return
        assert body["key_id"] in host.listed, f"{body['key_id']} signed {topic}, and no keyring lists it"
        own = body.get(
            "number", body["sequence"]
        )  # a convergence message's `sequence` is that of another one
        known = self.numbers.setdefault(
            (host.name, body["key_id"] if "number" in body else body["generation"], own), raw
        )
        assert known == raw or self.numbers_may_repeat, (
            f"number {own} carries two contents:\n{known!r}\n{raw!r}"
        )
        if "/health/" in topic:
            self._judge_health(host, body)
        else:
            assert not host.held, f"{topic} is published although {host.held} holds"
            if "/config/" in topic:
                self._judge_lineage(body)

    def applied(self, worker: FakeWorker, values: Any) -> None:
        """A worker's program was given a config."""
        stored = [row for service, row in self.committed if service == worker.service]
        assert self._makes(worker.service, stored, values), (
            f"{worker.name} applied what nobody committed: {values}"
        )

    def reported(self, worker: FakeWorker, report: Report) -> None:
        """A worker said what became of a message."""
        if report.state != "applied" or report.generation is None or report.sequence is None:
            return
        place, number = f"{worker.name} {report.service}", (report.generation, report.sequence)
        before = self.reached.get(place, (0, 0))
        assert number >= before, f"{place} went back from {before} to {number}"
        self.reached[place] = number
        if report.service == KEYRING:
            revoked = worker.trust.keyring.revoked.keys()
            assert revoked >= self.revoked.get(worker.name, set()), (
                f"{worker.name} believes a revoked key again"
            )
            self.revoked[worker.name] = set(revoked)
            return
        stored = [
            row
            for service, row in self.committed
            if service == worker.service and row.version == report.config_version
        ]
        assert self._makes(worker.service, stored, worker.running), (
            f"{worker.name} calls version {report.config_version} what nobody committed as such: {worker.running}"
        )

    def _makes(self, service: str, stored: list[Stored], values: Any) -> bool:
        return any(
            values == self.effective(service, row.value, voice)
            for row in stored
            if row.value is not None
            for voice in (self.voices if service == ENV_SERVICE else {None})
        )

    def _judge_lineage(self, body: dict[str, Any]) -> None:
        """Within an epoch a version has one content: else a commit was overwritten and nobody was asked."""
        place = (body["config_epoch"], body["service"], body["config_version"])
        if body["service"] not in KEY:
            return  # one that a test defined for itself: the model may change under a version
        stored = body["config"].get(KEY[body["service"]])
        known = self.contents.setdefault(place, stored)
        assert known == stored or self.forgot, f"{place} was {known} and is {stored} now"

    def _judge_health(self, host: Host, health: dict[str, Any]) -> None:
        status, mode = health["database_status"], health["operational_mode"]
        names = {condition["name"] for condition in health["conditions"]}
        rebuilding = mode == "rebuilding" and self.may_rebuild
        assert mode == mode_of(status, bool(names & set(HOLDS)), rebuilding), health
        critical = any(condition["severity"] == "critical" for condition in health["conditions"])
        assert not (health["ok"] and (status != "healthy" or mode != "normal" or critical)), health
        before = self.said.get(host.name)
        if before is not None and before[0] == health["session"]:
            assert before[1] == status or (before[1], status) in STATUS_ARROWS, (before, health)
            assert before[2] == mode or (before[2], mode) in MODE_ARROWS, (before, health)
            self.arrows |= {pair for pair in ((before[1], status), (before[2], mode)) if pair[0] != pair[1]}
        self.said[host.name] = (health["session"], status, mode)
