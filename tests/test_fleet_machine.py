"""Hypothesis plays every fault in every order: no worker ever goes back, and once faults stop all converge.

CONFIG_DAEMON_TEST_EXAMPLES sets how many plays; the default is what CI has time for, and always the same.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.fleet import Fleet
from tests.fleet_keys import KeyCopy
from tests.fleet_laws import STT, TTS
from tests.fleet_operator import Backup

DAEMON_POINTS = (
    "after_read", "after_reserve", "after_seal", "after_send", "after_confirm", "after_status",
    "before_lkg_rename", "after_lkg",
)  # fmt: skip
KEY_POINTS = ("before_enter", "after_enter", "before_keyring", "after_keyring")
WORKER_POINTS = ("worker_after_persist", "worker_after_apply")
EXAMPLES = int(os.environ.get("CONFIG_DAEMON_TEST_EXAMPLES", "0"))

services = st.sampled_from((TTS, STT))
values = st.integers(0, 3)
voices = st.sampled_from((None, "A", "B"))
clocks = st.sampled_from(("ok", "behind"))


def up(machine: FleetMachine) -> bool:
    return machine.fleet.host.process is not None


def down(machine: FleetMachine) -> bool:
    return machine.fleet.host.process is None


def unlocked(machine: FleetMachine) -> bool:
    return not machine.fleet.locked


class FleetMachine(RuleBasedStateMachine):
    """One fleet; every step is something that people or machines do."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="fleet-")
        self.fleet = Fleet(Path(self._folder.name))
        self.backups: list[Backup] = []
        self.key_copies: list[KeyCopy] = []
        for service in (TTS, STT):
            self.fleet.commit(service, 0)
        for worker in self.fleet.workers.values():
            worker.start()
        self.fleet.start_daemon()
        self.fleet.run(1.0)

    @rule(seconds=st.sampled_from((0.05, 0.05, 0.1, 0.3, 1.0, 2.5, 11.0, 35.0)), busy=st.booleans())
    def time_passes(self, seconds: float, busy: bool) -> None:
        self.fleet.run(seconds, turn=0.05 if busy else 0.25)

    @rule(seconds=st.sampled_from((0.0, 6.0, 70.0)))
    def the_machine_is_suspended(self, seconds: float) -> None:
        self.fleet.tick(seconds)

    @precondition(unlocked)
    @rule(service=services, value=values)
    def somebody_commits(self, service: str, value: int) -> None:
        if service not in self.fleet.damaged:
            self.fleet.commit(service, value)

    @precondition(unlocked)
    @rule(service=services)
    def somebody_deletes(self, service: str) -> None:
        row = self.fleet.rows.get(service)
        if service not in self.fleet.damaged and row is not None and row.value is not None:
            self.fleet.commit(service, None)

    @rule(voice=voices)
    def somebody_edits_env(self, voice: str | None) -> None:
        self.fleet.env_edit(voice)

    @precondition(up)
    @rule()
    def the_daemon_is_killed(self) -> None:
        self.fleet.crash_daemon()

    @precondition(up)
    @rule(point=st.sampled_from(DAEMON_POINTS + KEY_POINTS))
    def the_daemon_will_die(self, point: str) -> None:
        self.fleet.laws.forgot = True
        self.fleet.host.die_at(point)

    @precondition(up)
    @rule()
    def the_daemon_is_stopped(self) -> None:
        self.fleet.stop_daemon()

    @precondition(down)
    @rule(clock=clocks, seconds=st.sampled_from((0.0, 1.0)))
    def the_daemon_starts(self, clock: str, seconds: float) -> None:
        self.fleet.start_daemon(clock)
        self.fleet.run(seconds)

    @rule(name=st.sampled_from((f"{TTS}-1", f"{STT}-1")), point=st.sampled_from((None, *WORKER_POINTS)))
    def a_worker_is_killed_or_starts(self, name: str, point: str | None) -> None:
        worker = self.fleet.workers[name]
        if not worker.up:
            worker.start()
        elif point is None:
            worker.crash()
        else:
            worker.die_at(point)

    @precondition(lambda self: len(self.fleet.workers) < 4)
    @rule(service=services)
    def a_worker_joins(self, service: str) -> None:
        self.fleet.add_worker(f"{service}-{len(self.fleet.workers)}", service).start()

    @rule()
    def the_broker_goes_down_or_comes_back(self) -> None:
        if self.fleet.server.up:
            self.fleet.server.go_down()
        else:
            self.fleet.server.up = True

    @rule(lose=st.booleans())
    def the_broker_restarts(self, lose: bool) -> None:
        if lose:
            self.fleet.wipe()
        else:
            self.fleet.server.restart()

    @rule()
    def the_broker_freezes_or_thaws(self) -> None:
        if self.fleet.server.stalled:
            self.fleet.server.resume()
        else:
            self.fleet.server.stall()

    @rule(how=st.sampled_from(("sent", "held", "dropped")), first=st.booleans())
    def confirmations_are(self, how: str, first: bool) -> None:
        self.fleet.server.acks_first = first
        self.fleet.server.release_acks()
        self.fleet.server.acks = how  # type: ignore[assignment]

    @rule(service=services, fault=st.sampled_from(("denied", "full", "swallowed")), on=st.booleans())
    def the_broker_refuses_a_topic(self, service: str, fault: str, on: bool) -> None:
        if on and fault == "swallowed":
            self.fleet.swallow(service)
            return
        topics = getattr(self.fleet.server, fault)
        (topics.add if on else topics.discard)(self.fleet.topics.config(service))

    @rule(index=st.integers(0, 1000), other=st.sampled_from((None, None, TTS, STT)))
    def an_attacker_puts_back(self, index: int, other: str | None) -> None:
        published = self.fleet.published()
        if published:
            self.fleet.put_back(published[index % len(published)], other)

    @rule(index=st.integers(0, 1000), retained=st.booleans())
    def an_attacker_plays_a_beacon(self, index: int, retained: bool) -> None:
        server, topic = self.fleet.server, self.fleet.topics.beacon
        beacons = [one.raw for one in server.written if one.topic == topic]
        if beacons:
            server.write(topic, beacons[index % len(beacons)] if retained else b"")

    @rule(index=st.integers(0, 1000), service=services)
    def an_attacker_shows_a_config_as_evidence(self, index: int, service: str) -> None:
        published, server = self.fleet.published(), self.fleet.server
        if published and server.up:
            stranger = server.connect("stranger")
            stranger.show(
                self.fleet.topics.evidence(service, "x"),
                server.written[published[index % len(published)]].raw,
            )
            stranger.drop()

    @rule(service=services, raw=st.sampled_from((b"", b"garbage", b"{}")))
    def an_attacker_defaces(self, service: str, raw: bytes) -> None:
        self.fleet.deface(service, raw)

    @rule(full=st.booleans())
    def the_disk_fills_or_is_freed(self, full: bool) -> None:
        self.fleet.host.disk_full = full

    @precondition(down)
    @rule()
    def the_lkg_is_lost(self) -> None:
        self.fleet.lose_lkg()

    @precondition(down)
    @rule()
    def the_marks_are_lost(self) -> None:
        self.fleet.lose_marks()

    @precondition(lambda self: unlocked(self) and not self.fleet.damaged and len(self.backups) < 3)
    @rule()
    def somebody_backs_up(self) -> None:
        self.backups.append(self.fleet.backup())

    @precondition(lambda self: unlocked(self) and self.backups)
    @rule(index=st.integers(0, 2))
    def somebody_restores(self, index: int) -> None:
        self.fleet.restore_database(self.backups[index % len(self.backups)])

    @precondition(lambda self: up(self) and self.fleet.host.held - {"disk-full"} and unlocked(self))
    @rule()
    def somebody_adopts(self) -> None:
        self.fleet.adopt()

    @rule()
    def somebody_locks_or_unlocks_the_database(self) -> None:
        if self.fleet.locked:
            self.fleet.unlock_database()
        else:
            self.fleet.lock_database()

    @precondition(unlocked)
    @rule(service=services, value=values)
    def somebody_edits_a_row_by_hand(self, service: str, value: int) -> None:
        row = self.fleet.rows.get(service)
        if row is not None and row.value is not None and row.value != value:
            self.fleet.edit_row_by_hand(service, value)

    @precondition(lambda self: unlocked(self) and self.fleet.damaged)
    @rule()
    def somebody_adopts_a_row(self) -> None:
        self.fleet.adopt_row(next(iter(self.fleet.damaged)))

    @precondition(lambda self: not self.fleet.holder.staged)
    @rule(backed_up=st.booleans())
    def somebody_stages_a_key(self, backed_up: bool) -> None:
        self.fleet.holder.stage(backed_up=backed_up)

    @precondition(lambda self: up(self) and self.fleet.holder.staged)
    @rule()
    def somebody_activates_it(self) -> None:
        self.fleet.activate()

    @precondition(
        lambda self: up(self) and self.fleet.holder.may_retire(self.fleet.process.parts.identity.key_id)
    )
    @rule()
    def somebody_retires_the_old_key(self) -> None:
        self.fleet.holder.retire_old()

    @rule(index=st.integers(0, 3))
    def somebody_revokes_a_key(self, index: int) -> None:
        listed = sorted(self.fleet.holder.held.config_ids)
        self.fleet.holder.revoke(self.fleet.holder.keys[listed[index % len(listed)]])

    @precondition(lambda self: not self.fleet.holder.roots)
    @rule()
    def somebody_splits_the_root(self) -> None:
        self.fleet.holder.split_root()

    @precondition(lambda self: len(self.key_copies) < 3)
    @rule()
    def somebody_backs_up_the_keys(self) -> None:
        self.key_copies.append(self.fleet.holder.copy())

    @precondition(lambda self: down(self) and self.key_copies)
    @rule(index=st.integers(0, 2))
    def somebody_restores_keys(self, index: int) -> None:
        self.fleet.lose_marks()  # keyrings go only with the host
        self.fleet.holder.restore(self.key_copies[index % len(self.key_copies)])

    @rule(index=st.integers(0, 1000), how=st.sampled_from(("newest", "number", "evidence", "wiped")))
    def an_attacker_plays_a_keyring(self, index: int, how: str) -> None:
        server, topics = self.fleet.server, self.fleet.topics
        rings = [one.raw for one in server.written if "/trust/keyring" in one.topic and one.raw]
        if not rings or not server.up:
            return
        if how == "evidence":
            stranger = server.connect("stranger")
            stranger.show(topics.keyring_evidence("x"), rings[index % len(rings)])
            stranger.drop()
        else:
            topic = topics.keyring_number(index % 7) if how == "number" else topics.keyring
            server.write(topic, b"" if how == "wiped" else rings[index % len(rings)])

    def teardown(self) -> None:
        try:
            self.fleet.settle()
        finally:
            self.fleet.close()
            self._folder.cleanup()


TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(
    max_examples=EXAMPLES or 40,
    stateful_step_count=40 if EXAMPLES else 25,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),  # explaining traces every line: minutes for each failure
    suppress_health_check=list(HealthCheck),
)
