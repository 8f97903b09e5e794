"""Keyrings in a whole fleet: rotation, revocation, restored keys, and whoever shows old ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from config_daemon.wire import values
from config_daemon.wire.keyring import KEYRING
from config_daemon.wire.messages import CONFIG_UPDATE, Envelope, update_body
from config_daemon.wire.sealing import canonical, seal
from tests.fleet import Fleet
from tests.fleet_keys import name
from tests.fleet_laws import STT, TTS
from tests.fleet_worker import FakeWorker

TTS_WORKER, STT_WORKER = f"{TTS}-1", f"{STT}-1"
HOUR, YEAR_MS = 3600.0, 365 * 86_400_000


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet.settled(tmp_path)) as made:
        yield made


def flags(worker: FakeWorker) -> set[str]:
    return set(next(report for report in reversed(worker.reports) if report.service == worker.service).flags)


def reasons(worker: FakeWorker) -> set[str]:
    """Return why anything was ever refused."""
    return {report.reason for report in worker.reports if report.reason}


def first_key(fleet: Fleet) -> SigningKey:
    return next(iter(fleet.holder.keys.values()))


def rotate(fleet: Fleet) -> tuple[SigningKey, SigningKey]:
    """Stage, activate by an operator's word, and let it settle; return the old key and the new one."""
    old = fleet.holder.keys[fleet.process.parts.identity.key_id]
    new = fleet.holder.stage()
    fleet.run(3.0)
    fleet.activate()
    fleet.run(5.0)
    return old, new


def signer_of(fleet: Fleet, service: str) -> str:
    return fleet.shown(service).key_id


# rotation -----------------------------------------------------------------------------------------


def test_a_rotation_under_traffic_has_nothing_refused(fleet: Fleet) -> None:
    old = first_key(fleet)
    new = fleet.holder.stage()
    for value in range(11, 31):
        fleet.commit(TTS, value)
        fleet.run(180.0 + 1.0, turn=1.0)  # the grace window ends meanwhile
    assert signer_of(fleet, TTS) == name(new)
    fleet.holder.retire(old)
    for value in range(31, 41):
        fleet.commit(TTS, value)
        fleet.run(1.0)
    fleet.settle()
    assert fleet.workers[TTS_WORKER].running["volume_percent"] == 40
    assert signer_of(fleet, STT) == name(new)
    assert not reasons(fleet.workers[TTS_WORKER]) | reasons(fleet.workers[STT_WORKER])


def test_a_new_key_signs_when_the_grace_window_has_ended_and_not_before(fleet: Fleet) -> None:
    new = fleet.holder.stage()
    fleet.run(HOUR - 60, turn=30.0)
    assert signer_of(fleet, TTS) != name(new)
    fleet.run(120.0, turn=1.0)
    assert signer_of(fleet, TTS) == name(new)


def test_a_new_key_that_is_in_no_backup_waits_for_one(fleet: Fleet) -> None:
    new = fleet.holder.stage(backed_up=False)
    fleet.run(HOUR + 60, turn=30.0)
    assert signer_of(fleet, TTS) != name(new)
    assert "activation-waits" in fleet.conditions
    fleet.activate()  # an operator's word is enough
    fleet.run(5.0)
    assert signer_of(fleet, TTS) == name(new)
    assert "activation-waits" not in fleet.conditions


@pytest.mark.parametrize("politely", [True, False])
def test_a_key_that_was_activated_goes_on_signing_after_a_restart(fleet: Fleet, politely: bool) -> None:
    _, new = rotate(fleet)
    fleet.stop_daemon() if politely else fleet.crash_daemon()
    fleet.start_daemon("behind")
    assert fleet.process.parts.identity.key_id == name(new)
    fleet.commit(TTS, 11)
    fleet.settle()
    assert signer_of(fleet, TTS) == name(new)


@pytest.mark.parametrize("point", ["before_enter", "after_enter"])
@pytest.mark.parametrize("step", ["stage", "activate", "retire", "revoke"])
def test_a_daemon_killed_while_keys_change_locks_nobody_out(fleet: Fleet, step: str, point: str) -> None:
    old = first_key(fleet)
    if step in ("activate", "retire"):
        fleet.holder.stage()
        fleet.run(3.0)
    if step == "retire":
        fleet.activate()
    fleet.host.die_at(point)
    if step == "activate":
        fleet.activate()
    else:
        {"stage": fleet.holder.stage, "retire": lambda: fleet.holder.retire(old),
         "revoke": lambda: fleet.holder.revoke(old)}[step]()  # fmt: skip
    for _ in range(100):
        fleet.tick()
    assert fleet.host.process is None, f"the daemon never came to {point}"
    fleet.laws.forgot = True
    fleet.commit(TTS, 11)
    fleet.start_daemon("behind")
    fleet.settle()
    fleet.commit(TTS, 12)
    fleet.settle()


def test_the_keyring_goes_before_what_its_key_signs(fleet: Fleet) -> None:
    begin = len(fleet.server.written)
    fleet.holder.revoke(first_key(fleet))
    fleet.run(5.0)
    daemons = [one for one in fleet.server.written[begin:] if one.raw and one.writer not in fleet.workers]
    sent = [(one.topic, json.loads(one.raw)["generation"]) for one in daemons]
    assert sent.index((fleet.topics.keyring, 2)) < sent.index((fleet.topics.config(TTS), 2))


def test_staging_a_key_costs_no_connection_and_no_seal(fleet: Fleet) -> None:
    before, begin, links = (
        fleet.server.retained[fleet.topics.config(TTS)],
        len(fleet.server.written),
        set(fleet.server.links),
    )
    fleet.holder.stage()
    fleet.run(3.0)
    assert fleet.server.retained[fleet.topics.config(TTS)] == before
    assert set(fleet.server.links) == links
    sent = [message.topic for message in fleet.server.written[begin:]]
    assert sent.index(fleet.topics.keyring) < sent.index(fleet.topics.beacon) < 5


def test_a_late_worker_with_the_first_key_walks_up_to_the_present(fleet: Fleet) -> None:
    for _ in range(2):
        old, _new = rotate(fleet)
        fleet.holder.retire(old)
        fleet.run(3.0)
    late = fleet.add_worker("late", TTS)
    late.start()
    fleet.settle()
    assert late.running == fleet.workers[TTS_WORKER].running


def test_the_hmac_key_changes_under_traffic(fleet: Fleet) -> None:
    from base64 import b64encode

    keys = fleet.host.ground.keys
    (old_id, old), fresh = keys.hmac_key(), b"\x33" * 32
    fleet.holder.set_env(
        LKG_HMAC_KEY_BASE64=b64encode(fresh).decode(), LKG_HMAC_KEY_ID="the-next-one",
        LKG_HMAC_KEY_OLD_BASE64=b64encode(old).decode(), LKG_HMAC_KEY_OLD_ID=old_id,
    )  # fmt: skip
    fleet.host.die_at("after_rekey")
    fleet.run(10.0)
    assert fleet.host.process is None
    fleet.commit(TTS, 11)
    fleet.start_daemon()
    fleet.settle()
    fleet.holder.set_env(LKG_HMAC_KEY_OLD_BASE64=None, LKG_HMAC_KEY_OLD_ID=None)
    fleet.run(5.0)
    fleet.crash_daemon()
    fleet.start_daemon()
    fleet.settle()
    assert not fleet.conditions & {"lkg-tampered"}


# revocation ---------------------------------------------------------------------------------------


def stolen(fleet: Fleet, sequence: int = values.MAX_INTEGER) -> bytes:
    """Return what a thief of the first key signs: another value under the highest number there is."""
    key, real = first_key(fleet), fleet.shown(TTS)
    envelope = Envelope(TTS, real.config_epoch, real.config_version, 1, sequence, name(key), real.issued_at)
    config = canonical({**real.config, "volume_percent": 99})
    return seal(update_body(config, envelope), CONFIG_UPDATE, key)


@pytest.mark.parametrize("adopted_first", [False, True])
def test_a_fleet_recovers_from_a_thief_who_used_up_the_numbers(fleet: Fleet, adopted_first: bool) -> None:
    thief, worker = stolen(fleet), fleet.workers[TTS_WORKER]
    fleet.laws.committed.add(
        (TTS, fleet.rows[TTS]._replace(value=99))
    )  # what a thief signs is applied: he has the key
    fleet.server.write(fleet.topics.config(TTS), thief)
    fleet.run(3.0)
    assert worker.running["volume_percent"] == 99
    assert "not-the-newest" in fleet.host.held
    if adopted_first:  # it does not help: above his number there is none
        fleet.adopt()
        fleet.run(3.0)
        assert fleet.host.held
    fleet.holder.revoke(first_key(fleet))
    fleet.run(3.0)
    fleet.adopt()
    fleet.settle()
    assert worker.running["volume_percent"] == 10
    assert worker.floor is not None and worker.floor.generation == 2
    assert fleet.shown(TTS).sequence < values.MAX_INTEGER // 2
    fleet.server.write(fleet.topics.config(TTS), thief)
    fleet.settle()
    assert worker.running["volume_percent"] == 10
    assert worker.reports[-1].reason is None and reasons(worker) >= {"revoked-key"}


def test_a_revoked_key_signs_nothing_that_counts(fleet: Fleet) -> None:
    fleet.holder.revoke(first_key(fleet))
    fleet.settle()
    before = fleet.workers[TTS_WORKER].running
    fleet.server.write(fleet.topics.config(TTS), stolen(fleet))
    fleet.run(5.0)
    assert fleet.workers[TTS_WORKER].running == before
    assert not fleet.host.held
    assert "foreign-write" in fleet.conditions
    assert "revoked-key" in reasons(fleet.workers[TTS_WORKER])


def test_what_runs_by_a_revoked_key_says_so_until_it_is_sealed_anew(fleet: Fleet) -> None:
    worker = fleet.workers[TTS_WORKER]
    fleet.server.secret.add(fleet.topics.config(TTS))  # the broker keeps the new seal back
    fleet.holder.revoke(first_key(fleet))
    fleet.run(5.0)
    assert "revoked-signer" in flags(worker)
    fleet.server.secret.clear()
    fleet.server.restart()
    fleet.settle()
    assert "revoked-signer" not in flags(worker)


# whoever owns the broker --------------------------------------------------------------------------


def test_old_keyrings_and_strangers_keyrings_change_nothing_and_are_put_right(fleet: Fleet) -> None:
    old, new = rotate(fleet)
    fleet.holder.retire(old)
    fleet.settle()
    ours, held = fleet.server.retained[fleet.topics.keyring], fleet.holder.held
    thief = SigningKey(b"\x77" * 32)
    body = held.body.model_copy(update={"number": held.number + 5})
    forged = seal(canonical(body.model_dump(mode="json")), KEYRING, thief)
    first = fleet.server.retained[fleet.topics.keyring_number(1)]
    for raw in (forged, first, b"", b"{}", ours[:-1]):
        fleet.server.write(fleet.topics.keyring, raw)
        fleet.run(130.0, turn=0.5)
        assert fleet.server.retained[fleet.topics.keyring] == ours, raw
        assert fleet.process.parts.identity.keyring == held
    assert "foreign-write" in fleet.conditions
    fleet.settle()
    assert signer_of(fleet, TTS) == name(new)


def test_a_broker_that_keeps_a_keyring_back_is_told_of(fleet: Fleet) -> None:
    fleet.server.secret |= {fleet.topics.keyring, fleet.topics.keyring_number(1)}
    fleet.holder.stage()
    fleet.run(100.0, turn=1.0)
    assert "frozen" in flags(fleet.workers[TTS_WORKER])
    fleet.server.secret.clear()
    fleet.server.restart()
    fleet.settle()
    fleet.run(40.0, turn=1.0)
    assert not flags(fleet.workers[TTS_WORKER])


def test_a_daemon_whose_key_no_keyring_lists_signs_nothing_at_all(fleet: Fleet) -> None:
    copy = fleet.holder.copy()
    fleet.holder.revoke(first_key(fleet))
    fleet.settle()
    fleet.stop_daemon()
    here = fleet.host.files.environment.read_bytes()
    fleet.host.files.environment.write_bytes((copy.folder / ".env").read_bytes())
    fleet.start_daemon()
    begin = len(fleet.server.written)
    fleet.run(5.0)
    assert "key-unlisted" in fleet.host.held
    assert len(fleet.server.written) == begin
    fleet.host.files.environment.write_bytes(here)
    fleet.settle()


def test_a_keyring_file_that_no_root_signed_is_refused_and_told(fleet: Fleet) -> None:
    held = fleet.holder.held
    thief = SigningKey(b"\x77" * 32)
    body = held.body.model_copy(update={"number": 9})
    fleet.host.files.keyring.write_bytes(seal(canonical(body.model_dump(mode="json")), KEYRING, thief))
    fleet.run(3.0)
    assert fleet.process.parts.identity.keyring == held
    assert "keyring-refused" in fleet.conditions
    fleet.host.files.keyring.unlink()
    fleet.run(3.0)
    assert "keyring-refused" not in fleet.conditions


def test_a_keyring_that_is_gone_is_learnt_back_from_the_broker(fleet: Fleet) -> None:
    rotate(fleet)
    fleet.holder.split_root()
    fleet.run(3.0)
    held = fleet.process.parts.identity.keyring
    fleet.stop_daemon()
    for path in (fleet.host.files.keyring, *fleet.host.files.keyrings.iterdir()):
        path.unlink()
    fleet.start_daemon()
    fleet.settle()
    assert fleet.process.parts.identity.keyring == held
    assert fleet.host.files.keyring.read_bytes() == held.raw


@pytest.mark.parametrize("place", ["keyring", "numbers", "evidence"])
def test_floods_of_keyrings_are_bounded_and_cost_no_more_than_a_few_answers(fleet: Fleet, place: str) -> None:
    rotate(fleet)
    begin, topics, stranger = len(fleet.server.written), fleet.topics, fleet.server.connect("stranger")
    where = {
        "keyring": lambda _number: topics.keyring, "numbers": topics.keyring_number,
        "evidence": lambda number: topics.keyring_evidence(f"w{number}"),
    }[place]  # fmt: skip
    for number in range(2000):
        if place == "evidence":
            stranger.show(where(number), b"%d" % number)
        else:
            fleet.server.write(where(number), b"%d" % number)
        if number % 20 == 0:
            fleet.tick()
    fleet.run(5.0)
    answers = [
        one
        for one in fleet.server.written[begin:]
        if one.writer == fleet.host.name and "keyring" in one.topic
    ]
    assert len(answers) < 12
    held = fleet.process.parts.keyrings
    assert len(held._shown) + len(held._defaced) + len(held._not_before) < 40
    fleet.run(70.0, turn=0.5)
    assert fleet.server.retained[topics.keyring] == fleet.holder.held.raw


def test_an_older_keyring_in_the_folder_does_not_pass_for_the_one_that_marks_name(fleet: Fleet) -> None:
    fleet.holder.stage()
    fleet.run(3.0)
    copy = fleet.holder.copy()
    fleet.holder.revoke(first_key(fleet))
    fleet.settle()
    fleet.stop_daemon()
    fleet.holder.restore(copy)
    fleet.wipe()
    fleet.start_daemon()
    fleet.run(5.0)
    assert "keyring-missing" in fleet.host.held
    marks = fleet.process.parts.sealer.numbers.marks
    assert (marks.generation, marks.keyring and marks.keyring[0]) == (2, 2)
    fleet.settle()  # somebody puts it back
    assert fleet.process.parts.identity.keyring.generation == 2


def test_a_keyring_that_is_gone_is_not_learnt_from_bytes_that_no_worker_would_take(fleet: Fleet) -> None:
    rotate(fleet)
    held = fleet.process.parts.identity.keyring
    fleet.stop_daemon()
    for path in (fleet.host.files.keyring, *fleet.host.files.keyrings.iterdir()):
        path.unlink()
    good = dict(fleet.server.retained)
    for topic in (fleet.topics.keyring, fleet.topics.keyring_number(1)):
        fleet.server.write(topic, held.raw[:-104] + b"," + held.raw[-103:-20] + b"A" * 18 + b'"}')
    fleet.start_daemon()
    fleet.run(5.0)
    assert "keyring-missing" in fleet.host.held
    assert not fleet.host.files.keyring.exists()
    fleet.server.write(fleet.topics.keyring, good[fleet.topics.keyring])
    fleet.settle()
    assert fleet.process.parts.identity.keyring == held


@pytest.mark.parametrize("issued_at", ["2026-02-31T25:61:61.000Z", "9999-12-31T23:59:59.999Z"])
def test_a_date_that_no_calendar_has_ends_nobody(fleet: Fleet, issued_at: str) -> None:
    fleet.holder.dated = issued_at
    fleet.holder.stage()
    fleet.run(5.0)
    fleet.settle()
