"""What the daemon says of itself can be read by all, deleted by all, and never stops the daemon."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from config_daemon.store.status import FORMAT, KEPT_EVENTS, ServiceStatus, StatusBoard, StatusView

AT = "2026-01-02T03:04:05.678Z"
TABLES = {  # what the API reads
    "answers": ["request_id", "kind", "state", "at", "result_json"],
    "conditions": ["name", "subject", "severity", "since", "detail", "remedy"],
    "daemon": ["key", "value"],
    "enrollments": ["worker", "request_json", "fingerprint", "proof_ok", "seen_at"],
    "env_locks": ["service", "key", "file", "line"],
    "events": ["at", "level", "name", "facts_json"],
    "samples": ["metric", "at", "value"],
    "services": [
        "service", "config_version", "effective_json", "sources_json", "generation", "sequence", "body_sha256", "state",
        "state_since", "error_json",
    ],
    "workers": ["worker", "service", "status_json", "verified", "key_id", "seen_at", "presence"],
}  # fmt: skip


def row(service: str = "stt-worker", **more: Any) -> ServiceStatus:
    return ServiceStatus(service, 3, '{"gain":2}', '{"gain":"env"}', 1, 7, "ab", "in-flight", AT, "[]")._replace(**more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "status.db"


@pytest.fixture
def board(path: Path) -> Iterator[StatusBoard]:
    board = StatusBoard(path)
    yield board
    board.close()


@pytest.fixture
def view(path: Path) -> StatusView:
    return StatusView(path)


def everything(view: StatusView) -> list[Any]:
    return [
        view.daemon(), view.services(), view.service("stt-worker"), view.conditions(), view.env_locks("stt-worker"),
        view.env_lock("stt-worker", "gain"), view.answer("r1"), view.events(),
    ]  # fmt: skip


NOTHING: list[Any] = [{}, [], None, [], {}, None, None, []]


def tell(board: StatusBoard, mode: str = "normal") -> None:
    board.daemon(mode=mode, pid=5, health={"ok": True})
    board.service(row())
    board.flush()


def test_what_was_told_is_read(board: StatusBoard, view: StatusView) -> None:
    board.daemon(mode="normal", health={"ok": True, "err": None})
    board.service(row())
    board.conditions([("db-locked", "config.db", "critical", AT, "held", "wait")])
    board.env_locks([("stt-worker", "gain", "/srv/.env", 7)])
    board.answer("r1", "retry", "done", AT, {"service": "x"})
    board.event(AT, "info", "started", {"pid": 5})
    board.flush()
    assert everything(view) == [
        {"mode": "normal", "health": {"ok": True, "err": None}}, [row()], row(),
        [("db-locked", "config.db", "critical", AT, "held", "wait")], {"gain": ("/srv/.env", 7)}, ("/srv/.env", 7),
        ("done", {"service": "x"}), [(AT, "info", "started", {"pid": 5})],
    ]  # fmt: skip


def test_the_tables_are_those_that_other_programs_read(board: StatusBoard, path: Path) -> None:
    tell(board)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found = connection.execute(
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
    )
    columns: dict[str, list[str]] = {}
    for table, column in found:
        columns.setdefault(table, []).append(column)
    assert columns == TABLES
    assert connection.pragma("user_version") == FORMAT
    connection.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_later_news_replaces_earlier(board: StatusBoard, view: StatusView) -> None:
    tell(board)
    board.daemon(mode="rebuilding")
    board.service(row(config_version=4))
    board.conditions([("a", "", "info", AT, "", "")])
    board.conditions([("b", "", "info", AT, "", "")])
    board.env_locks([("stt-worker", "gain", "f", 1)])
    board.env_locks([])
    board.flush()
    assert view.daemon()["mode"] == "rebuilding"
    assert view.services() == [row(config_version=4)]
    assert [name for name, *_ in view.conditions()] == ["b"]
    assert view.env_locks("stt-worker") == {}


def test_a_service_goes_through_its_states(board: StatusBoard, view: StatusView) -> None:
    board.service(row("a"))
    board.service(row("b", state="invalid"))
    board.confirmed("a", 2, 9, "cd", "later", held_back=False)
    board.confirmed("b", 2, 10, "ef", "later", held_back=True)
    board.flush()
    assert view.service("a") == row("a", generation=2, sequence=9, body_sha256="cd", state="confirmed", state_since="later")
    assert view.service("b") == row("b", generation=2, sequence=10, body_sha256="ef", state="invalid", state_since="later")
    board.state("a", "denied", "even later")
    board.forget("b")
    board.flush()
    assert view.service("a") == row(
        "a", generation=2, sequence=9, body_sha256="cd", state="denied", state_since="even later"
    )
    assert view.service("b") is None


def test_a_new_daemon_takes_back_what_the_last_one_said_of_services(board: StatusBoard, view: StatusView) -> None:
    tell(board)
    board.conditions([("a", "", "info", AT, "", "")])
    board.env_locks([("stt-worker", "gain", "f", 1)])
    board.event(AT, "info", "started", {})
    board.answer("r1", "retry", "done", AT, {})
    board.flush()
    board.reset()
    board.flush()
    assert everything(view)[1:6] == NOTHING[1:6]
    assert view.answer("r1") == ("done", {})
    assert len(view.events()) == 1


def test_the_last_thousand_events_are_kept(board: StatusBoard, view: StatusView, path: Path) -> None:
    for number in range(KEPT_EVENTS + 50):
        board.event(AT, "info", "tick", {"n": number})
    board.flush()
    assert [facts["n"] for *_, facts in view.events()] == list(range(50, KEPT_EVENTS + 50))
    assert [facts["n"] for *_, facts in view.events(2)] == [KEPT_EVENTS + 48, KEPT_EVENTS + 49]


@pytest.mark.parametrize(
    ("fixed", "key", "found"),
    [
        ("gain", "gain", True), ("audio", "audio.rate", True), ("audio.rate", "audio", True),
        ("gain", "gains", False), ("gains", "gain", False), ("audio_rate", "audio.rate", False),
        ("audio_rate", "audioxrate.x", False), ("retry_max", "retry.max.x", False), ("audio.rate", "audio.rates", False),
    ],
)  # fmt: skip
def test_a_fixed_key_covers_what_is_in_it_and_nothing_that_only_looks_like_it(
    board: StatusBoard, view: StatusView, fixed: str, key: str, found: bool
) -> None:
    board.env_locks([("stt-worker", fixed, ".env", 3), ("router", key, ".env", 4)])
    board.flush()
    assert view.env_lock("stt-worker", key) == ((".env", 3) if found else None)


def test_looking_at_what_was_never_told_makes_no_file(view: StatusView, path: Path) -> None:
    assert everything(view) == NOTHING
    assert os.listdir(path.parent) == []


def test_looking_while_the_file_is_empty_or_foreign_is_seeing_nothing(view: StatusView, path: Path) -> None:
    for content in (b"", b"no database " * 500, b"SQLite format 3\0" + bytes(4000)):
        path.write_bytes(content)
        assert everything(view) == NOTHING
        assert path.read_bytes() == content


def remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@pytest.mark.parametrize("everything_of_it", [True, False])
def test_it_may_be_deleted_at_any_time(board: StatusBoard, view: StatusView, path: Path, everything_of_it: bool) -> None:
    tell(board)
    remove(path) if everything_of_it else path.unlink()
    assert everything(view) == NOTHING
    tell(board, "rebuilding")
    assert view.daemon()["mode"] == "rebuilding"
    assert view.services() == [row()]


def test_who_writes_learns_that_what_was_told_before_is_gone(board: StatusBoard, path: Path) -> None:
    """Else the services that do not change would be missing until the daemon starts again."""
    tell(board)
    board.daemon(mode="normal")
    assert board.flush() is False
    assert board.flush() is False
    remove(path)
    board.daemon(mode="normal")
    assert board.flush() is True
    board.daemon(mode="normal")
    assert board.flush() is False


def test_an_earlier_daemons_board_is_used_on(path: Path, view: StatusView) -> None:
    for pid in (1, 2):
        board = StatusBoard(path)
        board.event(AT, "info", "started", {"pid": pid})
        board.flush()
        board.close()
    assert [facts["pid"] for *_, facts in view.events()] == [1, 2]


@pytest.mark.parametrize(
    "content", [b"no database " * 500, b"SQLite format 3\0" + bytes(4000), b"", b"\0" * 100]
)
def test_a_damaged_file_is_made_anew(board: StatusBoard, view: StatusView, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    tell(board)
    assert view.services() == [row()]


def test_a_file_damaged_under_an_open_board_is_made_anew(board: StatusBoard, view: StatusView, path: Path) -> None:
    tell(board)
    for suffix in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        beside.write_bytes(b"\xa5" * beside.stat().st_size)
    for _ in range(2):
        tell(board, "rebuilding")
    assert view.daemon()["mode"] == "rebuilding"


def test_the_board_of_another_program_version_is_made_anew(board: StatusBoard, view: StatusView, path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE daemon(other); PRAGMA user_version = 99")
    connection.close()
    tell(board)
    assert view.daemon()["mode"] == "normal"


def test_text_that_is_no_text_hides_nothing_else(board: StatusBoard, view: StatusView, path: Path) -> None:
    tell(board)
    board.event(AT, "info", "started", {})
    board.flush()
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE services SET state = CAST(x'ff' AS TEXT)")
    connection.close()
    assert view.services() == []
    assert len(view.events()) == 1


@pytest.mark.parametrize("obstacle", ["folder", "no-folder", "file-as-folder", "link-to-nowhere"])
def test_where_nothing_can_be_written_the_daemon_goes_on(tmp_path: Path, obstacle: str) -> None:
    path = tmp_path / "below" / "status.db"
    if obstacle == "file-as-folder":
        path.parent.touch()
    elif obstacle != "no-folder":
        path.parent.mkdir()
    if obstacle == "folder":
        path.mkdir()
    if obstacle == "link-to-nowhere":
        path.symlink_to(tmp_path / "missing" / "x")
    board = StatusBoard(path)
    for _ in range(3):
        board.daemon(mode="normal")
        board.flush()
    assert board.pending <= 3  # nothing piles up
    board.close()


def test_a_read_only_disk_does_not_stop_the_daemon(board: StatusBoard, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(board)

    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    def query_only(connection: apsw.Connection) -> None:
        connection.execute("PRAGMA query_only=ON")

    board.close()
    monkeypatch.setattr(Path, "unlink", read_only)
    monkeypatch.setattr(Path, "chmod", read_only)
    apsw.connection_hooks.append(query_only)
    try:
        board.daemon(mode="read-only-fallback")
        board.flush()
    finally:
        apsw.connection_hooks.remove(query_only)


def test_a_name_that_is_no_text_does_not_stop_the_daemon(board: StatusBoard, view: StatusView) -> None:
    """A file name may hold bytes that no database takes."""
    board.conditions([("schema-file-invalid", "\udcff.schema.json", "warning", AT, "", "")])
    board.flush()
    tell(board)
    assert view.daemon()["mode"] == "normal"


def test_who_holds_the_board_for_a_moment_takes_nothing_from_it(board: StatusBoard, view: StatusView, path: Path) -> None:
    """A lock passes; what was told before it must not be thrown away for it."""
    tell(board)
    inode = path.stat().st_ino
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    board.daemon(mode="rebuilding")
    board.flush()
    assert view.daemon()["mode"] == "normal"
    other.execute("ROLLBACK")
    other.close()
    board.flush()
    assert view.daemon()["mode"] == "rebuilding"
    assert view.services() == [row()]
    assert path.stat().st_ino == inode


def test_who_holds_the_board_for_ever_does_not_fill_the_memory(
    board: StatusBoard, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config_daemon.store.status.KEPT_PENDING", 3)
    tell(board)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    for number in range(6):
        board.daemon(n=number)
        board.flush()
        assert board.pending <= 4
    other.close()


def test_many_read_while_one_writes(board: StatusBoard, view: StatusView) -> None:
    tell(board)
    for number in range(50):
        board.daemon(n=number)
        board.flush()
        assert view.daemon()["n"] == number
