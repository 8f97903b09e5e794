"""Rows that somebody edited by hand: refused everywhere, shown and sealed by adopt."""

from __future__ import annotations

import shlex

import pytest

from tests.cli.conftest import Cli

HAND = '{"channels":1,"sample_rate":8000}'


@pytest.fixture
def altered(cli: Cli) -> Cli:
    cli.ok("set", "stt-worker", "channels=2", "vad_threshold=0.7")
    cli.sql("UPDATE service_configs SET config_json = ?", HAND)
    return cli


def test_an_altered_row_is_refused_everywhere_with_the_way_out(altered: Cli) -> None:
    for words in (
        ["set", "stt-worker", "channels=1"],
        ["get", "stt-worker"],
        ["unset", "stt-worker", "channels"],
        ["export"],
        ["rollback", "stt-worker", "--to", "1"],
        ["diff", "stt-worker"],
        ["delete", "stt-worker", "--yes"],
        ["edit", "stt-worker"],
    ):
        result = altered(*words)
        assert (result.code, "config-daemon adopt stt-worker" in result.err) == (69, True), words
    assert [row["state"] for row in altered.json("services")] == ["row-corrupted"]
    altered.ok("set", "router", "router_stream_min_chars=9")


def test_adopt_shows_the_difference_asks_and_seals(altered: Cli) -> None:
    shown = altered("adopt", "stt-worker", text="n\n")
    assert shown.code == 1
    assert "who did it cannot be known" in shown.err
    assert "  - channels: 2\n  + channels: 1\n  + sample_rate: 8000\n  - vad_threshold: 0.7" in shown.err
    assert altered("adopt", "stt-worker").code == 2
    assert altered.json("adopt", "stt-worker", "--dry-run")["adopted"] is False
    assert altered("get", "stt-worker").code == 69
    done = altered.json("adopt", "stt-worker", "--yes", "--reason", "night shift")
    assert (done["config_version"], done["adopted"]) == (2, True)
    assert done["changed"]["vad_threshold"] == {"before": "0.7", "after": None}
    assert altered.stored("stt-worker") == {"channels": 1, "sample_rate": 8000}
    assert altered.json("history", "stt-worker")[0]["reason"] == "night shift"
    altered.ok("rollback", "stt-worker", "--to", "1")
    assert altered.stored("stt-worker") == {"channels": 2, "vad_threshold": 0.7}


def test_a_row_that_needs_no_adoption_says_so(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    assert "needs no adoption: the seal of version 1 fits" in cli.ok("adopt", "stt-worker").out
    assert cli.json("adopt", "stt-worker")["adopted"] is False
    assert cli("adopt", "router").code == 5
    assert cli.version("stt-worker") == 1


@pytest.mark.parametrize(
    "column",
    ["version = 7", "updated_by = 'somebody'", "updated_at = ''", "config_epoch = 'x'", "row_seal = ''"],
)
def test_what_is_altered_beside_the_values_is_adopted_too(cli: Cli, column: str) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    cli.sql(f"UPDATE service_configs SET {column}")  # noqa: S608
    assert cli("get", "stt-worker").code == 69
    result = cli("adopt", "stt-worker", text="y\n")
    assert result.code == 0
    assert "something beside them was altered" in result.err
    assert cli.stored("stt-worker") == {"channels": 2}


def test_values_that_break_the_definition_are_not_adopted(altered: Cli) -> None:
    altered.sql("UPDATE service_configs SET config_json = ?", '{"channels":7,"volume":11}')
    result = altered("adopt", "stt-worker", "--yes", "--json")
    assert (result.code, result.codes) == (1, {"channels": "OUT_OF_RANGE", "volume": "UNKNOWN_KEY"})


@pytest.mark.parametrize(
    "text",
    ['{"channels":', "[]", "", '{"channels":NaN}', "[" * 5000, '{"a":1,"a":2}', '{"channels":"\\ud800"}'],
)
def test_malformed_json_is_told_with_the_command_that_mends_it(altered: Cli, text: str) -> None:
    altered.sql("UPDATE service_configs SET config_json = ?", text)
    result = altered("adopt", "stt-worker", "--yes", "--json")
    assert result.code == 1
    remedy = result.error["errors"][0]["suggestion"]
    program, database, statement = shlex.split(remedy[remedy.index("sqlite3 ") :])
    assert (program, database) == ("sqlite3", str(altered.files.database))
    altered.sql(statement)
    altered.ok("adopt", "stt-worker", "--yes")
    assert altered.stored("stt-worker") == {"channels": 2, "vad_threshold": 0.7}


def test_bytes_that_are_no_text_are_told(altered: Cli) -> None:
    altered.sql("UPDATE service_configs SET config_json = CAST(x'7bff7d' AS TEXT)")
    assert altered("adopt", "stt-worker", "--yes").code == 1
    assert altered("get", "stt-worker").code == 69


def test_adopt_respects_what_env_fixes(altered: Cli) -> None:
    altered.dotenv("STT_WORKER__SAMPLE_RATE=16000")
    assert altered("adopt", "stt-worker", "--yes").code == 4


def test_a_row_that_somebody_inserted_is_adopted(cli: Cli) -> None:
    cli.sql(
        "INSERT INTO service_configs(service, config_json, config_epoch, updated_at) VALUES (?, ?, '', '')",
        "stt-worker",
        '{"channels":2}',
    )
    assert cli.json("adopt", "stt-worker", "--yes")["changed"] == {"channels": {"before": None, "after": "2"}}
    assert cli.json("get", "stt-worker", "channels")["value"] == 2


def test_an_altered_deletion_is_adopted_as_a_deletion(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    cli.ok("delete", "stt-worker", "--yes")
    cli.sql("UPDATE deleted_services SET version = 1")
    assert cli("set", "stt-worker", "channels=1").code == 69
    done = cli.json("adopt", "stt-worker", "--yes")
    assert (done["deleted"], done["config_version"]) == (True, 3)
    assert cli.json("set", "stt-worker", "channels=1")["config_version"] == 4


def test_a_row_altered_again_while_a_person_looks_is_not_sealed(altered: Cli) -> None:
    import config_daemon.cli.session as session

    def altered_meanwhile(*_: object) -> None:
        altered.sql("UPDATE service_configs SET config_json = ?", '{"channels":2}')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "confirm", altered_meanwhile)
        assert altered("adopt", "stt-worker").code == 69
    assert altered("get", "stt-worker").code == 69
