"""A whole fleet in one thread: the real daemon, the real trust, real SQLite; broker, network and clock are made up.

Laws: every fault is a method; time passes only in `tick`; the laws of `fleet_laws` are watched all the
time; `settle` ends all faults, does what an operator would, and fails unless everything converges.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from config_daemon.errors import RejectedUpdate
from config_daemon.store.status import StatusView
from config_daemon.wire.messages import CONFIG_UPDATE, ConfigUpdate, parse_update
from config_daemon.wire.sealing import unseal
from config_daemon.wire.tail import TAIL_BYTES
from config_daemon.wire.topics import Topics
from tests.fakes import FakeClock, FakeServer
from tests.fleet_host import Host, Process
from tests.fleet_keys import KeyHolder
from tests.fleet_laws import KEY, STT, TTS, Laws
from tests.fleet_operator import Operator
from tests.fleet_worker import FakeWorker

TURN_SECONDS = 0.05
YEARS_BEHIND_MS = -50 * 365 * 86_400_000


class Fleet(Operator):
    """One daemon and two workers; more of both on demand."""

    def __init__(self, folder: Path) -> None:
        # processes die here and power never fails, so nothing that was written is lost for want of a sync
        self._syncing = patch("os.fsync", lambda _descriptor: None)
        self._syncing.start()
        self.folder, self.clock, self.server, self.laws = folder, FakeClock(), FakeServer(), Laws()
        self.topics = Topics()
        super().__init__(Host(folder / "data", self.server, self.clock, self.laws.sent), self.laws)
        self.holder = KeyHolder(self.host)
        self.workers: dict[str, FakeWorker] = {}
        for service in (TTS, STT):
            self.add_worker(f"{service}-1", service)

    @classmethod
    def settled(cls, folder: Path) -> Fleet:
        """Return a fleet that has converged: two services, a worker for each, last-known-good written."""
        fleet = cls(folder)
        fleet.commit(TTS, 10)
        fleet.commit(STT, 20)
        for worker in fleet.workers.values():
            worker.start()
        fleet.start_daemon()
        fleet.settle(turn=1.0)  # every time the same; who settles it again looks closer
        return fleet

    def start_daemon(self, clock: str = "ok") -> None:
        """Start the daemon; with `behind` this machine believes in a year long past."""
        self.clock.error_ms = YEARS_BEHIND_MS if clock == "behind" else 0
        self.host.start()

    def stop_daemon(self) -> None:
        """Stop it politely."""
        self.host.stop()

    def crash_daemon(self) -> None:
        """Kill it: what was not on disk is gone."""
        self.laws.forgot = True
        self.host.crash()

    def crash_daemon_at(self, failpoint: str, seconds: float = 30.0) -> None:
        """Let it run into a failpoint; fail when it never gets there."""
        self.laws.forgot = True
        self.host.die_at(failpoint)
        self.run(seconds)
        assert self.host.process is None, f"the daemon never came to {failpoint}"

    def wipe(self) -> None:
        """Have the broker restart without what it retained."""
        self.laws.hid = True
        self.server.wipe()

    def put_back(self, index: int, service: str | None = None) -> None:
        """Have an attacker write a config again that was published once; on another topic when one is named."""
        self.laws.hid = True
        message = self.server.written[index]
        self.server.write(self.topics.config(service) if service else message.topic, message.raw)

    def deface(self, service: str, raw: bytes) -> None:
        """Have an attacker write something over a config; empty bytes clear the topic."""
        self.laws.hid = True
        self.server.write(self.topics.config(service), raw)

    def swallow(self, service: str) -> None:
        """Have the broker confirm a config and neither keep it nor pass it on."""
        self.laws.hid = True
        self.server.swallowed.add(self.topics.config(service))

    def published(self, service: str | None = None) -> list[int]:
        """Return where in the server's memory the configs are that were ever published."""
        wanted = {self.topics.config(name) for name in ([service] if service else KEY)}
        return [
            index
            for index, message in enumerate(self.server.written)
            if message.topic in wanted and message.raw and message.writer
        ]

    def tick(self, seconds: float = TURN_SECONDS) -> None:
        """Let time pass; the daemon ticks, then every worker takes what came."""
        self.host.tick(seconds)
        for worker in self.workers.values():
            worker.run()

    def run(self, seconds: float, turn: float = TURN_SECONDS) -> None:
        """Tick for a while."""
        until = self.clock.seconds + seconds
        while self.clock.seconds < until:
            self.tick(turn)

    def until(self, look: Callable[[], object]) -> None:
        """Tick until `look` says yes, and not once more."""
        for _ in range(400):
            if look():
                return
            self.tick()
        raise AssertionError(f"not within {400 * TURN_SECONDS:.0f} s; {self.differences()}")

    def until_voice(self, voice: str) -> None:
        """Tick until the broker retains this value of `.env`."""
        self.until(lambda: self.shown(TTS).config["piper_voice"] == voice)

    def run_beside(self, other: Host, seconds: float) -> None:
        """Tick for a while, together with another host's daemon."""
        until = self.clock.seconds + seconds
        while self.clock.seconds < until:
            self.tick()
            other.tick(0.0)

    def adopt(self) -> None:
        """Run `adopt --db`."""
        self.ask("adopt", what="db")

    def purge(self, service: str) -> tuple[str, dict[str, Any]]:
        """Run `purge`."""
        self.laws.purged.add(self.topics.config(service))
        return self.ask("purge", service=service)

    def activate(self) -> None:
        """Run `keys rotate --activate`."""
        self.ask("activate-key")

    def ask(self, kind: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
        """Leave a request, and let the daemon answer it, unless it dies meanwhile; to rebuild is insisted on."""
        arguments = {"force": True, **arguments} if kind == "rebuild" else arguments
        if kind in ("rebuild", "restore") or arguments.get("what") == "lkg":
            self.laws.may_rebuild = True
        request = self.host.files.requests / f"{uuid.uuid4()}.json"
        content = {"kind": kind, "by": "operator", "arguments": arguments}
        beside = request.with_name(f".{request.name}")
        beside.write_text(json.dumps(content))
        beside.replace(request)
        self.host.hint("requests")
        for _ in range(20):
            self.tick()
            if not request.exists() or self.host.process is None:
                return StatusView(self.host.files.status).answer(request.stem) or ("", {})
        raise AssertionError("the daemon does not answer the request")

    def settle(self, evidence: bool = True, turn: float = 0.25) -> None:
        """End all faults, do what an operator would, and run until everything has converged and stays so.

        Without `evidence` a worker may stay where only its own evidence would help: it holds a message
        that the daemon forgot and the broker hides (trace V3). Whether it stays so is looked at every `turn` seconds
        at first, and every second later.
        """
        self._end_faults()
        for short in _turns():
            self.tick(short)
            if self.host.held & {"not-the-newest", "foreign-state"}:
                self.adopt()
            if "keyring-unmerged" in self.host.held:
                self.holder.merge()
            if self.host.held & {"keyring-missing", "key-unlisted"}:
                self.holder.put_back()
            if self.converged(evidence):
                break
        assert self.converged(evidence), self.differences(evidence)
        self.run(15.0, turn)
        self.run(75.0, max(turn, 1.0))  # only what has a longer interval can happen yet
        assert self.converged(evidence), f"it does not stay so: {self.differences(evidence)}"

    def _end_faults(self) -> None:
        server = self.server
        server.up = True
        server.resume()
        server.release_acks()
        if server.swallowed | server.secret:
            server.restart()  # who mends such a broker restarts it
        for faulty in (server.denied, server.secret, server.full, server.swallowed):
            faulty.clear()
        self.host.disk_full = False
        self.host.spare()
        self.unlock_database()
        for service in list(self.damaged):
            self.adopt_row(service)
        if self.host.process is None:
            self.start_daemon("behind")
        for worker in self.workers.values():
            worker.spare()
            if not worker.up:
                worker.start()

    @property
    def process(self) -> Process:
        """Return the running daemon."""
        assert self.host.process is not None, "the daemon does not run"
        return self.host.process

    @property
    def health(self) -> dict[str, object]:
        """Return the health that is retained; empty when there is none."""
        return dict(json.loads(self.server.retained.get(self.topics.health("config-daemon"), b"{}")))

    @property
    def conditions(self) -> set[str]:
        """Return the names of the daemon's open conditions."""
        return {condition.name for condition in self.process.findings}

    def retained(self, service: str) -> ConfigUpdate | None:
        """Return the config that the broker retains for a service, None unless our key signed it."""
        try:
            raw = self.server.retained.get(self.topics.config(service), b"")
            return parse_update(unseal(raw, CONFIG_UPDATE, self.holder.ever)[0])[0]
        except RejectedUpdate:
            return None

    def shown(self, service: str) -> ConfigUpdate:
        """Return the config that the broker retains for a service; fail when there is none of ours."""
        update = self.retained(service)
        assert update is not None, f"the broker retains no config of {service} that our key signed"
        return update

    def converged(self, evidence: bool = True) -> bool:
        """Tell whether broker and workers hold what is wanted, and the daemon says that all is well."""
        return not self.differences(evidence)

    def differences(self, evidence: bool = True) -> list[str]:
        """Return in what the fleet is not yet as it should be; nothing when it has converged."""
        excused = not evidence and self.laws.forgot and self.laws.hid
        return [*self._differences_at_the_broker(), *self._differences_at_the_workers(excused)]

    def _differences_at_the_broker(self) -> Iterator[str]:
        if self.host.process is None:
            yield "the daemon does not run"
            return
        if not self.health.get("ok"):
            yield f"health is not ok: {self.health}"
        for service, row in self.rows.items():
            entry = self.process.parts.plan.services.get(service)
            raw = self.server.retained.get(self.topics.config(service), b"")
            if entry is None or entry.sealed is None or raw != entry.sealed.read():
                yield f"the broker does not hold the newest bytes of {service}: {raw!r}"
                continue
            update = self.retained(service)
            wanted = (row.version, self.expected(service) or {})
            if update is None or (update.config_version, update.config) != wanted:
                yield f"{service} should be version {row.version}, {self.expected(service)}, and is {update}"

    def _differences_at_the_workers(self, excused: bool) -> Iterator[str]:
        for worker in self.workers.values():
            if worker.service not in self.rows:
                continue
            expected = self.expected(worker.service)
            if self._knows_more(worker):
                if not excused:
                    yield f"{worker.name} holds a message that the broker's is not above"
                continue
            if expected is None and worker.state != "deleted":
                yield f"{worker.name} did not see that {worker.service} is deleted: {worker.reports[-1:]}"
            if expected is not None and worker.running != expected:
                last = worker.reports[-1:]
                yield f"{worker.name} runs {worker.running} instead of {expected}; its last word: {last}"

    def _knows_more(self, worker: FakeWorker) -> bool:
        """Tell whether a worker accepted a message that the broker's is not above."""
        raw = self.server.retained.get(self.topics.config(worker.service), b"")
        update, floor = self.retained(worker.service), worker.floor
        if update is None or floor is None:
            return False
        same = floor.body_sha256 == hashlib.sha256(raw[:-TAIL_BYTES] + b"}").hexdigest()
        return floor[:2] >= (update.generation, update.sequence) and not same

    def add_worker(self, name: str, service: str) -> FakeWorker:
        """Install one more worker; it is not started."""
        folder = self.folder / f"state-{name}"
        worker = FakeWorker(
            folder,
            name,
            service,
            self.holder.first,
            self.server,
            self.clock,
            self.laws.applied,
            self.laws.reported,
        )
        self.workers[name] = worker
        return worker

    def close(self) -> None:
        """End everything."""
        self.host.crash()
        self.unlock_database()
        self.close_writer()
        self._syncing.stop()


def _turns() -> Iterator[float]:
    """Yield turns for five minutes: short ones first, longer ones for what backs off."""
    yield from (TURN_SECONDS for _ in range(60))
    yield from (0.25 for _ in range(60))
    yield from (1.0 for _ in range(280))
