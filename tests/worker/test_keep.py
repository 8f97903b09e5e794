"""Belief on disk: whole or lost, never partly true; no trick with the folder leads anywhere else."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config_daemon.wire.tail import MAX_MESSAGE_BYTES
from config_daemon.worker.keep import Keep, Kept
from config_daemon.worker.trust import Belief, Floor
from tests.worker.edge import Edge
from tests.worker.full_disk import full_disk
from tests.worker.updates import SERVICE, tombstone, update

OLD = Belief(Floor(1, 1, "a" * 64), b"one", None, "applied")
NEW = Belief(Floor(1, 2, "b" * 64), b"two", b"one", "pending")


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    return Keep(tmp_path / "state", "anchor")


def written(members: Any) -> bytes:
    """Return a state file with any content under a digest that fits."""
    body = members if isinstance(members, bytes) else json.dumps(members).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def shape(**changes: Any) -> bytes:
    whole = {
        "anchor": "anchor",
        "floor": [1, 1, "a" * 64],
        "current": "x",
        "previous": None,
        "outcome": "applied",
    }
    return written({**whole, **changes})


@pytest.mark.parametrize(
    "belief",
    [
        OLD,
        NEW,
        Belief(),
        Belief(None, b"one", None, "rejected"),
        Belief(Floor(9, (1 << 53) - 1, "c" * 64), None, b"one", "deleted"),
        Belief(OLD.floor, "ümläut \u2028 𝄞 \x7f".encode(), None, "applied"),
    ],
)
def test_what_is_saved_is_what_is_loaded(keep: Keep, belief: Belief) -> None:
    keep.save(SERVICE, OLD)
    keep.save(SERVICE, belief)
    assert keep.load(SERVICE) == Kept(belief, False)


@pytest.mark.parametrize("text", ["\x7f", "ü", "€", "𝄞", '\\"', "\\u0001"])
def test_two_messages_of_the_largest_size_fit_whatever_is_in_them(keep: Keep, text: str) -> None:
    one = text.encode()
    largest = one * (MAX_MESSAGE_BYTES // len(one))
    belief = Belief(OLD.floor, largest, largest, "applied")
    keep.save(SERVICE, belief)
    assert keep.load(SERVICE) == Kept(belief, False)


def test_nobody_else_can_read_it(edge: Edge) -> None:
    previous = os.umask(0)
    try:
        edge.next_life().receive(update(1))
        assert edge.state_file.stat().st_mode & 0o777 == 0o600
        assert (Edge(edge.folder / "deeper").folder).stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(previous)


@pytest.mark.parametrize(
    ("call", "before", "left"),
    [("os.fsync", 0, OLD), ("pathlib.Path.rename", 0, OLD), ("os.fsync", 1, NEW)],
    ids=["file not synced", "not renamed", "folder not synced"],
)
@pytest.mark.parametrize("end", [Killed(), OSError(errno.ENOSPC, "No space left on device")])
def test_wherever_a_save_ends_the_file_is_the_old_one_or_the_new_one(
    keep: Keep, monkeypatch: pytest.MonkeyPatch, call: str, before: int, left: Belief, end: BaseException
) -> None:
    keep.save(SERVICE, OLD)
    passed: list[int] = []

    def stop(*_: Any) -> None:
        if len(passed) == before:
            raise end
        passed.append(1)

    with monkeypatch.context() as patched:
        patched.setattr(call, stop)
        with pytest.raises(type(end)):
            keep.save(SERVICE, NEW)
    assert keep.load(SERVICE) == Kept(left, False)
    keep.save(SERVICE, NEW)
    assert keep.load(SERVICE) == Kept(NEW, False)


def damaged(edge: Edge) -> list[bytes]:
    good = edge.state_file.read_bytes()
    return [
        b"",
        b"\n",
        b"garbage",
        b"\x00" * len(good),
        good[:10],
        good[:65],
        good[: len(good) // 2],
        good[:-1],
        good + b"x",
        good.replace(b'"applied"', b'"deleted"'),
        bytes([good[0] ^ 1]) + good[1:],
        good[1:],
    ]


def test_a_damaged_state_is_set_aside_and_the_worker_goes_on_as_a_new_one(edge: Edge) -> None:
    edge.receive(update(7))
    for content in damaged(edge):
        edge.state_file.write_bytes(content)
        life = edge.next_life()
        assert life.attempts == []
        assert not edge.state_file.exists()
        assert edge.state_file.with_suffix(".damaged").read_bytes() == content
        report = life.receive(update(3))
        assert (report.state, report.flags) == ("applied", ("unconfirmed", "floor-lost"))
        assert edge.next_life().reports[0].flags == ()


@pytest.mark.parametrize(
    "content",
    [
        written(b"no json"),
        written(b"[" * 100_000),
        written([]),
        written({}),
        shape(outcome="finished"),
        shape(outcome=["applied"]),
        shape(current=5),
        shape(current="\ud800"),
        shape(floor=[1]),
        shape(floor=5),
        shape(floor=["1", "1", "a"]),
        shape(floor=[1, 1.5, "a" * 64]),
        shape(floor=[1, True, "a" * 64]),
        shape(floor={"generation": 1, "sequence": 1, "body_sha256": "a"}),
    ],
)
def test_what_we_would_not_have_written_counts_as_damaged(tmp_path: Path, content: bytes) -> None:
    edge = Edge(tmp_path)
    content = content.replace(b'"anchor": "anchor"', b'"anchor": "%s"' % edge.keep._anchor.encode())
    edge.state_file.write_bytes(written(content.partition(b"\n")[2]))
    assert edge.start().receive(update(1)).flags == ("unconfirmed", "floor-lost")


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def folder(path: Path, _: Path) -> None:
    path.mkdir()
    (path / "something").touch()


def fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("trick", [link, folder, fifo])
def test_a_state_that_is_no_file_is_set_aside_unread(
    edge: Edge, tmp_path: Path, trick: Callable[[Path, Path], None]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    edge.receive(update(9))
    edge.state_file.rename(elsewhere)
    kept = elsewhere.read_bytes()
    trick(edge.state_file, elsewhere)
    life = edge.next_life()
    assert life.attempts == []
    assert life.receive(update(3)).flags == ("unconfirmed", "floor-lost")
    assert elsewhere.read_bytes() == kept
    assert life.state_file.is_file() and not life.state_file.is_symlink()


def test_a_link_where_the_new_file_is_made_leads_nowhere(edge: Edge, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    edge.state_file.with_suffix(".new").symlink_to(elsewhere)
    edge.receive(update(1))
    assert elsewhere.read_text() == "mine"
    assert edge.next_life().runs == {"number": 1}


def test_what_a_killed_save_left_behind_is_no_state(edge: Edge) -> None:
    edge.state_file.with_suffix(".new").write_bytes(written({}))
    assert edge.next_life().reports == []
    assert edge.receive(update(1)).state == "applied"
    assert [path.name for path in edge.folder.iterdir()] == [edge.state_file.name]


@pytest.mark.parametrize("free_bytes", [0, 100])
@pytest.mark.parametrize(
    "raw", [update(2), update(2, {"failing": 1}), update(2, {"invalid": 1}), tombstone(2)]
)
def test_on_a_full_disk_the_old_config_runs_on_and_the_new_one_comes_again(
    edge: Edge, raw: bytes, free_bytes: int
) -> None:
    edge.receive(update(1))
    with full_disk(free_bytes):
        for _ in range(2):
            wanted_again, report = edge.deliver(raw)
            assert (wanted_again, report.state, report.sequence) == (True, "held", 2)
            assert report.errors[0].error_code == "CANNOT_KEEP"
        assert edge.receive(update(1)).state == "held"
    assert (edge.attempts, edge.floor()) == ([{"number": 1}], 1)
    assert edge.receive(raw).state in ("applied", "rejected", "deleted")
    assert edge.floor() == 2


def test_a_full_disk_does_not_use_up_the_one_try_of_this_life(edge: Edge) -> None:
    edge.receive(update(1, {"failing": 1}))
    life = edge.next_life(mended=True)
    with full_disk():
        assert life.deliver(update(1, {"failing": 1}))[0]
    assert life.receive(update(1, {"failing": 1})).state == "applied"


@pytest.mark.parametrize(("values", "state"), [({"failing": 2}, "rejected"), ({"fine": 2}, "applied")])
def test_a_disk_that_fills_up_while_applying_is_told_and_changes_no_verdict(
    edge: Edge, values: dict[str, int], state: str
) -> None:
    edge.receive(update(1))
    full = full_disk()
    edge.on_apply = lambda _: full.__enter__()
    try:
        report = edge.receive(update(2, values))
    finally:
        full.__exit__(None, None, None)
    edge.on_apply = lambda _: None
    assert report.state == state
    assert [error.error_code for error in report.errors][-1] == "CANNOT_KEEP"
    assert edge.receive(update(2, values)).state == "held"
    good = {"number": 1} if state == "rejected" else values
    assert edge.runs == good
    edge.receive(update(3, {"failing": 3}))
    assert edge.next_life().runs == good, "never the message that could not be applied"
