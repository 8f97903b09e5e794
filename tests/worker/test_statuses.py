"""What a worker says of how it stands: what runs and what failed, when, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config_daemon.errors import ErrorContext
from config_daemon.wire.status import MAX_STATUS_BYTES
from config_daemon.worker.apply import RestartNeeded, RolledBack
from config_daemon.worker.identity import BOOT
from config_daemon.worker.standing import presentable
from tests.worker.edge import PROBLEM, Edge
from tests.worker.full_disk import full_disk
from tests.worker.speaking import Speaking, told
from tests.worker.test_keyrings import NEW, OLD, REVOKED, STAGED
from tests.worker.test_keyrings import Edge as KeyringEdge
from tests.worker.test_lookout import hear, listed
from tests.worker.test_start import killed_while_applying
from tests.worker.updates import SERVICE, tombstone, update, with_secrets


@pytest.fixture
def speaking(edge: Edge) -> Speaking:
    made = Speaking(edge)
    made.connect()
    return made


def raising(error: Exception) -> Callable[[object], None]:
    def apply(_values: object) -> None:
        raise error

    return apply


# what is said -------------------------------------------------------------------------------------


def test_before_the_first_config_it_says_that_it_is_there(edge: Edge) -> None:
    status = Speaking(edge).connect()
    assert (status.running, status.last_attempt, status.flags) == (None, None, ["unconfirmed"])
    assert (status.n, status.beacon, status.agent) == (1, 0, "test/1")


def test_what_was_applied_runs_and_is_the_last_attempt(speaking: Speaking) -> None:
    raw = update(5, config_version=3)
    status = speaking.after(raw)
    assert told(status) == (5, 5, "applied", None)
    assert status.running is not None and status.last_attempt is not None
    assert (status.running.source, status.running.config_version) == ("broker", 3)
    assert status.running.body_sha256 == status.last_attempt.body_sha256 == speaking.edge.kept().floor[2]  # type: ignore[index]
    assert status.running.applied_at == "2026-01-02T03:04:05.678Z"


FAILURES = {
    "cannot-open": ("rejected", with_secrets(2)),
    "invalid": ("rejected", update(2, {"invalid": 1})),
    "apply-failed": ("rejected", update(2, {"failing": 1})),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_a_failed_attempt_never_hides_what_still_runs(speaking: Speaking, reason: str) -> None:
    speaking.after(update(1))
    state, raw = FAILURES[reason]
    status = speaking.after(raw)
    assert told(status) == (1, 2, state, reason)
    assert status.last_attempt is not None
    assert all(problem.suggestion for problem in status.last_attempt.errors)
    life = speaking.next_life().connect()
    assert told(life) == (1, 2, state, reason), "the next life still tells it"
    assert life.running is not None and life.running.source == "cache"


def test_errors_of_the_programs_check_are_told_field_by_field(speaking: Speaking) -> None:
    attempt = speaking.after(update(1, {"invalid": 1})).last_attempt
    assert attempt is not None
    (problem,) = attempt.errors
    assert (problem.error_code, problem.failed_field) == (PROBLEM.error_code, PROBLEM.failed_field)


def test_a_program_that_rolled_back_says_so_and_is_asked_once_more_at_the_next_start(
    speaking: Speaking,
) -> None:
    speaking.after(update(1))
    speaking.edge.on_apply = raising(RolledBack("the port is taken", "port-taken", [PROBLEM]))
    status = speaking.after(update(2))
    assert told(status) == (1, 2, "rolled-back", "port-taken")
    assert status.last_attempt is not None and status.last_attempt.errors[0].error_code == "NOT_A_NUMBER"
    assert speaking.edge.kept().outcome == "rolled-back"
    assert speaking.edge.receive(update(2)).state == "held", "final in this life"
    assert speaking.edge.receive(update(1)).reason == "rollback", "the floor stays"
    life = speaking.next_life()
    assert told(life.connect()) == (1, 2, "rolled-back", "port-taken")
    assert told(life.after(update(2))) == (2, 2, "applied", None)


def test_a_reason_that_is_no_word_is_told_as_a_failure(speaking: Speaking) -> None:
    speaking.edge.on_apply = raising(RolledBack("no", reason="Not A Word!"))
    assert told(speaking.after(update(1)))[3] == "apply-failed"


def test_a_program_that_needs_a_restart_gets_the_config_at_the_next_start(speaking: Speaking) -> None:
    speaking.after(update(1))
    speaking.edge.on_apply = raising(RestartNeeded())
    assert told(speaking.after(update(2))) == (1, 2, "pending", "restart-needed")
    assert speaking.edge.follower.wants_restart
    life = speaking.next_life()
    assert told(life.connect()) == (2, 2, "applied", None)
    assert not life.edge.follower.wants_restart


def test_a_program_that_asks_for_one_restart_after_the_other_goes_on_with_the_config_before(
    speaking: Speaking,
) -> None:
    speaking.after(update(1))
    speaking.edge.on_apply = raising(RestartNeeded())
    speaking.after(update(2))
    life = Speaking(Edge(speaking.edge.folder))
    life.edge.on_apply = lambda values: None if values == {"number": 1} else raising(RestartNeeded())(values)
    life.edge.start()
    assert told(life.connect()) == (1, 2, "rejected", "apply-failed")
    assert not life.edge.follower.wants_restart


def test_a_withdrawn_config_runs_on_and_is_gone_at_the_next_start(speaking: Speaking) -> None:
    speaking.after(update(1))
    assert told(speaking.after(tombstone(2))) == (1, 2, "deleted", None)
    assert told(speaking.next_life().connect()) == (None, 2, "deleted", None)


def test_a_disk_that_is_full_is_told_and_what_ran_runs_on(speaking: Speaking) -> None:
    speaking.after(update(1))
    with full_disk():
        speaking.edge.deliver(update(2))
    status = speaking.say(1.0)
    assert status is not None and status.last_attempt is not None
    assert told(status) == (1, 2, "pending", "cannot-keep")
    assert status.last_attempt.errors[0].error_code == "CANNOT_KEEP"
    assert told(speaking.after(update(2))) == (2, 2, "applied", None)


def test_an_end_that_the_disk_does_not_take_is_told(speaking: Speaking) -> None:
    speaking.after(update(1))
    keep, saves = speaking.edge.keep.save, iter([True])

    def save(*what: Any) -> None:
        if not next(saves, False):
            raise OSError(28, "No space left on device")
        keep(*what)

    speaking.edge.keep.save = save  # type: ignore[method-assign]
    status = speaking.after(update(2))
    assert told(status) == (2, 2, "applied", None)
    assert status.last_attempt is not None
    assert status.last_attempt.errors[0].error_code == "CANNOT_KEEP"


def test_a_state_file_that_is_damaged_is_told(speaking: Speaking) -> None:
    speaking.after(update(1))
    speaking.edge.state_file.write_bytes(b"torn")
    life = speaking.next_life()
    status = life.connect()
    assert (told(status), status.flags) == ((None, None, None, None), ["unconfirmed", "floor-lost"])
    assert told(life.after(update(2))) == (2, 2, "applied", None)


def test_what_a_revoked_key_signed_is_told_until_the_next_config(tmp_path: Path) -> None:
    edge = KeyringEdge(tmp_path).start()
    edge.take(STAGED)
    edge.get(update(5, key=OLD))
    edge.take(REVOKED)
    standing = edge.follower.standing(SERVICE)
    assert "revoked-signer" in standing.flags
    assert standing.running is not None and standing.running.sequence == 5
    edge.get(update(6, key=NEW, generation=2))
    standing = edge.follower.standing(SERVICE)
    assert "revoked-signer" not in standing.flags
    assert standing.running is not None and standing.running.generation == 2


def test_what_ended_the_process_is_told_by_the_next_life(speaking: Speaking) -> None:
    speaking.after(update(1))
    killed_while_applying(speaking.edge, update(2, {"deadly": 1}))
    life = Speaking(Edge(speaking.edge.folder))
    killed_again(life.edge)
    after = speaking.next_life()
    status = after.connect()
    assert told(status) == (1, 2, "rejected", "apply-failed")
    assert status.last_attempt is not None
    assert status.last_attempt.errors[0].error_code == "PROCESS_ENDED"


def killed_again(edge: Edge) -> None:
    class Killed(BaseException):
        pass

    def die(_values: object) -> None:
        raise Killed

    edge.on_apply = die
    with pytest.raises(Killed):
        edge.start()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no mqtt://me:pass@word@host/a@b, no //c", "no mqtt://***@b, no //c"),
        ("//@ a@b // c@d ///x@", "//@ a@b // c@d //***@"),
        ("\u3000http://a@b\nhttp://c@d", "\u3000http://***@b\nhttp://***@d"),
    ],
)
def test_credentials_of_urls_are_taken_out(text: str, told: str) -> None:
    assert presentable(text) == told


def test_a_long_text_is_made_presentable_in_no_time() -> None:
    began = time.process_time()
    presentable("/" * 1_000_000)
    assert time.process_time() - began < 0.5


# what hides nothing -------------------------------------------------------------------------------


def failed(speaking: Speaking) -> None:
    speaking.after(update(1))
    speaking.after(update(2, {"failing": 1}))


def refused(speaking: Speaking) -> None:
    speaking.after(update(1))
    speaking.after(update(2, {"invalid": 1}))


def test_a_reseal_of_what_runs_does_not_hide_a_failure(speaking: Speaking) -> None:
    refused(speaking)
    assert told(speaking.after(update(3, {"number": 1}))) == (3, 2, "rejected", "invalid")
    assert told(speaking.next_life().connect()) == (3, 2, "rejected", "invalid")


def test_equal_values_after_a_failed_attempt_are_tried_and_told(speaking: Speaking) -> None:
    failed(speaking)
    speaking.edge.on_apply = raising(OSError("the disk is full"))
    assert told(speaking.after(update(3, {"number": 1}))) == (1, 3, "rejected", "apply-failed")
    speaking.edge.on_apply = lambda values: None
    assert told(speaking.after(update(4, {"number": 1}))) == (4, 4, "applied", None)


def test_a_reseal_that_a_crash_interrupts_does_not_hide_a_failure(speaking: Speaking) -> None:
    refused(speaking)
    kept = speaking.edge.keep.save
    saved = iter([None])
    speaking.edge.keep.save = lambda *what: kept(*what) if next(saved, "late") is None else killed()  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        speaking.edge.deliver(update(3, {"number": 1}))
    assert speaking.edge.kept().outcome == "pending"
    assert told(speaking.next_life().connect()) == (3, 2, "rejected", "invalid")


def killed() -> None:
    raise KeyboardInterrupt


def test_neither_rubbish_nor_an_old_message_nor_a_beacon_hides_a_failure(speaking: Speaking) -> None:
    failed(speaking)
    for raw in (b"", b"rubbish", update(1), update(2, {"other": 1}), update(2, {"failing": 1})):
        speaking.edge.receive(raw)
    hear(speaking.edge, 100, listed(update(2, {"failing": 1}), 2))
    status = speaking.say(60.0)
    assert status is not None
    assert told(status) == (1, 2, "rejected", "apply-failed")


def test_a_new_message_that_is_applied_is_the_last_attempt(speaking: Speaking) -> None:
    failed(speaking)
    assert told(speaking.after(update(3))) == (3, 3, "applied", None)


def test_another_trust_anchor_knows_nothing_of_earlier_attempts(speaking: Speaking) -> None:
    failed(speaking)
    life = speaking.edge.next_life(keys=[NEW])
    assert life.follower.standing(SERVICE).last_attempt is None


# when, and in which order -------------------------------------------------------------------------


def test_it_is_said_at_every_connection_and_then_every_minute(speaking: Speaking) -> None:
    assert speaking.say() is None
    assert speaking.say(59.9) is None
    assert speaking.say(0.1) is not None
    speaking.jitter = 1.0
    assert speaking.say(60.0) is not None
    assert speaking.say(69.9) is None
    assert speaking.say(0.1) is not None
    assert speaking.connect() is not None


def test_of_many_changes_in_a_second_the_last_one_is_said(speaking: Speaking) -> None:
    speaking.after(update(1))
    for sequence in range(2, 9):
        speaking.edge.receive(update(sequence))
        assert speaking.say() is None
    status = speaking.say(1.0)
    assert status is not None and told(status)[0] == 8
    assert speaking.say(1.0) is None, "nothing is new"


def test_it_is_said_again_once_the_first_beacon_was_seen(speaking: Speaking) -> None:
    """Before that it counts for nobody, and the next one would come in a minute."""
    speaking.after(update(1))
    hear(speaking.edge, 100, listed(update(1), 1))
    speaking.say(1.0)
    life = speaking.next_life()
    assert life.connect().beacon == 0
    hear(life.edge, 101, listed(update(1), 1))
    status = life.say(1.0)
    assert status is not None and status.beacon == 101


def test_it_is_said_again_before_the_beacon_that_it_quotes_is_too_old(speaking: Speaking) -> None:
    speaking.after(update(1))
    hear(speaking.edge, 100, listed(update(1), 1))
    status = speaking.say(1.0)  # the flag `unconfirmed` is gone
    assert status is not None and status.beacon == 100
    hear(speaking.edge, 101, listed(update(1), 1))
    assert speaking.say(1.0) is None
    hear(speaking.edge, 102, listed(update(1), 1))
    assert speaking.say(1.0) is None, "not all workers at the same moment"
    status = speaking.say(5.0)
    assert status is not None and status.beacon == 102


def test_v23_a_status_of_any_life_is_above_all_that_were_said_before(speaking: Speaking) -> None:
    """Trace V23 at the worker: a replayed status of an earlier life can be told from what is said today."""
    orders = [speaking.connect().order, speaking.after(update(1)).order]
    year_ms = 365 * 86_400_000
    for clock_ms in (0, -year_ms, -year_ms, year_ms, 0):
        speaking.edge.calendar_ms += clock_ms
        speaking = speaking.next_life()
        orders += [speaking.connect().order, speaking.connect().order]
    assert orders == sorted(set(orders))


def test_nothing_is_said_before_the_number_of_the_start_is_on_disk(edge: Edge) -> None:
    speaking = Speaking(edge)
    with full_disk():
        assert speaking.say() is None
        assert speaking.say(0.5) is None
        assert len(speaking.notes) == 1
    assert speaking.say(0.6) is not None
    assert (edge.folder / BOOT).exists()


# what a status can hold ---------------------------------------------------------------------------


@pytest.mark.parametrize("character", ["x", "é", "\U0001f600", "\x00", "\ud800"])
def test_whatever_a_program_says_fits(speaking: Speaking, character: str) -> None:
    long = ErrorContext(
        character * 900, "not a code", character * 900, character * 900, character * 900,
        character * 900, character * 900,
    )  # fmt: skip
    speaking.edge.on_apply = raising(RolledBack("no", contexts=[long] * 50))
    speaking.edge.receive(update(1))
    speaking.edge.clock += 1.0
    ((_, raw),) = speaking._statuses.due()
    assert len(raw) <= MAX_STATUS_BYTES
    attempt = speaking.connect().last_attempt
    assert attempt is not None and attempt.state == "rolled-back"
    assert len(attempt.errors) >= 2, "what fits is told"
    assert speaking.next_life().connect().last_attempt == attempt


def test_credentials_in_what_a_program_says_are_not_told(speaking: Speaking) -> None:
    speaking.edge.on_apply = raising(OSError("cannot reach postgres://admin:hun@ter/2@db.local/config"))
    attempt = speaking.after(update(1)).last_attempt
    assert attempt is not None
    assert "ter" not in attempt.errors[0].message.replace("Error", "")
    assert "postgres://***@db.local" in attempt.errors[0].message
