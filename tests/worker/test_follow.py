"""What becomes of accepted messages in one life of the program: kept, applied, refused, held."""

from __future__ import annotations

from typing import Any

import pytest

from config_daemon.worker.apply import RolledBack
from config_daemon.worker.follow import Follower
from config_daemon.worker.keep import Keep
from config_daemon.worker.report import Report
from config_daemon.worker.trust import Trust
from tests.keyrings import ring_of
from tests.worker.edge import PROBLEM, Edge
from tests.worker.updates import KEY, SERVICE, TOPIC, TOPICS, tombstone, update, with_secrets

LATE_REFUSALS = {
    "cannot-open": with_secrets(2),
    "invalid": update(2, {"invalid": 1}),
    "apply-failed": update(2, {"failing": 1}),
}


def test_the_first_message_is_applied_kept_and_reported(edge: Edge) -> None:
    raw = update(5, {"a": 1}, config_version=3)
    assert edge.receive(raw) == Report(SERVICE, 1, 5, 3, "applied", None, ("unconfirmed",))
    assert edge.applied == [{"a": 1}]
    assert (edge.floor(), edge.kept().current, edge.kept().outcome) == (5, raw, "applied")


def test_it_is_kept_before_it_is_applied_and_its_end_before_it_is_reported(edge: Edge) -> None:
    edge.receive(update(1))
    seen: list[tuple[str, int | None, str | None]] = []
    edge.on_apply = lambda _: seen.append(("apply", edge.floor(), edge.kept().outcome))
    edge.on_report = lambda report: seen.append(("report", edge.floor(), edge.kept().outcome))
    edge.follower.receive(TOPIC, update(2))
    edge.follower.receive(TOPIC, update(3, {"failing": 1}))
    assert seen == [
        ("apply", 2, "pending"),
        ("report", 2, "applied"),
        ("apply", 3, "pending"),
        ("report", 3, "rejected"),
    ]


@pytest.mark.parametrize("reason", LATE_REFUSALS)
def test_a_rejected_message_keeps_what_runs_and_raises_the_floor(edge: Edge, reason: str) -> None:
    edge.receive(update(1))
    report = edge.receive(LATE_REFUSALS[reason])
    assert (report.sequence, report.state, report.reason) == (2, "rejected", reason)
    assert edge.runs == {"number": 1}
    assert (edge.floor(), edge.kept().current, edge.kept().outcome) == (2, update(1), "rejected")
    assert edge.receive(update(1)).reason == "rollback"
    assert edge.receive(update(2, {"better": 1})).reason == "fork"
    assert edge.receive(update(3)).state == "applied"
    assert edge.runs == {"number": 3}


@pytest.mark.parametrize("reason", LATE_REFUSALS)
def test_a_rejected_message_comes_again_and_is_only_held(edge: Edge, reason: str) -> None:
    edge.receive(LATE_REFUSALS[reason])
    attempts = len(edge.attempts)
    assert edge.receive(LATE_REFUSALS[reason]).state == "held"
    assert len(edge.attempts) == attempts
    assert edge.kept().current is None


def test_a_rejection_tells_a_person_what_is_wrong(edge: Edge) -> None:
    assert edge.receive(update(1, {"invalid": 1})).errors == (PROBLEM,)
    (failed,) = edge.receive(update(2, {"failing": 1})).errors
    assert "RuntimeError: this program cannot do that" in failed.message
    (foreign,) = edge.receive(b"{}").errors
    assert foreign.suggestion


def test_a_schema_that_breaks_refuses_and_repeats_no_values(edge: Edge) -> None:
    edge.on_validate = lambda values: int(values["port"])
    report = edge.receive(update(1, {"port": "hunter2"}))
    assert (report.state, report.reason) == ("rejected", "invalid")
    assert "hunter2" not in report.errors[0].message


def test_the_program_gets_what_its_own_schema_made(edge: Edge) -> None:
    edge.on_validate = lambda values: ("typed", values["number"])
    edge.receive(update(7))
    assert edge.applied == [("typed", 7)]


def test_equal_bytes_again_are_held(edge: Edge) -> None:
    edge.receive(update(1))
    kept = edge.state_file.stat().st_mtime_ns
    assert edge.receive(update(1)) == Report(SERVICE, 1, 1, 1, "held", None, ("unconfirmed",))
    assert (edge.attempts, edge.state_file.stat().st_mtime_ns) == ([{"number": 1}], kept)


def test_a_reseal_with_equal_values_is_taken_and_not_applied(edge: Edge) -> None:
    edge.receive(update(1, {"a": [1, {"b": None}]}))
    assert edge.receive(update(2, {"a": [1, {"b": None}]})).state == "applied"
    assert len(edge.attempts) == 1
    assert (edge.floor(), edge.kept().current) == (2, update(2, {"a": [1, {"b": None}]}))
    life = edge.next_life()
    assert life.applied == [{"a": [1, {"b": None}]}]
    assert life.receive(update(3, {"a": [1, {"b": None}]})).state == "applied"
    assert len(life.attempts) == 1


def test_after_a_failed_attempt_nobody_knows_what_runs_and_equal_values_are_handed_over(edge: Edge) -> None:
    edge.receive(update(1))
    edge.receive(update(2, {"failing": 1}))
    assert edge.receive(update(3, {"number": 1})).state == "applied"
    assert edge.attempts == [{"number": 1}, {"failing": 1}, {"number": 1}]
    assert edge.receive(update(4, {"number": 1})).state == "applied"
    assert len(edge.attempts) == 3, "now it is known again"


@pytest.mark.parametrize("later", [update(2, {"invalid": 1}), update(2, {"back": 1})])
def test_what_was_not_tried_or_was_put_back_leaves_no_doubt_about_what_runs(edge: Edge, later: bytes) -> None:
    def taken(values: Any) -> None:
        if "back" in values:
            raise RolledBack("no")

    edge.on_apply = taken
    edge.receive(update(1))
    edge.receive(later)
    assert edge.receive(update(3, {"number": 1})).state == "applied"
    assert edge.applied == [{"number": 1}], "it was not handed over again"


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (0, False), (1, 1.0), ([0], [False]), ({"x": 1}, {"x": True})]
)
def test_values_that_python_calls_equal_and_json_does_not_are_applied(edge: Edge, old: Any, new: Any) -> None:
    edge.receive(update(1, {"debug": old}))
    edge.receive(update(2, {"debug": new}))
    assert repr(edge.runs) == repr({"debug": new})


def test_a_program_may_change_the_values_it_was_given(edge: Edge) -> None:
    edge.on_apply = lambda values: values.update(number=2)
    edge.receive(update(1))
    edge.receive(update(2))
    assert len(edge.attempts) == 2, (
        "number 2 runs, because the program was told so, not because it edited number 1"
    )


def test_a_failed_message_is_never_what_the_next_one_falls_back_to(edge: Edge) -> None:
    edge.receive(update(1))
    for sequence in (2, 3, 4):
        edge.receive(update(sequence, {"failing": sequence}))
    assert (edge.floor(), edge.kept().current) == (4, update(1))
    assert edge.next_life().runs == {"number": 1}


def test_a_tombstone_lets_the_program_run_and_the_next_life_without(edge: Edge) -> None:
    edge.receive(update(1))
    report = edge.receive(tombstone(2))
    assert (report.sequence, report.state, report.reason) == (2, "deleted", None)
    assert (edge.applied, edge.kept().outcome, edge.kept().current) == ([{"number": 1}], "deleted", None)
    life = edge.next_life()
    assert (life.attempts, life.reports, life.floor()) == ([], [], 2)
    assert life.receive(tombstone(2)).state == "held"
    assert life.receive(update(1)).reason == "rollback"


def test_what_is_created_again_after_a_tombstone_is_applied(edge: Edge) -> None:
    edge.receive(update(1))
    edge.receive(tombstone(2))
    assert edge.receive(update(3)).state == "applied"
    assert edge.runs == {"number": 3}
    edge.receive(tombstone(4))
    life = edge.next_life()
    assert life.receive(update(5, {"number": 3})).state == "applied"
    assert life.applied == [{"number": 3}]


def test_equal_values_after_a_tombstone_still_run_here_and_start_the_next_life(edge: Edge) -> None:
    edge.receive(update(1, {"a": 1}))
    edge.receive(tombstone(2))
    assert edge.receive(update(3, {"a": 1})).state == "applied"
    assert len(edge.attempts) == 1
    assert edge.next_life().runs == {"a": 1}


def test_a_tombstone_asks_neither_for_keys_nor_for_the_schema(edge: Edge) -> None:
    edge.on_validate = lambda values: pytest.fail("asked the schema")
    secrets = {"nonce": "", "ciphertext": "", "recipients": {}}
    assert edge.receive(update(1, {}, deleted=True, secrets=secrets)).state == "deleted"


def test_a_failing_recreation_leaves_the_next_life_without_config(edge: Edge) -> None:
    edge.receive(update(1))
    edge.receive(tombstone(2))
    edge.receive(update(3, {"failing": 1}))
    assert edge.next_life().attempts == []


def test_services_do_not_touch_each_other(edge: Edge) -> None:
    trust = Trust(ring_of(KEY.verify_key), [SERVICE, "global"], TOPICS)
    applied: list[tuple[str, Any]] = []
    keep = Keep(edge.folder, trust.anchor)
    both = Follower(
        trust, keep, [SERVICE, "global"], TOPICS,
        lambda handed: applied.append((handed.service, handed.values)), edge.reports.append,
        edge.lookout, first_use="run",
    )  # fmt: skip
    both.start()
    both.receive(TOPIC, update(9))
    both.receive(TOPICS.config("global"), update(2, service="global"))
    both.receive(TOPICS.config("global"), update(10))  # a good message, but of the other one
    assert applied == [(SERVICE, {"number": 9}), ("global", {"number": 2})]
    assert edge.reports[-1].reason == "wrong-service"
    assert (edge.floor(), keep.load("global").belief.floor[1]) == (9, 2)  # type: ignore[index]


def test_the_programs_own_troubles_are_not_taken_for_a_full_disk(edge: Edge) -> None:
    said: list[Report] = []

    def into_a_closed_pipe(report: Report) -> None:
        said.append(report)
        raise BrokenPipeError("nobody reads this")

    edge.on_report = into_a_closed_pipe
    for raw in (update(1), update(2, {"failing": 1}), update(3, {"invalid": 1}), tombstone(4), b""):
        with pytest.raises(BrokenPipeError):
            edge.follower.receive(TOPIC, raw)
    assert [report.state for report in said] == ["applied", "rejected", "rejected", "deleted", "rejected"]
    assert (edge.floor(), edge.kept().outcome) == (4, "deleted")
