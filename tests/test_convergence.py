"""What a worker counts as: one total table, and what follows from it for a service and those that need it."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest

from config_daemon.core.convergence import (
    STATES,
    VITALS,
    Known,
    Standing,
    Target,
    Vital,
    root_causes,
    standing_of,
    tally,
    vital_of,
)
from config_daemon.wire.convergence import TOLD_WORKERS, WorkerState
from config_daemon.wire.status import Attempt, AttemptState, Running, Status

AT = "2026-01-02T03:04:05.678Z"
TARGET = Target(7, 2, 50)
PLACE = {"generation": 2, "config_version": 7, "body_sha256": "0" * 64}


def known(
    running: int | None = None, attempt: AttemptState | None = None, *, about: int = 50, age: float | None = 1.0,
    current: bool = True, reason: str | None = None,
) -> Known:  # fmt: skip
    runs = None if running is None else Running(sequence=running, source="broker", applied_at=AT, **PLACE)  # type: ignore[arg-type]
    tried = None if attempt is None else Attempt(
        sequence=about, state=attempt, reason=reason, errors=[], at=AT, **PLACE  # type: ignore[arg-type]
    )  # fmt: skip
    status = Status(
        service="router", worker="box", boot=1, n=1, key_id="0" * 32, issued_at=AT, beacon=1, running=runs,
        last_attempt=tried, flags=[], agent="test/1",
    )  # fmt: skip
    return Known(status, age, current)


@pytest.mark.parametrize(
    ("what", "gone", "state", "reason"),
    [
        (None, False, "silent", None),
        (None, True, "offline", None),
        (known(50), False, "applied", None),
        (known(50), True, "applied", None),  # presence never beats what was signed
        (known(50, current=False), False, "stale", None),
        (known(50, current=False), True, "offline", None),
        (known(50, age=180.0), False, "applied", None),
        (known(50, age=180.1), False, "silent", None),
        (known(50, age=None), False, "silent", None),
        (known(50, age=None), True, "offline", None),
        (known(50, age=181.0), True, "offline", None),
        (known(49), False, "pending", None),
        (known(51), False, "pending", None),
        (known(None), False, "pending", None),
        (known(49), True, "offline", None),
        (known(49, age=999.0), False, "silent", None),
        (known(49, "rejected", reason="invalid"), False, "rejected", "invalid"),
        (known(49, "rejected", reason="invalid", age=999.0), True, "rejected", "invalid"),
        (known(49, "rolled-back", reason="apply-failed"), False, "rolled-back", "apply-failed"),
        (known(49, "rejected", about=49, reason="invalid"), False, "pending", None),
        (known(49, "pending", reason="restart-needed"), False, "pending", "restart-needed"),
        (known(49, "applied"), False, "pending", None),  # it says that it runs another one
        (known(50, "rejected", about=51, reason="invalid"), False, "applied", None),
        (known(49, "deleted"), False, "applied", None),
        (known(None, "deleted"), False, "applied", None),
        (known(None, "deleted", about=48), False, "pending", None),
        (known(None, "deleted", current=False), False, "stale", None),
    ],
)
def test_what_a_worker_counts_as(
    what: Known | None, gone: bool, state: WorkerState, reason: str | None
) -> None:
    assert standing_of(TARGET, what, gone, 181.0) == Standing(state, reason)


@pytest.mark.parametrize("what", [None, known(50, age=None), known(49, age=None)])
def test_who_was_not_listened_to_for_long_is_not_silent_yet(what: Known | None) -> None:
    assert standing_of(TARGET, what, False, 180.0).state == "pending"
    assert standing_of(TARGET, what, False, 180.1).state == "silent"
    assert standing_of(TARGET, known(50, age=181.0), False, 1.0).state == "silent"


def test_the_table_is_total() -> None:
    """Every combination is one of the seven states, and only a fresh word of the worker's own is a good one."""
    assert set(STATES) == set(get_args(WorkerState)) == set(VITALS)
    seen = set()
    for running, attempt, about, age, current, gone in itertools.product(
        (None, 49, 50), (None, *get_args(AttemptState)), (49, 50), (None, 0.0, 180.0, 181.0), (True, False),
        (True, False),
    ):  # fmt: skip
        what = known(running, attempt, about=about, age=age, current=current)
        state = standing_of(TARGET, what, gone, 181.0).state
        seen.add(state)
        if state == "applied":
            assert (age is not None and age <= 180.0 and current) and (
                running == 50 or (attempt, about) == ("deleted", 50)
            )
    assert seen == set(STATES)


def test_another_generation_is_another_message() -> None:
    assert standing_of(TARGET._replace(generation=3), known(50), False, 0.0).state == "pending"


def test_every_worker_counts_once_and_the_gravest_are_named_first() -> None:
    standings = {f"w{number}": Standing(state) for number, state in enumerate(reversed(STATES))}
    standings |= {f"x{number}": Standing("pending") for number in range(20)}
    found = tally(standings)
    assert found.total == len(standings) == sum(found.counts.values())
    assert not found.converged
    assert [one.state for one in found.worst] == [
        *STATES[:-1],
        *["pending"] * (TOLD_WORKERS - len(STATES) + 1),
    ]


def test_nobody_is_no_convergence() -> None:
    assert not tally({}).converged
    assert tally({"a": Standing("applied")}).converged


@pytest.mark.parametrize(
    ("states", "vital"),
    [
        ([], "stopped"), (["offline"], "stopped"), (["applied"], "healthy"), (["applied", "offline"], "healthy"),
        (["pending", "applied"], "starting"), (["pending", "rejected"], "unhealthy"),
        (["silent", "applied"], "unhealthy"),
        (["stale"], "unhealthy"), (["rolled-back"], "unhealthy"), (["offline", "pending"], "starting"),
    ],
)  # fmt: skip
def test_how_a_service_is_by_its_workers(states: list[WorkerState], vital: Vital) -> None:
    assert vital_of({state: states.count(state) for state in STATES}) == vital


def test_the_cause_is_what_is_deepest() -> None:
    needs: dict[str, Any] = {
        "router": ["llm"],
        "llm": ["stt", "unknown"],
        "a": ["b"],
        "b": ["a"],
        "top": ["router", "ok"],
    }
    vitals: dict[str, Vital] = {
        "router": "unhealthy", "llm": "unhealthy", "stt": "stopped", "a": "unhealthy", "b": "unhealthy",
        "top": "healthy", "ok": "healthy",
    }  # fmt: skip
    assert root_causes(vitals, needs) == {
        "router": ["stt"],
        "llm": ["stt"],
        "a": ["b"],
        "b": ["a"],
        "top": ["stt"],
    }
    assert root_causes({"router": "healthy", "llm": "healthy"}, needs) == {}
