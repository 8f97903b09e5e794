"""The next life: what it starts from, without any broker, and what it tries once more."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from config_daemon.worker.keep import Keep
from tests.worker.edge import Edge
from tests.worker.full_disk import full_disk
from tests.worker.updates import KEY, OTHER_KEY, SERVICE, TOPIC, tombstone, update

FAILING = update(2, {"failing": 1})
INVALID = update(2, {"invalid": 1})


class Killed(BaseException):
    """The process ends here, as by signal 9: nothing of ours runs after it."""


def killed_while_applying(edge: Edge, raw: bytes) -> None:
    """Deliver a message whose apply ends the process; its outcome stays unknown."""
    edge.on_apply = _kill
    with pytest.raises(Killed):
        edge.follower.receive(TOPIC, raw)
    assert edge.kept().outcome == "pending"


def _kill(_: object) -> None:
    raise Killed


def test_it_starts_from_what_was_applied_and_says_so(edge: Edge) -> None:
    edge.receive(update(3))
    life = edge.next_life()
    assert life.applied == [{"number": 3}]
    (report,) = life.reports
    assert (report.sequence, report.state, report.flags) == (3, "applied", ())
    assert life.receive(update(3)).state == "held"
    assert len(life.attempts) == 1


def test_a_worker_that_knows_nothing_says_nothing_until_a_message_comes(edge: Edge) -> None:
    assert (edge.attempts, edge.reports) == ([], [])
    assert edge.receive(b"").flags == ("unconfirmed",)


def test_no_message_is_taken_before_the_floor_is_known(edge: Edge) -> None:
    edge.receive(update(5))
    forgetful = Edge(edge.folder)
    with pytest.raises(RuntimeError):
        forgetful.follower.receive(TOPIC, update(4))
    assert (forgetful.attempts, edge.floor()) == ([], 5)


@pytest.mark.parametrize(("raw", "reason"), [(FAILING, "apply-failed"), (INVALID, "invalid")])
def test_a_rejected_message_is_tried_once_in_each_life(edge: Edge, raw: bytes, reason: str) -> None:
    edge.receive(update(1))
    edge.receive(raw)
    for _ in range(2):
        life = edge.next_life()
        assert life.verdicts == [(1, "applied", None)]
        assert [life.receive(raw).state for _ in range(3)] == ["rejected", "held", "held"]
        assert life.reports[1].reason == reason
        assert life.runs == {"number": 1}
        assert len(life.attempts) == (2 if reason == "apply-failed" else 1)
    mended = edge.next_life(mended=True)
    assert mended.receive(raw).state == "applied"
    assert mended.runs != {"number": 1}
    assert edge.next_life(mended=True).applied == [mended.runs]


def test_an_unfinished_message_is_finished_by_the_next_life(edge: Edge) -> None:
    edge.receive(update(1))
    killed_while_applying(edge, update(2))
    life = edge.next_life()
    assert (life.attempts, life.verdicts) == ([{"number": 2}], [(2, "applied", None)])
    assert life.receive(update(2)).state == "held"
    assert (life.floor(), life.kept().current, life.kept().outcome) == (2, update(2), "applied")


def test_an_unfinished_message_that_fails_gives_way_to_the_good_one_at_once(edge: Edge) -> None:
    edge.receive(update(1))
    killed_while_applying(edge, FAILING)
    life = edge.next_life()
    assert life.runs == {"number": 1}, "not only after one more restart"
    assert life.verdicts == [(2, "rejected", "apply-failed"), (1, "applied", None)]
    assert (life.floor(), life.kept().current, life.kept().outcome) == (2, update(1), "rejected")
    assert life.receive(FAILING).state == "held", "this life has tried it"
    assert edge.next_life().runs == {"number": 1}


def test_an_unfinished_message_that_is_invalid_now_gives_way_to_the_good_one(edge: Edge) -> None:
    edge.receive(update(1))
    edge.mended = True
    killed_while_applying(edge, INVALID)
    life = edge.next_life()
    assert life.runs == {"number": 1}
    assert life.verdicts == [(2, "rejected", "invalid"), (1, "applied", None)]
    assert life.receive(INVALID).state == "held", "this life has tried it"
    assert edge.next_life().runs == {"number": 1}


def test_a_message_that_kills_every_life_cannot_keep_the_worker_from_its_broker(edge: Edge) -> None:
    edge.receive(update(1))
    killed_while_applying(edge, update(2, {"deadly": 1}))
    for _ in range(2):
        life = Edge(edge.folder)
        life.on_apply = lambda values: _kill(values) if "deadly" in values else None
        try:
            life.start()
        except Killed:
            continue
        break
    else:
        pytest.fail("it never lived long enough to hear of a mended config")
    assert life.runs == {"number": 1}
    assert life.floor() == 2
    assert life.receive(update(3)).state == "applied"


def test_a_newer_message_replaces_an_unfinished_one(edge: Edge) -> None:
    edge.receive(update(1))
    killed_while_applying(edge, FAILING)
    life = edge.next_life()
    assert life.receive(update(3)).state == "applied"
    assert life.kept().previous == update(1)
    assert edge.next_life().applied == [{"number": 3}]


@pytest.mark.parametrize("raw", [update(3, {"failing": 1}), update(3, {"invalid": 1})])
def test_a_program_that_survives_its_own_end_does_not_fall_back_to_what_it_never_finished(
    edge: Edge, raw: bytes
) -> None:
    edge.receive(update(1))
    killed_while_applying(edge, update(2))  # as sys.exit() in a thread: the process goes on
    edge.on_apply = lambda _: None
    assert edge.receive(update(2)).state == "held"
    assert edge.receive(raw).state == "rejected"
    assert edge.next_life().runs == {"number": 1}


def test_a_first_message_that_never_finished_leaves_nothing_to_start_from(edge: Edge) -> None:
    killed_while_applying(edge, FAILING)
    life = edge.next_life()
    assert (life.applied, life.floor(), life.kept().current) == ([], 2, None)
    assert edge.next_life().attempts == []


def test_an_apply_that_fails_at_start_is_tried_by_the_next_life(edge: Edge) -> None:
    edge.mended = True
    edge.receive(FAILING)
    kept = edge.state_file.read_bytes()
    life = edge.next_life()
    assert life.verdicts == [(2, "rejected", "apply-failed")]
    assert edge.state_file.read_bytes() == kept
    assert edge.next_life(mended=True).applied == [{"failing": 1}]


def test_a_full_disk_does_not_keep_an_unfinished_message_from_running(edge: Edge) -> None:
    edge.receive(update(1))
    killed_while_applying(edge, update(2))
    with full_disk():
        life = edge.next_life()
        assert life.runs == {"number": 2}
    assert life.reports[-1].errors[0].error_code == "CANNOT_KEEP"
    assert life.floor() == 2
    assert edge.next_life().runs == {"number": 2}


def test_a_full_disk_does_not_keep_the_good_one_from_running(edge: Edge) -> None:
    edge.receive(update(1))
    killed_while_applying(edge, FAILING)
    with full_disk():
        life = edge.next_life()
    assert life.runs == {"number": 1}
    assert life.receive(update(3, {"failing": 3})).state == "rejected"
    assert edge.next_life().runs == {"number": 1}


def test_another_trust_anchor_discards_the_floor_and_keeps_what_runs(edge: Edge) -> None:
    edge.receive(update(50))
    life = edge.next_life(keys=[OTHER_KEY])
    assert life.applied == [{"number": 50}]
    (report,) = life.reports
    assert (report.state, report.flags) == ("applied", ("unconfirmed", "stale"))
    assert life.receive(update(51)).reason == "bad-signature"
    assert life.receive(update(3, key=OTHER_KEY)).state == "applied"
    assert (life.floor(), life.runs) == (3, {"number": 3})
    assert "stale" not in life.reports[-1].flags
    again = edge.next_life(keys=[OTHER_KEY])
    assert (again.applied, again.reports[0].flags) == ([{"number": 3}], ())


def test_another_trust_anchor_keeps_the_good_one_behind_an_unfinished_one(edge: Edge) -> None:
    edge.receive(update(1))
    killed_while_applying(edge, FAILING)
    life = edge.next_life(keys=[OTHER_KEY])
    assert life.runs == {"number": 1}
    assert life.floor() is None
    assert edge.next_life(keys=[OTHER_KEY]).runs == {"number": 1}


def test_another_trust_anchor_does_not_undo_a_tombstone(edge: Edge) -> None:
    edge.receive(update(1))
    edge.receive(tombstone(2))
    assert edge.next_life(keys=[OTHER_KEY]).attempts == []


def test_a_key_that_was_retired_does_not_take_away_what_it_signed(edge: Edge) -> None:
    both = Edge(edge.folder, keys=[KEY, OTHER_KEY]).start()
    both.receive(update(4, key=OTHER_KEY))
    life = edge.next_life(keys=[KEY])
    assert (life.applied, life.reports[0].flags) == ([{"number": 4}], ("stale",))
    assert life.receive(update(4)).reason == "fork", "the same anchor: its floor stands"
    assert life.receive(update(3)).reason == "rollback"


@pytest.mark.parametrize(
    "raw",
    [
        update(2, service="router"),
        update(2, checksum="0" * 64),
        b"not a message",
        b"",
        update(2, {"invalid": 1}),
    ],
)
def test_what_is_no_config_of_the_service_is_not_started_from(edge: Edge, raw: bytes) -> None:
    edge.receive(update(1))
    belief = edge.kept()
    edge.keep.save(SERVICE, type(belief)(belief.floor, raw, None, "applied"))
    life = edge.next_life()
    assert life.attempts == []
    assert [report.state for report in life.reports] == ["rejected"]
    assert life.receive(update(3)).state == "applied"


def test_a_worker_whose_state_cannot_be_set_aside_starts_all_the_same(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.receive(update(1))
    edge.state_file.write_bytes(b"torn")

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", read_only)
        life = edge.next_life()
        wanted_again, report = life.deliver(update(2))
    assert (wanted_again, report.state, report.flags) == (True, "held", ("unconfirmed", "floor-lost"))
    assert life.receive(update(2)).state == "applied"


def test_the_state_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "data")
    Edge(tmp_path / "state").start().receive(update(1))
    assert Edge(tmp_path / "data").start().runs == {"number": 1}
    assert Keep(tmp_path / "state", "another").load(SERVICE).belief.floor is None
