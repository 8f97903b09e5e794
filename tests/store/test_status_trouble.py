"""Whatever becomes of status.db, the daemon goes on, and what it says next can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from config_daemon.store.status import StatusBoard, StatusView
from tests.store.test_status import AT, NOTHING, everything, row, tell


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


def remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@pytest.mark.parametrize("everything_of_it", [True, False])
def test_it_may_be_deleted_at_any_time(
    board: StatusBoard, view: StatusView, path: Path, everything_of_it: bool
) -> None:
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
def test_a_damaged_file_is_made_anew(
    board: StatusBoard, view: StatusView, path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    tell(board)
    assert view.services() == [row()]


def test_a_file_damaged_under_an_open_board_is_made_anew(
    board: StatusBoard, view: StatusView, path: Path
) -> None:
    tell(board)
    for suffix in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        beside.write_bytes(b"\xa5" * beside.stat().st_size)
    for _ in range(2):
        tell(board, "rebuilding")
    assert view.daemon()["mode"] == "rebuilding"


def test_the_board_of_another_program_version_is_made_anew(
    board: StatusBoard, view: StatusView, path: Path
) -> None:
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


def test_a_read_only_disk_does_not_stop_the_daemon(
    board: StatusBoard, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_who_holds_the_board_for_a_moment_takes_nothing_from_it(
    board: StatusBoard, view: StatusView, path: Path
) -> None:
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
