"""A real process that dies by signal 9 at the named points, and the ones that come after it."""

from __future__ import annotations

import base64
import json
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.forked import run
from tests.worker import program
from tests.worker.updates import KEY, update


class Life(NamedTuple):
    """What one process did: values applied, reports, how it ended, what it said on stderr."""

    applied: list[Any]
    reports: list[list[Any]]
    status: int
    talk: str


def live(folder: Path, *messages: bytes, failpoint: str = "") -> Life:
    """Run one process over these messages, until they end or it dies."""
    argv = [sys.executable, "-m", program.__name__, str(folder), bytes(KEY.verify_key).hex()]
    lines = "".join(base64.b64encode(raw).decode() + "\n" for raw in messages)
    ran = run(argv, {"CONFIG_DAEMON_FAILPOINT": failpoint}, lines)
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    return Life(
        [facts[1] for facts in said if facts[0] == "applied"],
        [facts[1:] for facts in said if facts[0] == "report"],
        ran.returncode,
        ran.stderr,
    )


@pytest.mark.parametrize(
    ("point", "applied_before"),
    [("worker_after_persist", [{"number": 1}]), ("worker_after_apply", [{"number": 1}, {"number": 2}])],
)
def test_killed_between_the_steps_it_finishes_in_the_next_life(
    tmp_path: Path, point: str, applied_before: list[Any]
) -> None:
    first = live(tmp_path, update(1), update(2), failpoint=f"{point}:kill:2")
    assert (first.status, first.talk) == (-signal.SIGKILL, f"failpoint reached: {point}\n")
    assert first.applied == applied_before
    assert [facts[:2] for facts in first.reports] == [[1, "applied"]], (
        "nothing is said of what was not finished"
    )

    second = live(tmp_path, update(2), update(1), update(3))
    assert (second.status, second.talk) == (0, "")
    assert second.applied == [{"number": 2}, {"number": 3}]
    assert [facts[:3] for facts in second.reports] == [
        [2, "applied", None],
        [2, "held", None],
        [None, "rejected", "rollback"],
        [3, "applied", None],
    ]


def test_killed_at_every_start_it_still_hears_of_the_mended_config(tmp_path: Path) -> None:
    lives = [live(tmp_path, update(1), update(2, {"deadly": 1}))]
    assert (lives[0].status, lives[0].applied) == (-signal.SIGKILL, [{"number": 1}])
    # the broker holds the mended config, but only a worker that comes up can receive it
    for _ in range(2):
        lives.append(live(tmp_path, update(3)))
    assert [one.status for one in lives[1:]] == [-signal.SIGKILL, 0]
    assert lives[2].applied == [{"number": 1}, {"number": 3}]
    assert live(tmp_path).applied == [{"number": 3}]


@pytest.mark.parametrize("point", ["worker_after_persist", "worker_after_apply"])
def test_a_kill_in_the_very_first_life_leaves_a_worker_with_a_floor(tmp_path: Path, point: str) -> None:
    assert live(tmp_path, update(5), failpoint=f"{point}:kill").talk == f"failpoint reached: {point}\n"
    second = live(tmp_path, update(4))
    assert second.applied == [{"number": 5}]
    assert second.reports == [[5, "applied", None, []], [None, "rejected", "rollback", []]]
