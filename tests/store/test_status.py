"""What the daemon says of itself can be read by all, deleted by all, and never stops the daemon."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from config_daemon.store.status import FORMAT, KEPT_EVENTS, ServiceStatus, StatusBoard, StatusView
from tests.store.conftest import names

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
    "workers": [
        "worker", "service", "expected", "status_json", "verified", "key_id", "boot", "n", "seen_at", "presence",
        "presence_at", "state", "reason", "response_time_ms", "applied_ms",
    ],
    "convergence": ["service", "body_json"],
    "service_status": [
        "service", "status", "last_check", "response_time_ms", "error_message", "connection_details", "dependencies",
    ],
}  # fmt: skip


def row(service: str = "stt-worker", **more: Any) -> ServiceStatus:
    return ServiceStatus(
        service, 3, '{"gain":2}', '{"gain":"env"}', 1, 7, "ab", "in-flight", AT, "[]"
    )._replace(**more)


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
    board.service("stt-worker", row)
    board.flush()


def test_what_was_told_is_read(board: StatusBoard, view: StatusView) -> None:
    board.daemon(mode="normal", health={"ok": True, "err": None})
    board.service("stt-worker", row)
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
    statement = (
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
    )
    columns: dict[str, list[str]] = {}
    for table, column in connection.execute(statement):
        columns.setdefault(table, []).append(column)
    assert columns == TABLES
    assert connection.pragma("user_version") == FORMAT
    connection.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_later_news_replaces_earlier(board: StatusBoard, view: StatusView) -> None:
    tell(board)
    board.daemon(mode="rebuilding")
    board.service("stt-worker", lambda: row(config_version=4))
    board.conditions([("a", "", "info", AT, "", "")])
    board.conditions([("b", "", "info", AT, "", "")])
    board.env_locks([("stt-worker", "gain", "f", 1)])
    board.env_locks([])
    board.flush()
    assert view.daemon()["mode"] == "rebuilding"
    assert view.services() == [row(config_version=4)]
    assert [name for name, *_ in view.conditions()] == ["b"]
    assert view.env_locks("stt-worker") == {}


@pytest.mark.parametrize("written_between", [True, False])
def test_a_service_goes_through_its_states(
    board: StatusBoard, view: StatusView, written_between: bool
) -> None:
    board.service("a", lambda: row("a"))
    board.service("b", lambda: row("b", state="invalid"))
    if written_between:
        board.flush()
    for service, state in (("a", "confirmed"), ("b", "")):
        board.confirmed(service, 2, 9, "cd", "later", state=state)
    board.flush()
    news = {"generation": 2, "sequence": 9, "body_sha256": "cd", "state_since": "later"}
    assert view.services() == [row("a", state="confirmed", **news), row("b", state="invalid", **news)]
    board.state("a", "denied", "even later")
    board.confirmed("b", 2, 10, "ef", "later", state="confirmed")
    board.forget("b")
    board.flush()
    assert view.services() == [row("a", **(news | {"state": "denied", "state_since": "even later"}))]
    board.confirmed("a", 2, 11, "gh", "at last", state="confirmed")
    board.service("a", lambda: row("a", config_version=4))
    board.service("b", lambda: row("b"))
    board.flush()
    assert view.services() == [row("a", config_version=4), row("b")]


def test_a_new_daemon_takes_back_what_the_last_one_said_of_services(
    board: StatusBoard, view: StatusView
) -> None:
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
        ("audio_rate", "audioxrate.x", False), ("audio.rate", "audio.rates", False),
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
    assert names(path.parent) == []


def test_looking_while_the_file_is_empty_or_foreign_is_seeing_nothing(view: StatusView, path: Path) -> None:
    for content in (b"", b"no database " * 500, b"SQLite format 3\0" + bytes(4000)):
        path.write_bytes(content)
        assert everything(view) == NOTHING
        assert path.read_bytes() == content
