"""Commands about workers: who is expected, how they are told, and how long one waits for them."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from config_daemon.core.convergence import Known, Target, standing_of, tally, vital_of
from config_daemon.store.edgeboard import EdgeBoard, Vitals, WorkerLine
from config_daemon.store.reports import stored_epoch
from config_daemon.store.status import StatusBoard
from config_daemon.wire.messages import timestamp
from config_daemon.wire.status import Attempt, Problem, Running, Status
from config_daemon.wire.workerkeys import WorkerKeys
from config_daemon.worker.identity import KEYS, own_keys
from tests.cli.conftest import Cli, Daemon, refused

AT = "2026-01-02T03:04:05.678Z"
SERVICE = "stt-worker"


def keys_of(worker: str, seed: int = 1) -> WorkerKeys:
    return WorkerKeys(worker, bytes([seed]) * 32, bytes([seed + 100]) * 32)


@pytest.fixture
def box(cli: Cli, tmp_path: Path) -> Path:
    """The file that the worker box-1 wrote."""
    path = tmp_path / "box-1.json"
    path.write_text(keys_of("box-1").public.to_text())
    return path


def now_text(age_seconds: float = 0.0) -> str:
    return timestamp(round(1000 * (time.time() - age_seconds)))


class Fleet:
    """Says in status.db what workers say, as the daemon does."""

    def __init__(self, cli: Cli) -> None:
        self._status = StatusBoard(cli.files.status)
        self._board = EdgeBoard(self._status)
        self._said: dict[str, tuple[Known, str | None]] = {}
        self._presence: dict[str, tuple[str, str | None]] = {}
        self.epoch = stored_epoch(cli.files.database)

    def says(
        self, worker: str, running: int | None, *, attempt: dict[str, Any] | None = None, version: int = 1,
        age: float = 1.0, flags: tuple[str, ...] = (), is_current: bool = True, service: str = SERVICE,
        beacon: int = 1,
    ) -> None:  # fmt: skip
        """A worker runs the message with this number, and the last one that the broker confirmed has `version`."""
        place = {"generation": 1, "body_sha256": "0" * 64}
        status = Status(
            service=service, worker=worker, boot=1, n=1, key_id="0" * 32, issued_at=AT, beacon=beacon,
            flags=list(flags),
            running=running and Running(  # type: ignore[arg-type]
                sequence=running, config_version=running, source="broker", applied_at=AT, **place),  # type: ignore[arg-type]
            last_attempt=attempt and Attempt(at=AT, **place, **attempt), agent="box/1",  # type: ignore[arg-type]
        )  # fmt: skip
        self._said[worker] = (Known(status, age, is_current), now_text(age))
        self.tell(version, service)

    def tell(self, version: int, service: str = SERVICE, needs: tuple[str, ...] = ()) -> None:
        target = Target(version, 1, version)
        standings = {
            name: standing_of(target, known, name in self._presence, 999.0)
            for name, (known, _) in self._said.items()
        }
        for name, (known, seen) in self._said.items():
            self._board.worker(
                WorkerLine(
                    name,
                    service,
                    known.status,
                    "0" * 32,
                    (1, 1),
                    seen,
                    *self._presence.get(name, ("online", None)),
                    *standings[name],
                    5,
                    5,
                )
            )
        found = tally(standings)
        body = {
            "service": service, **target._asdict(), "total": found.total, "converged": found.converged,
            "converged_ms": 5, "worst": list(found.worst),
            **{state.replace("-", "_"): count for state, count in found.counts.items()},
        }  # fmt: skip
        self._board.convergence(service, body, self.epoch)
        self._board.vitals(Vitals(service, vital_of(found.counts), now_text(), 5, "", {}, needs))
        self._status.flush()

    def left(self, worker: str, seconds: float, version: int = 1) -> None:
        """The broker says that a worker left."""
        self._presence[worker] = "offline", now_text(seconds)
        self.tell(version)

    def seen(self, worker: str) -> None:
        self._board.stranger(worker, SERVICE, now_text())
        self._status.flush()


@pytest.fixture
def fleet(cli: Cli, daemon: Daemon) -> Fleet:
    cli.ok("set", SERVICE, "vad_threshold=0.6")
    daemon.publishes(SERVICE, 1, {})
    return Fleet(cli)


def add(cli: Cli, tmp_path: Path, name: str, seed: int = 1, *more: str) -> Any:
    path = tmp_path / f"{name}.json"
    path.write_text(keys_of(name, seed).public.to_text())
    return cli.json("worker", "add", name, "--service", SERVICE, "--keys", str(path), *more)


# add, remove --------------------------------------------------------------------------------------


def test_a_worker_is_added_shown_and_removed(cli: Cli, box: Path) -> None:
    result = cli.ok(
        "worker", "add", "box-1", "--service", SERVICE, "--keys", str(box), "--reason", "first of many"
    )
    assert keys_of("box-1").public.fingerprint in result.out
    (one,) = cli.json("worker", "list")
    assert (one["worker"], one["service"], one["expected"], one["state"]) == (
        "box-1",
        SERVICE,
        True,
        "unknown",
    )
    assert cli.sql("SELECT action, reason FROM access_log") == [("worker-add", "first of many")]
    cli.ok("worker", "remove", "box-1")
    assert cli.json("worker", "list") == []
    cli.ok("audit", "verify")


def test_keys_are_read_from_stdin_too(cli: Cli, box: Path) -> None:
    cli.ok(
        "worker",
        "add",
        "box-1",
        "--service",
        SERVICE,
        "--service",
        "global",
        "--keys",
        "-",
        text=box.read_text(),
    )
    assert [one["service"] for one in cli.json("worker", "list")] == ["global", SERVICE]


def test_the_same_again_is_no_change_and_other_keys_need_a_word(cli: Cli, tmp_path: Path) -> None:
    assert add(cli, tmp_path, "box-1")["outcome"] == "added"
    assert add(cli, tmp_path, "box-1")["outcome"] == "unchanged"
    other = tmp_path / "other.json"
    other.write_text(keys_of("box-1", 2).public.to_text())
    words = ("worker", "add", "box-1", "--service", SERVICE, "--keys", str(other))
    refused(cli(*words), 4, keys_of("box-1").public.fingerprint, "--replace")
    assert keys_of("box-1").public.fingerprint in cli.ok(*words, "--replace").out
    assert cli.json("worker", "list")[0]["fingerprint"] == keys_of("box-1", 2).public.fingerprint


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("Box",), 2, "no name of a worker"),
        (("box-2",), 78, "these are the keys of box-1, not of box-2"),
        (("box-1", "--service", "stt-wroker"), 5, "stt-worker"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    cli: Cli, box: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    refused(cli("worker", "add", *words, "--service", SERVICE, "--keys", str(box)), code, told)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"worker":"box-1","verify_key":"00","box_key":"00"}', "\0"]
)
def test_a_file_that_holds_no_keys_is_refused(cli: Cli, text: str) -> None:
    refused(
        cli("worker", "add", "box-1", "--service", SERVICE, "--keys", "-", text=text), 78, "no public keys"
    )


def test_a_private_file_is_named_as_such_and_nothing_of_it_is_shown(cli: Cli, tmp_path: Path) -> None:
    own_keys(tmp_path, "box-1", lambda count: b"\x07" * count)
    private = tmp_path / KEYS
    result = cli("worker", "add", "box-1", "--service", SERVICE, "--keys", str(private))
    refused(result, 78, "private file", "worker.public.json")
    assert "07" * 32 in private.read_text()
    assert "0707" not in result.err


def test_who_is_not_there_cannot_be_removed(cli: Cli, tmp_path: Path) -> None:
    add(cli, tmp_path, "box-1")
    refused(cli("worker", "remove", "box1"), 5, "Did you mean 'box-1'?")


def test_a_row_that_was_altered_is_listed_and_can_be_removed(cli: Cli, tmp_path: Path) -> None:
    add(cli, tmp_path, "box-1")
    cli.sql("UPDATE workers SET services = '[\"router\"]'")
    assert [one["state"] for one in cli.json("worker", "list")] == ["row-altered"]
    cli.ok("worker", "remove", "box-1")
    assert cli.json("worker", "list") == []


# how they are told --------------------------------------------------------------------------------


def test_one_worker_is_shown_alone(cli: Cli, fleet: Fleet, tmp_path: Path) -> None:
    for seed, name in enumerate(("box-1", "box-2"), 1):
        add(cli, tmp_path, name, seed)
    assert [one["worker"] for one in cli.json("worker", "list", "box-2")] == ["box-2"]
    refused(cli("worker", "list", "box2"), 5, "there is no worker", "Did you mean 'box-2'?")


def test_each_worker_is_told_with_what_it_lacks(cli: Cli, fleet: Fleet, tmp_path: Path) -> None:
    problem = Problem(error_type="x", error_code="X", message="no such model here", suggestion="Load it.")
    fleet.says("box-1", 1)
    bad = {"sequence": 1, "config_version": 1, "state": "rejected", "reason": "invalid", "errors": [problem]}
    fleet.says("box-2", None, attempt=bad)
    fleet.says("box-3", 1, age=999.0, flags=("frozen",))
    fleet.seen("stranger")
    for seed, name in enumerate(("box-1", "box-2", "box-3", "box-4"), 1):
        add(cli, tmp_path, name, seed)
    told = {one["worker"]: (one["state"], one["runs"], one["why"]) for one in cli.json("worker", "list")}
    assert told["box-1"] == ("applied", 1, "")
    assert told["box-2"] == ("rejected", None, "its program refused the values: no such model here")
    assert told["box-3"][:2] == ("silent", 1)
    assert told["box-4"][:2] == ("unknown", None)
    assert told["stranger"][0] == "unverified"
    text = cli.ok("worker", "list").out
    assert "frozen" in text
    assert "17 min ago" in text


def test_who_left_the_broker_is_shown_so_beside_its_state_and_is_not_waited_for_with_success(
    cli: Cli, fleet: Fleet, tmp_path: Path
) -> None:
    add(cli, tmp_path, "box-1")
    fleet.says("box-1", 1)
    fleet.left("box-1", 12.0)
    (one,) = cli.json("worker", "list")
    assert (one["state"], one["presence"]) == ("applied", "offline")
    for text in (cli.ok("worker", "list").out, cli.ok("top").out):
        assert "left the broker 1" in text
    refused(cli("wait", SERVICE, "--timeout", "0"), 1, "box-1  applied: left the broker 1")


def test_who_has_just_started_is_told_so(cli: Cli, fleet: Fleet, tmp_path: Path) -> None:
    add(cli, tmp_path, "box-1")
    fleet.says("box-1", 1, is_current=False, beacon=0)
    (one,) = cli.json("worker", "list")
    assert (one["state"], "first beacon" in one["why"]) == ("pending", True)


def test_who_speaks_with_other_keys_is_told_so(
    cli: Cli, fleet: Fleet, daemon: Daemon, tmp_path: Path
) -> None:
    add(cli, tmp_path, "box-1")
    fleet.says("box-1", None)
    daemon.says(("status-refused", "box-1"), detail="a status was refused: bad-signature")
    assert "other keys" in cli.json("worker", "list")[0]["why"]
    refused(cli("wait", SERVICE, "--timeout", "0"), 1, "worker add box-1", "--replace")


def test_status_tells_of_a_service_whose_workers_fail_and_is_degraded(cli: Cli, fleet: Fleet) -> None:
    fleet.says("box-1", 1)
    assert cli("status").code == 0
    assert "1 of 1 applied" in cli("status").out
    fleet.says("box-2", 1, age=999.0)
    result = cli("status")
    assert result.code == 7
    assert "1 of 2 applied, 1 silent" in result.out
    assert cli("status", "--nagios").code == 1


def test_status_shows_one_service_alone(cli: Cli, fleet: Fleet, daemon: Daemon) -> None:
    daemon.publishes("router", 1, {})
    assert [one["service"] for one in cli.json("status", "router")["services"]] == ["router"]
    refused(cli("status", "routr"), 5, "Did you mean 'router'?")


def test_status_names_the_cause_where_it_lies_in_another_service(
    cli: Cli, fleet: Fleet, daemon: Daemon
) -> None:
    daemon.publishes("router", 1, {})
    fleet.says("box-1", 1, age=999.0)
    router = Fleet(cli)
    router.says("cam", 1, service="router")
    router.tell(1, "router", needs=(SERVICE,))
    assert "unhealthy, because stt-worker is unhealthy" in cli("status").out
    services = {one["service"]: one for one in cli.data("status", code=7)["services"]}
    assert services["router"]["service_status"]["because"] == [SERVICE]


def test_top_without_a_terminal_is_one_page(cli: Cli, fleet: Fleet, tmp_path: Path) -> None:
    add(cli, tmp_path, "box-1")
    fleet.says("box-1", 1)
    text = cli.ok("top").out
    assert "1 of 1 applied" in text
    assert "box-1" in text
    assert cli.json("top")["workers"][0]["state"] == "applied"


def test_top_fits_a_small_terminal_and_ends_with_q(cli: Cli, fleet: Fleet, tmp_path: Path) -> None:
    for number in range(30):
        add(cli, tmp_path, f"box-{number:02}", number + 1)
        fleet.says(f"box-{number:02}", 1 if number else None)
    seen = first_screen(cli, "80")
    assert b" more" in seen
    assert len(seen.split(b"\n")) <= 25


@pytest.mark.parametrize("columns", ["50", "80"])
def test_top_tells_all_of_a_worker_that_left_where_there_is_room(
    cli: Cli, fleet: Fleet, tmp_path: Path, columns: str
) -> None:
    add(cli, tmp_path, "box-1")
    fleet.says("box-1", None)
    fleet.left("box-1", 12.0)
    seen = first_screen(cli, columns)
    for word in (b"offline", b"purpose", b"stopped", b"health", b"1 of 1 service"):
        assert word in seen, word
    assert "…".encode() not in seen


def first_screen(cli: Cli, columns: str) -> bytes:
    """Return the first screen of `top` on a terminal with 24 lines; q ends it."""
    leader, follower = pty.openpty()
    size = {"COLUMNS": columns, "LINES": "24", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "config_daemon.cli.main", "top", "--data", str(cli.folder)],
        stdin=follower, stdout=follower, stderr=follower, env=os.environ | size, close_fds=True,
    )  # fmt: skip
    os.close(follower)
    seen = b""
    while b"q ends" not in seen:
        assert select.select((leader,), (), (), 20)[0], seen
        seen += os.read(leader, 65536)
    os.write(leader, b"q")
    while process.poll() is None:
        if select.select((leader,), (), (), 10)[0]:
            try:
                os.read(leader, 65536)
            except OSError:
                break
    assert process.wait(10) == 0
    os.close(leader)
    return seen


# wait ---------------------------------------------------------------------------------------------


def test_nobody_to_wait_for_is_no_success(cli: Cli, fleet: Fleet) -> None:
    refused(cli("wait", SERVICE), 1, "nobody to wait for", "worker add", "--min")
    assert cli("wait", SERVICE, "--min", "0").code == 0
    refused(cli("wait", SERVICE, "--min", "2", "--timeout", "0.1"), 1, "0 workers of at least 2")
    fleet.seen("stranger")
    refused(cli("wait", SERVICE), 1, "stranger is there and does not count")


def test_what_is_not_there_cannot_be_waited_for(cli: Cli, fleet: Fleet) -> None:
    refused(cli("wait", "stt-wroker"), 5, "stt-worker")
    refused(cli("wait", "tts-worker"), 5, "no config yet")


def test_without_a_daemon_nobody_waits(cli: Cli) -> None:
    cli.ok("set", SERVICE, "vad_threshold=0.6")
    refused(cli("wait", SERVICE), 8, "no daemon is running")


def test_everybody_runs_it(cli: Cli, fleet: Fleet, tmp_path: Path) -> None:
    add(cli, tmp_path, "box-1")
    fleet.says("box-1", 1)
    assert "runs on 1 worker" in cli.ok("wait", SERVICE).out
    assert cli.ok("wait", SERVICE, "--version", "1", "--json").data["result"] == "applied"


def test_what_another_life_of_the_database_published_is_no_success(
    cli: Cli, fleet: Fleet, tmp_path: Path
) -> None:
    add(cli, tmp_path, "box-1")
    fleet.epoch = "4cbb9437-85a6-4e8c-b9ba-8fd0a3d8d5a1"  # as right after a restore
    fleet.says("box-1", 1)
    refused(cli("wait", SERVICE, "--timeout", "0.1"), 1, "version 1 is not published yet")


def test_who_does_not_run_it_is_named_with_the_reason(cli: Cli, fleet: Fleet, tmp_path: Path) -> None:
    for seed, name in enumerate(("box-1", "box-2"), 1):
        add(cli, tmp_path, name, seed)
    fleet.says("box-1", 1)
    refused(
        cli("wait", SERVICE, "--timeout", "0.1"),
        1,
        "does not run on 1 of 2 workers",
        "box-2",
        "has not heard of it yet",
    )
    fleet.says(
        "box-2",
        None,
        attempt={
            "sequence": 1,
            "config_version": 1,
            "state": "rejected",
            "reason": "apply-failed",
            "errors": [],
        },
    )
    refused(cli("wait", SERVICE, "--timeout", "0.1"), 1, "rejected", "could not apply")
    lines = [json.loads(line) for line in cli("wait", SERVICE, "--timeout", "0.1", "--json").out.splitlines()]
    assert [line.get("result") for line in lines] == [None, "timed-out"]
    assert [one["worker"] for one in lines[-1]["waiting"]] == ["box-2"]


def test_a_stale_word_or_one_of_another_version_is_none(cli: Cli, fleet: Fleet, tmp_path: Path) -> None:
    add(cli, tmp_path, "box-1")
    for state in ({"is_current": False}, {"age": 999.0}, {"running": None}):
        fleet.says("box-1", **{"running": 1, **state})  # type: ignore[arg-type]
        assert cli("wait", SERVICE, "--timeout", "0").code == 1, state
    fleet.says("box-1", 1)
    refused(cli("wait", SERVICE, "--version", "2", "--timeout", "0"), 1, "version 2 is not published yet")
    fleet.says("box-1", 3, version=4)
    for version in ("2", "3"):
        told = cli("wait", SERVICE, "--version", version, "--timeout", "0")
        assert told.code == 1, "a number beside another message than the last one proves nothing"
    fleet.says("box-1", 4, version=4)
    assert cli("wait", SERVICE, "--version", "2", "--timeout", "0").code == 0, "a later one will do"


def test_a_deleted_service_is_waited_for_as_such(
    cli: Cli, fleet: Fleet, daemon: Daemon, tmp_path: Path
) -> None:
    add(cli, tmp_path, "box-1")
    fleet.says("box-1", 1)
    cli.ok("delete", SERVICE, "--yes")
    refused(
        cli("wait", SERVICE, "--timeout", "0"), 1, "1 of 1 worker did not take note", "deleted, at version 2"
    )
    daemon.publishes(SERVICE, 2, {}, state="deleted")
    gone = {"sequence": 2, "config_version": 2, "state": "deleted", "reason": None, "errors": []}
    fleet.says("box-1", 1, attempt=gone, version=2)
    assert "stt-worker is deleted, at version 2; 1 worker took note" in cli.ok("wait", SERVICE).out
    (one,) = cli.json("worker", "list")
    assert (one["state"], one["deleted"]) == ("applied", True)
    assert "keeps version 1" in one["why"]
    daemon.forgets(SERVICE)
    refused(cli("wait", SERVICE), 5, "stt-worker is deleted, at version 2", "rollback")


def test_a_way_back_is_named_only_where_a_worker_refused(cli: Cli, fleet: Fleet, tmp_path: Path) -> None:
    add(cli, tmp_path, "box-1")
    fleet.says("box-1", 1)
    cli.ok("set", SERVICE, "vad_threshold=0.7")
    assert "rollback" not in cli("wait", SERVICE, "--timeout", "0").err
    bad = {"sequence": 2, "config_version": 2, "state": "rejected", "reason": "invalid", "errors": []}
    fleet.says("box-1", 1, attempt=bad, version=2)
    refused(cli("wait", SERVICE, "--timeout", "0"), 1, "`config-daemon rollback stt-worker --to 1`")


def test_ctrl_c_ends_the_waiting(cli: Cli, fleet: Fleet, tmp_path: Path) -> None:
    add(cli, tmp_path, "box-1")
    fleet.says("box-1", None)
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "config_daemon.cli.main", "wait", SERVICE, "--data", str(cli.folder)],
        stdout=subprocess.PIPE, stderr=follower, env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(follower)
    seen = io.BytesIO()
    while b"0/1" not in seen.getvalue():  # the bar
        assert select.select((leader,), (), (), 20)[0], seen.getvalue()
        seen.write(os.read(leader, 65536))
    process.send_signal(signal.SIGINT)
    while process.poll() is None and select.select((leader,), (), (), 1)[0]:
        try:
            os.read(leader, 65536)
        except OSError:
            break
    assert process.wait(10) == 130
    os.close(leader)
