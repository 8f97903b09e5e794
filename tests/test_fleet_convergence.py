"""What the daemon makes of what workers say, in a whole fleet: who counts, as what, and that nobody can make it lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from config_daemon.daemon import statuses
from config_daemon.store.edgeboard import EdgeView
from config_daemon.store.workers import add, remove
from config_daemon.wire.convergence import CONVERGENCE, Convergence, parse_convergence
from config_daemon.wire.sealing import unseal
from config_daemon.wire.status import MAX_STATUS_BYTES, Status
from config_daemon.wire.workerkeys import WorkerKeys
from tests.fleet import Fleet
from tests.fleet_host import by_hand
from tests.fleet_laws import STT, TTS
from tests.fleet_worker import FakeWorker

TTS_WORKER, STT_WORKER = f"{TTS}-1", f"{STT}-1"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose two workers are expected, and have said so."""
    with closing(Fleet.settled(tmp_path)) as made:
        for name in (TTS_WORKER, STT_WORKER):
            expect(made, made.workers[name])
        made.until(lambda: told(made).get("applied") == 1)
        yield made


def expect(fleet: Fleet, worker: FakeWorker, keys: WorkerKeys | None = None, replace: bool = False) -> None:
    public = (keys or worker.keys).public
    fleet.writer().change_workers(
        lambda db, deed: add(db, deed, public, [worker.service], replace), by="operator", reason=None
    )


def dismiss(fleet: Fleet, name: str) -> None:
    fleet.writer().change_workers(lambda db, deed: remove(db, deed, name), by="operator", reason=None)


def sent(fleet: Fleet, service: str = TTS) -> list[Convergence]:
    """Return all convergence messages about a service, each verified as the daemon's."""
    keys = fleet.process.parts.identity.keyring.config_keys
    return [
        parse_convergence(unseal(one.raw, CONVERGENCE, keys)[0])
        for one in fleet.server.written
        if one.topic == fleet.topics.convergence(service) and one.writer
    ]


def told(fleet: Fleet, service: str = TTS) -> dict[str, Any]:
    """Return what is retained about a service, and the state of its one laggard under `state`."""
    raw = fleet.server.retained.get(fleet.topics.convergence(service))
    if raw is None:
        return {}
    found = parse_convergence(unseal(raw, CONVERGENCE, fleet.process.parts.identity.keyring.config_keys)[0])
    return found.model_dump() | {"state": [(one.worker, one.state, one.reason) for one in found.worst]}


def line(fleet: Fleet, worker: str = TTS_WORKER) -> Any:
    return next((one for one in EdgeView(fleet.host.files.status).workers() if one.worker == worker), None)


def said(fleet: Fleet, worker: FakeWorker) -> list[tuple[str, bytes]]:
    """Return all statuses that a worker ever published."""
    topic = fleet.topics.status(worker.service, worker.name)
    return [(one.topic, one.raw) for one in fleet.server.written if one.topic == topic]


def test_a_new_version_converges_and_says_how_long_it_took(fleet: Fleet) -> None:
    version = fleet.shown(TTS).config_version
    fleet.commit(TTS, 11)
    fleet.until(lambda: told(fleet)["config_version"] == version + 1 and told(fleet)["converged"])
    found = told(fleet)
    assert (found["total"], found["applied"], found["sequence"]) == (1, 1, fleet.shown(TTS).sequence)
    assert 0 <= found["converged_ms"] < 5000
    assert line(fleet).status["running"]["config_version"] == version + 1
    assert line(fleet).response_time_ms is not None


def test_a_refusal_is_told_with_its_reason_and_stays_until_something_else_is_applied(fleet: Fleet) -> None:
    fleet.workers[TTS_WORKER].bears = lambda values: values["volume_percent"] != 13
    fleet.commit(TTS, 13)
    fleet.until(lambda: told(fleet)["state"] == [(TTS_WORKER, "rejected", "invalid")])
    fleet.run(120.0, turn=1.0)
    assert (told(fleet)["rejected"], line(fleet).state) == (1, "rejected")
    fleet.commit(TTS, 14)
    fleet.until(lambda: told(fleet)["converged"])


def test_trace_v23_an_old_good_word_hides_no_later_bad_one(fleet: Fleet) -> None:
    """The broker replays "applied" over "rejected": before a restart of the daemon, and after it."""
    worker = fleet.workers[TTS_WORKER]
    worker.bears = lambda values: values["volume_percent"] != 13
    fleet.commit(TTS, 13)
    fleet.until(lambda: told(fleet)["rejected"] == 1)
    keys, now = worker.keys, line(fleet).status
    target = fleet.shown(TTS)
    good = Status.model_validate(now, strict=False).model_copy(  # as it would have said, had it applied this before
        update={
            "n": now["n"] - 1, "last_attempt": None,
            "running": Status.model_validate(now, strict=False).running.model_copy(  # type: ignore[union-attr]
                update={"sequence": target.sequence, "generation": target.generation}
            ),
        }
    )  # fmt: skip
    topic = fleet.topics.status(TTS, worker.name)
    fleet.server.write(topic, keys.sign(good))
    fleet.run(5.0)
    assert (told(fleet)["applied"], told(fleet)["rejected"]) == (0, 1)
    worker.crash()
    fleet.crash_daemon()
    fleet.start_daemon()
    fleet.server.write(topic, keys.sign(good))
    fleet.run(30.0)
    assert told(fleet)["applied"] == 0
    assert line(fleet).order == (now["boot"], now["n"])


def test_without_its_memory_the_daemon_takes_the_first_word_that_is_signed(fleet: Fleet) -> None:
    fleet.crash_daemon()
    for path in fleet.host.folder.glob("status.db*"):
        path.unlink()
    fleet.start_daemon()
    fleet.until(lambda: line(fleet) is not None and line(fleet).state == "applied")


def test_a_restart_of_the_daemon_makes_nobody_stale(fleet: Fleet) -> None:
    before = len(sent(fleet))
    fleet.stop_daemon()
    fleet.start_daemon()
    fleet.run(20.0)
    assert all(one.applied == 1 for one in sent(fleet)[before:])
    assert line(fleet).state == "applied"


@pytest.mark.parametrize(("ends", "state"), [("crash", "offline"), ("stop", "offline")])
def test_who_left_counts_as_applied_while_its_word_is_fresh_and_then_as_gone(
    fleet: Fleet, ends: str, state: str
) -> None:
    getattr(fleet.workers[TTS_WORKER], ends)()
    fleet.run(10.0, turn=1.0)
    assert line(fleet).presence == "offline"
    assert line(fleet).presence_at is not None
    assert told(fleet)["applied"] == 1
    fleet.run(90.0, turn=1.0)
    assert told(fleet)["state"] == [(TTS_WORKER, state, None)]


def test_who_runs_counts_without_a_gap_beacon_after_beacon_and_over_a_restart(fleet: Fleet) -> None:
    before = len(sent(fleet))
    fleet.run(400.0, turn=0.5)
    fleet.crash_daemon()
    fleet.start_daemon()
    for _ in range(4):  # each has a beacon of its own follow at once
        fleet.run(2.0)
        fleet.process.parts.beacons.hurry()
    fleet.run(200.0, turn=0.5)
    assert [one.worst for one in sent(fleet)[before:] if one.total and not one.applied] == []


def test_who_has_just_started_waits_for_its_first_beacon_and_who_sees_none_is_stale(fleet: Fleet) -> None:
    fleet.server.secret.add(fleet.topics.beacon)
    fleet.workers[TTS_WORKER].crash()
    fleet.workers[TTS_WORKER].start()
    fleet.run(5.0)
    assert told(fleet)["state"] == [(TTS_WORKER, "pending", None)]
    fleet.run(100.0, turn=1.0)
    assert told(fleet)["state"] == [(TTS_WORKER, "stale", None)]


def test_who_says_nothing_is_silent_after_three_minutes(fleet: Fleet) -> None:
    worker = fleet.workers.pop(TTS_WORKER)  # it stays connected and does nothing any more
    fleet.run(170.0, turn=1.0)
    assert told(fleet)["silent"] == 0
    fleet.run(20.0, turn=1.0)
    assert (told(fleet)["silent"], line(fleet).state) == (1, "silent")
    fleet.workers[TTS_WORKER] = worker
    fleet.until(lambda: told(fleet)["applied"] == 1)


def test_who_is_kept_on_old_beacons_is_stale(fleet: Fleet) -> None:
    worker = fleet.workers[TTS_WORKER]
    fleet.server.secret.add(fleet.topics.beacon)
    fleet.run(200.0, turn=1.0)
    assert told(fleet)["state"] == [(TTS_WORKER, "stale", None)]
    assert worker.running == fleet.expected(TTS)
    fleet.server.secret.clear()
    fleet.server.restart()
    fleet.settle()
    assert told(fleet)["applied"] == 1


def test_a_presence_that_somebody_forged_is_outdone_by_the_next_word(fleet: Fleet) -> None:
    fleet.workers[TTS_WORKER].bears = lambda values: values["volume_percent"] != 13
    fleet.server.write(fleet.topics.presence(TTS_WORKER), b"offline")
    fleet.run(5.0)
    assert (told(fleet)["applied"], line(fleet).presence) == (1, "offline")
    fleet.commit(TTS, 13)
    fleet.run(5.0)
    assert (told(fleet)["rejected"], line(fleet).presence) == (1, "")


def test_a_withdrawn_config_converges_too(fleet: Fleet) -> None:
    before = told(fleet)["sequence"]
    fleet.commit(TTS, None)
    fleet.until(lambda: told(fleet)["sequence"] > before and told(fleet)["converged"])
    assert fleet.workers[TTS_WORKER].state == "deleted"


# who is expected ----------------------------------------------------------------------------------


def test_a_worker_without_a_row_is_seen_and_never_counted(fleet: Fleet) -> None:
    late = fleet.add_worker("late", TTS)
    late.start()
    fleet.run(30.0)
    assert told(fleet)["total"] == 1
    assert (line(fleet, "late").expected, line(fleet, "late").status, line(fleet, "late").seen_at is None) == (
        False, {}, False,
    )  # fmt: skip
    before = len(said(fleet, late))
    expect(fleet, late)
    fleet.run(2.0)
    assert len(said(fleet, late)) == before, "what it said before counts: it is asked for again"
    assert (told(fleet)["total"], told(fleet)["applied"]) == (2, 2)
    assert line(fleet, "late").expected


def test_who_is_removed_counts_no_more_and_the_last_one_is_told_once(fleet: Fleet) -> None:
    dismiss(fleet, TTS_WORKER)
    fleet.until(lambda: told(fleet)["total"] == 0)
    before = len(sent(fleet))
    fleet.run(100.0, turn=1.0)
    assert (len(sent(fleet)), told(fleet)["converged"]) == (before, False)
    assert not line(fleet).expected
    assert EdgeView(fleet.host.files.status).convergence(TTS) == {}


def test_a_row_that_was_altered_expects_nobody_and_is_told(fleet: Fleet) -> None:
    by_hand(fleet.host.files.database, f"UPDATE workers SET added_by = 'me' WHERE worker = '{TTS_WORKER}'")  # noqa: S608
    fleet.until(lambda: told(fleet)["total"] == 0)
    assert fleet.conditions == {"worker-row-altered"}
    expect(fleet, fleet.workers[TTS_WORKER], replace=True)
    fleet.until(lambda: told(fleet)["applied"] == 1)
    assert fleet.conditions == set()


def test_other_keys_for_a_name_begin_a_new_count(fleet: Fleet) -> None:
    worker, new = fleet.workers[TTS_WORKER], WorkerKeys(TTS_WORKER, b"\x07" * 32, b"\x08" * 32)
    expect(fleet, worker, new, replace=True)
    fleet.until(lambda: told(fleet)["pending"] == 1)
    fleet.run(185.0, turn=1.0)
    assert told(fleet)["state"] == [(TTS_WORKER, "silent", None)]
    assert "status-refused" in fleet.conditions
    expect(fleet, worker, replace=True)
    fleet.until(lambda: told(fleet)["applied"] == 1)
    assert fleet.conditions == set()


# those who shout ----------------------------------------------------------------------------------


def test_what_is_forged_is_refused_told_and_forgotten_in_time(fleet: Fleet) -> None:
    worker = fleet.workers[TTS_WORKER]
    topic, raw = said(fleet, worker)[-1]
    stranger = WorkerKeys(TTS_WORKER, b"\x07" * 32, b"\x08" * 32)
    for forged in (raw[:-50], b"{}", stranger.sign(Status.model_validate(line(fleet).status, strict=False))):
        fleet.server.write(topic, forged)
        fleet.run(1.5)
    assert "status-refused" in fleet.conditions
    assert told(fleet)["applied"] == 1
    fleet.run(statuses.QUIET_SECONDS + 10.0, turn=1.0)
    assert fleet.conditions == set()


def test_what_is_too_long_is_not_looked_at(fleet: Fleet) -> None:
    topic = fleet.topics.status(TTS, TTS_WORKER)
    fleet.server.write(topic, b"x" * (MAX_STATUS_BYTES + 1))
    fleet.run(2.0)
    details = [c.detail for c in fleet.process.findings if c.name == "status-refused"]
    assert details == ["a status was refused: oversize"]
    assert told(fleet)["applied"] == 1


def test_a_crowd_of_strangers_is_kept_small(fleet: Fleet) -> None:
    for number in range(3 * statuses.STRANGERS):
        fleet.server.write(fleet.topics.status(TTS, f"s{number}"), b"x")
        if number % 20 == 0:
            fleet.tick(0.05)
    fleet.run(10.0)
    seen = [one for one in EdgeView(fleet.host.files.status).workers() if not one.expected]
    assert len(seen) == statuses.STRANGERS
    assert seen[-1].worker.startswith("s2")
    assert told(fleet)["applied"] == 1


def test_of_what_comes_too_fast_the_last_counts(fleet: Fleet) -> None:
    worker = fleet.workers.pop(TTS_WORKER)
    now = Status.model_validate(line(fleet).status, strict=False)
    for n in range(1, 200):
        fleet.server.write(
            fleet.topics.status(TTS, worker.name), worker.keys.sign(now.model_copy(update={"n": now.n + n}))
        )
    fleet.run(3.0)
    assert line(fleet).order == (now.boot, now.n + 199)


def test_who_spoke_a_moment_before_it_died_has_left(fleet: Fleet) -> None:
    """Its last word is verified after the broker's word about it came, and was said before."""
    worker = fleet.workers.pop(TTS_WORKER)
    now = Status.model_validate(line(fleet).status, strict=False)
    for n in (1, 2):
        raw = worker.keys.sign(now.model_copy(update={"n": now.n + n}))
        fleet.server.write(fleet.topics.status(TTS, worker.name), raw)
        fleet.run(0.1)
    fleet.server.write(fleet.topics.presence(worker.name), b"offline")
    fleet.commit(TTS, 12)
    fleet.run(5.0)
    assert line(fleet).order == (now.boot, now.n + 2)
    assert told(fleet)["state"] == [(TTS_WORKER, "offline", None)]


def test_who_speaks_below_its_earlier_words_is_told_and_a_new_row_hears_it_again(fleet: Fleet) -> None:
    """As a worker with a restored card and a late clock; or a broker that plays yesterday."""
    worker = fleet.workers.pop(TTS_WORKER)
    now = Status.model_validate(line(fleet).status, strict=False)
    earlier = worker.keys.sign(now.model_copy(update={"boot": now.boot - 1}))
    topic = fleet.topics.status(TTS, worker.name)
    fleet.server.write(topic, earlier)
    fleet.until(lambda: "status-refused" in fleet.conditions)
    assert line(fleet).order == now.order
    dismiss(fleet, worker.name)
    fleet.run(3.0)
    expect(fleet, worker)
    fleet.run(3.0)
    fleet.server.write(topic, earlier)
    fleet.until(lambda: line(fleet).order == (now.boot - 1, now.n))


# the broker, and what holds -----------------------------------------------------------------------


def test_a_wiped_broker_is_told_everything_again(fleet: Fleet) -> None:
    fleet.wipe()
    fleet.settle()
    assert told(fleet)["applied"] == told(fleet, STT)["applied"] == 1


def test_a_denied_convergence_is_told_and_configs_go_on(fleet: Fleet) -> None:
    fleet.server.denied.add(fleet.topics.convergence(TTS))
    fleet.commit(TTS, 11)
    fleet.run(5.0)
    assert fleet.conditions == {"convergence-denied"}
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 11
    assert line(fleet).state == "applied"
    fleet.server.denied.clear()
    fleet.run(70.0, turn=1.0)
    assert (fleet.conditions, told(fleet)["converged"]) == (set(), True)


def test_it_is_told_at_most_once_a_second(fleet: Fleet) -> None:
    for number in range(40):
        fleet.add_worker(f"w{number:02}", TTS).start()
        expect(fleet, fleet.workers[f"w{number:02}"])
    fleet.run(5.0)
    before, began = len(sent(fleet)), fleet.clock.seconds
    fleet.commit(TTS, 12)
    fleet.until(lambda: told(fleet)["applied"] == 41)
    assert len(sent(fleet)) - before <= fleet.clock.seconds - began + 1


def test_nothing_is_told_during_a_hold(fleet: Fleet) -> None:
    backup = fleet.backup()
    fleet.commit(TTS, 11)
    fleet.settle()
    fleet.restore_database(backup)
    fleet.run(5.0)
    assert fleet.host.held
    before = len(sent(fleet))
    fleet.workers[TTS_WORKER].crash()
    fleet.run(200.0, turn=1.0)
    assert len(sent(fleet)) == before
    fleet.settle()
