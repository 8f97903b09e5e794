"""While a living daemon is in trouble, nobody writes into the database that may be restored next."""

from __future__ import annotations

from pathlib import Path

import pytest

from config_daemon.store.refusal import refusal_of
from tests.cli.conftest import Cli, Daemon
from tests.e2e.house import House, until


def open_(name: str, subject: str = "config.db") -> tuple[str, str, str, str, str, str]:
    return name, subject, "critical", "", "what it is", "How to mend it."


ALTERED = open_("rows-corrupted", "stt-worker")
FALLBACK = {"mode": "read-only-fallback", "database_status": "corrupted"}
UNFIT = {"mode": "read-only-fallback", "database_status": "schema-mismatch", "misfits": ["crane"]}


@pytest.mark.parametrize(
    ("facts", "conditions", "services", "adopt", "refused"),
    [
        ({"mode": "normal"}, [open_("broker-down"), open_("incomplete", "router")], ["router"], False, False),
        ({}, [], ["router"], False, False),
        (FALLBACK, [], ["router"], False, True),
        (FALLBACK, [open_("broker-down")], ["router"], False, True),
        (FALLBACK, [open_("db-locked")], ["router"], False, True),
        (FALLBACK, [open_("not-the-newest")], ["router"], True, True),
        (FALLBACK, [ALTERED], ["router"], False, False),
        (FALLBACK, [ALTERED, open_("broker-down")], ["router"], False, False),
        (FALLBACK, [ALTERED], ["router", "stt-worker"], False, True),
        (FALLBACK, [ALTERED], ["stt-worker"], True, False),
        (FALLBACK, [ALTERED, open_("disk-full", "marks.json")], ["router"], False, True),
        (FALLBACK, [ALTERED, open_("db-corrupted")], ["stt-worker"], True, True),
        ({"mode": "rebuilding"}, [ALTERED], ["router"], False, True),
        (UNFIT, [open_("model-hash")], ["crane"], False, False),
        (UNFIT, [open_("model-hash")], ["crane", "router"], False, True),
        (UNFIT, [open_("model-hash")], ["router"], True, True),
        (UNFIT, [open_("model-hash"), open_("db-locked")], ["crane"], False, True),
        (UNFIT, [open_("model-hash"), ALTERED], ["stt-worker"], False, True),
        (UNFIT, [open_("model-hash"), ALTERED], ["stt-worker"], True, False),
        (UNFIT, [open_("model-hash"), ALTERED], ["crane"], False, False),
        (FALLBACK, [open_("model-hash")], ["crane"], False, True),
    ],
)
def test_what_is_refused(
    facts: dict, conditions: list, services: list[str], adopt: bool, refused: bool
) -> None:  # type: ignore[type-arg]
    assert (refusal_of(facts, conditions, services, adopt) is not None) is refused


def test_every_write_is_refused_with_reason_and_remedy(cli: Cli, daemon: Daemon) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    daemon.says(("db-locked", "config.db"), mode="read-only-fallback", database_status="locked")
    for words in (
        ["set", "stt-worker", "channels=1"],
        ["unset", "stt-worker", "channels"],
        ["delete", "stt-worker", "--yes"],
        ["rollback", "stt-worker", "--to", "1"],
        ["apply", "-"],
        ["set", "stt-worker", "channels=1", "--dry-run"],
    ):
        result = cli(*words, text='{"router": {}}')
        assert result.code == 69, words
        assert "read-only-fallback" in result.err
        assert "db-locked it is. Mend it." in result.err
    assert cli("set", "stt-worker", "channels=1", "--json").error["error"] == "STORE_UNAVAILABLE"
    assert cli.version("stt-worker") == 1
    daemon.says(mode="normal")
    cli.ok("set", "stt-worker", "channels=1")


def test_what_a_dead_daemon_said_refuses_nothing(cli: Cli, daemon: Daemon) -> None:
    daemon.says(("db-locked", "config.db"), mode="read-only-fallback")
    daemon.ends()
    cli.ok("set", "stt-worker", "channels=1")


def test_altered_rows_stop_only_writes_to_themselves(cli: Cli, daemon: Daemon) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    cli.sql("UPDATE service_configs SET config_json = '{}'")
    daemon.says(("rows-corrupted", "stt-worker"), **FALLBACK)
    refused = cli("set", "stt-worker", "channels=1")
    assert (refused.code, "config-daemon adopt stt-worker" in refused.err) == (69, True)
    assert cli("apply", "-", text='{"stt-worker": {}, "router": {}}').code == 69
    cli.ok("set", "router", "router_stream_min_chars=9")
    cli.ok("adopt", "stt-worker", "--yes")


def mode(cli: Cli) -> str | None:
    told = cli("status", "--json").data
    return told["operational_mode"] if told["running"] else None


def test_a_real_daemon_refuses_and_lets_adopt(tmp_path: Path) -> None:
    """What the daemon writes down is what the command line reads: no stand-in on either side."""
    house = House(tmp_path / "data", "mqtt://127.0.0.1:1")  # nothing listens there, and nobody needs it to
    cli = Cli(house.folder)
    try:
        cli.ok("set", "stt-worker", "channels=2")
        house.daemon()
        until(lambda: mode(cli) == "normal", "a daemon in normal mode")
        until(lambda: cli.json("services")[0]["state"] == "in-flight", "the daemon's view of the service")
        assert cli.json("get", "stt-worker")["config"]["channels"] == 2
        cli.sql("UPDATE service_configs SET config_json = '{}'")
        until(lambda: mode(cli) == "read-only-fallback", "fallback")
        assert cli("set", "stt-worker", "channels=1").code == 69
        cli.ok("set", "router", "router_stream_min_chars=9")
        cli.ok("adopt", "stt-worker", "--yes")
        until(lambda: mode(cli) == "normal", "normal mode again")
        cli.ok("set", "stt-worker", "channels=1")
        line = cli.dotenv("STT_WORKER__SAMPLE_RATE=8000")
        until(lambda: cli("set", "stt-worker", "sample_rate=16000").code == 4, "what .env fixes")
        value = until(lambda: _from_env(cli), "the value of .env")
        assert value == {
            "service": "stt-worker",
            "key": "sample_rate",
            "value": 8000,
            "source": f"env ({cli.files.environment}:{line})",
        }
    finally:
        house.close()


def _from_env(cli: Cli) -> object:
    shown = cli.json("get", "stt-worker", "sample_rate", "--source")
    return shown if shown["source"].startswith("env") else None
