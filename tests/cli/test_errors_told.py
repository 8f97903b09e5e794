"""Errors as a person gets to see them in `status --json`: created, logged, resolved."""

from __future__ import annotations

import json
from pathlib import Path

from config_daemon.cli.errors_told import SHOWN_RESOLVED, errors_told
from config_daemon.core.health import Findings
from config_daemon.daemon.chronicle import Chronicle
from config_daemon.logs import Logger
from config_daemon.store.status import StatusBoard, StatusView
from tests.cli.conftest import Cli
from tests.e2e.house import House, until

EARLY, LATE = "2026-01-02T03:04:05.678Z", "2026-01-02T03:05:00.000Z"


def test_an_error_is_created_logged_and_resolved(tmp_path: Path) -> None:
    """A daemon without a broker says so, in its log first; a broken schema file comes and goes beside it."""
    house = House(tmp_path / "data", "mqtt://127.0.0.1:1")
    cli = Cli(house.folder)
    broken = house.files.schemas / "stt-worker.schema.json"
    try:
        daemon = house.daemon()

        def told(name: str, state: str) -> dict[str, str] | None:
            found = [one for one in cli("status", "--json").data["errors"] if one["error_code"] == name]
            return found[0] if [one["state"] for one in found] == [state] else None

        def logged(event: str) -> list[str]:
            lines = [json.loads(line) for line in daemon.talk if line.startswith("{")]
            return [line["name"] for line in lines if line["message"] == event]

        assert (
            until(lambda: told("BROKER_DOWN", "logged"), "the broker's absence")["failed_field"] == "broker"
        )
        broken.write_text("{")
        error = until(lambda: told("SCHEMA_FILE_INVALID", "logged"), "the broken file")
        assert "schema-file-invalid" in logged("condition_opened")
        assert (error["error_type"], error["failed_field"]) == ("schema_file_invalid", broken.name)
        assert (error["resolved_at"], error["fallback_applied"]) == (None, False)
        assert error["message"] and error["suggestion"] and error["severity"] == "warning"
        broken.unlink()
        ended = until(lambda: told("SCHEMA_FILE_INVALID", "resolved"), "its end")
        assert "schema-file-invalid" in logged("condition_resolved")
        assert {**ended, "state": "logged", "resolved_at": None} == error, "the same words as before"
        assert ended["resolved_at"] > ended["since"]
    finally:
        house.close()


def test_the_last_hundred_resolved_errors_are_shown_and_each_change_is_told_once(tmp_path: Path) -> None:
    board, findings = StatusBoard(tmp_path / "status.db"), Findings()
    chronicle = Chronicle(Logger("test"), board)
    for number in range(SHOWN_RESOLVED + 5):
        findings.open("rows-corrupted", f"service-{number}", "its seal does not fit", EARLY)
    for _ in range(2):
        chronicle.look(findings, EARLY)
    findings.close("rows-corrupted")
    for _ in range(2):
        chronicle.look(findings, LATE)
    board.flush()
    view = StatusView(tmp_path / "status.db")
    assert len(view.events()) == 2 * (SHOWN_RESOLVED + 5)
    errors = errors_told([], view)
    assert len({error["failed_field"] for error in errors}) == SHOWN_RESOLVED
    assert {(e["state"], e["since"], e["resolved_at"], e["fallback_applied"]) for e in errors} == {
        ("resolved", EARLY, LATE, True)
    }
    board.close()
