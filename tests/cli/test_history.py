"""What was, and the way back: history, diff, rollback, delete."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from config_daemon.cli.moments import moment
from config_daemon.errors import UsageError
from tests.cli.conftest import Cli

NOW = 1_769_860_800.5  # 2026-01-31T12:00:00.5Z


@pytest.fixture
def lived(cli: Cli) -> Cli:
    """Four versions of stt-worker."""
    cli.ok("set", "stt-worker", "channels=2", "vad_threshold=0.6", "--reason", "a start")
    cli.ok("set", "stt-worker", "vad_threshold=0.7")
    cli.ok("unset", "stt-worker", "channels")
    cli.ok("set", "stt-worker", "whisper_model=small", "vad_threshold=0.8", "--reason", "a better model")
    return cli


def test_history_tells_version_when_who_why_and_what(lived: Cli) -> None:
    rows = lived.json("history", "stt-worker")
    assert [(row["config_version"], row["key"]) for row in rows] == [
        (4, "whisper_model"),
        (4, "vad_threshold"),
        (3, "channels"),
        (2, "vad_threshold"),
        (1, "vad_threshold"),
        (1, "channels"),
    ]
    assert (rows[2]["before"], rows[2]["after"]) == ("2", None)
    assert rows[0]["reason"] == "a better model"
    assert rows[0]["change_id"] == rows[1]["change_id"] != rows[2]["change_id"]
    table = lived.ok("history", "stt-worker").out
    assert re.search(r"^3 +\S+Z +cli:\S+ +channels +2 → unset$", table, re.MULTILINE)


def test_history_is_filtered_by_key_time_and_number(lived: Cli) -> None:
    assert {row["config_version"] for row in lived.json("history", "stt-worker", "vad_threshold")} == {
        1,
        2,
        4,
    }
    limited = lived("history", "stt-worker", "--limit", "2")
    assert limited.out.count("\n") == 3
    assert "older changes are not shown" in limited.err
    assert lived.json("history", "stt-worker", "--since", "2999-01-01") == []
    assert len(lived.json("history", "stt-worker", "--since", "1d", "--limit", "0")) == 6
    lived.sql("UPDATE config_history SET changed_at = '2020-02-02T00:00:00.000Z' WHERE version < 4")
    assert {
        row["config_version"] for row in lived.json("history", "stt-worker", "--since", "2020-02-03")
    } == {4}
    assert len(lived.json("history", "stt-worker", "--since", "2020-02-02T01:00:00+01:00")) == 6


def test_history_of_an_object_takes_in_its_members_and_no_other_key(blob: Cli) -> None:
    blob.ok("set", "blob", "free.a=1", "free.ab=2", "free.a_c=3")
    blob.ok("set", "blob", 'free.a:={"x":1}')
    assert {row["key"] for row in blob.json("history", "blob", "free.a")} == {"free.a", "free.a.x"}


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("30d", "2026-01-01T12:00:00.500Z"),
        ("90m", "2026-01-31T10:30:00.500Z"),
        ("2026-01-02", "2026-01-02T00:00:00.000Z"),
        ("2026-01-02T03:04:05.678+01:00", "2026-01-02T02:04:05.678Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("999999999w", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, stored: str) -> None:
    assert moment(text, NOW) == stored


@pytest.mark.parametrize("text", ["", "yesterday", "30", "30y", "2026-13-01", "\udcff", "9" * 5000 + "d"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        moment(text, NOW)


def test_diff_shows_what_changed_between_versions(lived: Cli) -> None:
    last = lived.json("diff", "stt-worker")
    assert (last["from"], last["to"], last["differs"]) == (3, 4, True)
    assert last["changed"] == {
        "vad_threshold": {"before": "0.7", "after": "0.8"},
        "whisper_model": {"before": None, "after": '"small"'},
    }
    over = lived.ok("diff", "stt-worker", "--from", "1", "--to", "3").out
    assert (
        over
        == "stt-worker  version 1 → version 3\n  - channels: 2\n  - vad_threshold: 0.6\n  + vad_threshold: 0.7\n"
    )
    assert lived.json("diff", "stt-worker", "--from", "0", "--to", "1")["changed"].keys() == {
        "channels",
        "vad_threshold",
    }
    assert lived.json("diff", "stt-worker", "--from", "2", "--to", "2")["differs"] is False


def test_diff_says_by_its_exit_code_that_there_is_a_difference(lived: Cli) -> None:
    assert lived("diff", "stt-worker", "--exit-code").code == 6
    assert lived("diff", "stt-worker", "--from", "4", "--to", "4", "--exit-code").code == 0
    assert lived("diff", "stt-worker", "--from", "9").code == 5


def test_rollback_makes_the_old_values_a_new_version(lived: Cli) -> None:
    done = lived.json("rollback", "stt-worker", "--to", "1")
    assert done["config_version"] == 5
    assert lived.stored("stt-worker") == {"channels": 2, "vad_threshold": 0.6}
    assert lived.json("history", "stt-worker")[0]["reason"] == "rollback to version 1"
    lived.ok("rollback", "stt-worker", "--to", "4", "--reason", "no, forward")
    assert lived.stored("stt-worker") == {"whisper_model": "small", "vad_threshold": 0.8}
    assert lived.json("rollback", "stt-worker", "--to", "6")["stored"] is False


def test_rollback_refuses_what_never_was_and_respects_an_expected_version(lived: Cli) -> None:
    assert lived("rollback", "stt-worker", "--to", "5").code == 5
    assert lived("rollback", "stt-worker", "--to", "0").code == 2
    assert lived("rollback", "router", "--to", "1").code == 5
    conflict = lived("rollback", "stt-worker", "--to", "1", "--expect-version", "3", "--json")
    assert (conflict.code, conflict.error["current_version"]) == (3, 4)
    assert lived.json("rollback", "stt-worker", "--to", "1", "--dry-run")["stored"] is False
    assert lived.version("stt-worker") == 4


def test_rollback_gives_nested_values_back_exactly(blob: Cli) -> None:
    lives = [
        {"free": {}},
        {"free": {"a": {"b": [1, {"c": None}]}, "d": {}}},
        {"free": {"a": 1}, "note": None},
        {"text": ""},
    ]
    for values in lives:
        blob.ok("apply", "-", text=json.dumps({"blob": values}))
    for version, values in enumerate(lives, 1):
        blob.ok("rollback", "blob", "--to", str(version))
        assert blob.stored("blob") == values


def test_a_history_that_does_not_lead_to_the_present_is_not_followed(lived: Cli) -> None:
    lived.sql("UPDATE config_history SET new_value_json = '0.75' WHERE version = 4 AND key = 'vad_threshold'")
    refused = lived("rollback", "stt-worker", "--to", "1")
    assert refused.code == 69
    assert "vad_threshold at version 4" in refused.err
    assert lived.version("stt-worker") == 4


def test_delete_asks_and_rollback_brings_back(lived: Cli) -> None:
    assert lived("delete", "stt-worker", text="n\n").code == 1
    assert lived("delete", "stt-worker").code == 2  # nobody there to answer
    assert lived("delete", "stt-worker", "--json").code == 2
    assert lived.version("stt-worker") == 4
    asked = lived("delete", "stt-worker", text="y\n")
    assert asked.code == 0
    assert "Delete stt-worker, version 4, with 2 set values?" in asked.err
    gone = lived("get", "stt-worker")
    assert (gone.code, "deleted, at version 5" in gone.err) == (5, True)
    assert lived("delete", "stt-worker", "--yes").code == 5
    assert lived("rollback", "stt-worker", "--to", "5").code == 5
    assert lived.json("rollback", "stt-worker", "--to", "4")["config_version"] == 6
    assert lived.stored("stt-worker") == {"whisper_model": "small", "vad_threshold": 0.8}


def test_delete_respects_an_expected_version(lived: Cli) -> None:
    assert lived("delete", "stt-worker", "--yes", "--expect-version", "3").code == 3
    assert lived.json("delete", "stt-worker", "--yes", "--expect-version", "4")["deleted"] is True
    assert lived("delete", "router", "--yes").code == 5


def test_a_row_that_somebody_removed_is_told_and_can_be_withdrawn(lived: Cli, tmp_path: Path) -> None:
    lived.sql("DELETE FROM service_configs")
    assert [row["state"] for row in lived.json("services")] == ["row-missing"]
    for words in (["get", "stt-worker"], ["set", "stt-worker", "channels=1"], ["diff", "stt-worker"]):
        refused = lived(*words)
        assert (refused.code, "delete stt-worker" in refused.err) == (69, True)
    assert lived.json("delete", "stt-worker", "--yes")["config_version"] == 5
    lived.ok("rollback", "stt-worker", "--to", "1")
    assert lived.stored("stt-worker") == {"channels": 2, "vad_threshold": 0.6}
