"""restore, rebuild and adopt --lkg without a daemon: what they do, ask, say and refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from config_daemon.store import journal, rebuild
from config_daemon.store.ground import load_ground
from tests.cli.conftest import Cli, Daemon, refused
from tests.cli.lives import lose, published


def test_a_lost_database_comes_back_from_the_cache(lived: Cli) -> None:
    lose(lived)
    refused(lived("init"), 78, "restore --from lkg", "restore --from /path/to", "config-daemon rebuild")
    done = lived.ok("restore", "--from", "lkg", "--yes", "--reason", "disk died")
    assert "2 services" in done.out
    assert "history: nobody can say how many rows" in done.out
    assert lived.stored("stt-worker") == {"channels": 2, "vad_threshold": 0.7}
    assert lived.version("stt-worker") == 2
    assert lived.json("set", "stt-worker", "channels=1")["config_version"] == 3
    told = lived.ok("audit", "verify").out
    assert "begun anew" in told and "no sign that anything was altered" in told
    told = lived.data("status", code=8)["last_rebuild"]
    assert (told["state"], told["reason"], told["by"][:4]) == ("done", "disk died", "cli:")
    assert "last restore" in lived("status").out
    refused(lived("rollback", "stt-worker", "--to", "1"), 5, "was lost when the store was rebuilt")


class _Killed(BaseException):
    pass


def test_a_rebuild_that_is_half_done_is_finished_by_whoever_comes(lived: Cli) -> None:
    lose(lived)
    assert "`config-daemon rebuild`" in lived("status").out
    with patch.object(rebuild, "_put", side_effect=_Killed), pytest.raises(_Killed):
        lived("rebuild", "--yes")
    assert not lived.files.database.exists()
    assert lived("init").code == 0  # as `dev` begins: the daemon that comes next finishes it
    assert not lived.files.database.exists(), "no empty one"
    lived.ok("rebuild", "--yes")
    assert lived.json("services")


def test_what_a_rebuild_lost_is_listed(lived: Cli) -> None:
    lived.ok("set", "router", "router_stream_min_chars=10")
    lived.sql("UPDATE service_configs SET config_json = '{}' WHERE service = 'router'")
    done = lived.json("rebuild", "--yes")
    assert done["lost"] == {
        "services": {"router": {"from": 2, "to": 1}}, "after": None, "history_rows": 4, "secrets": 0,
        "workers": 0,
    }  # fmt: skip
    assert lived.stored("router") == {"router_stream_min_chars": 9}
    assert (lived.files.quarantine / done["quarantine"] / "config.db").exists()


def test_a_value_of_env_stays_env_s(lived: Cli) -> None:
    """Frozen into the database it would outlive the line that gave it."""
    lived.dotenv("ROUTER__ROUTER_STREAM_MAX_CHARS=321")
    published(lived, router={"router_stream_max_chars": 321})
    lose(lived)
    lived.ok("restore", "--from", "lkg", "--yes")
    assert lived.stored("router") == {"router_stream_min_chars": 9}


def test_a_copy_is_taken_whole_and_says_what_goes_back(lived: Cli, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    lived.sql(f"VACUUM INTO '{copy}'")
    lived.ok("set", "stt-worker", "channels=1")
    done = lived("restore", "--from", str(copy), text="y\n")
    assert "stt-worker: version 3 is lost, version 2 is there" in done.out
    assert lived.stored("stt-worker") == {"channels": 2, "vad_threshold": 0.7}
    assert [change["config_version"] for change in lived.json("history", "stt-worker")] == [2, 1]


def test_what_cannot_be_taken_changes_nothing(lived: Cli, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("rubbish")
    before = lived.sql("SELECT * FROM config_epoch")
    assert lived("restore", "--from", str(copy), "--yes").code == 69
    assert lived("restore", "--from", str(tmp_path / "nowhere"), "--yes").code == 69
    lived.files.cache.unlink()
    refused(lived("restore", "--from", "lkg", "--yes"), 69, "there is no cache", "config-daemon rebuild")
    refused(lived("adopt", "--lkg", "--yes"), 69, "there is no cache")
    assert lived.sql("SELECT * FROM config_epoch") == before


def test_everything_is_asked_first(lived: Cli) -> None:
    before = lived.sql("SELECT * FROM config_epoch")
    for words in (
        ["restore", "--from", "lkg"], ["rebuild", "--force"], ["rebuild", "--defaults", "--force"], ["adopt", "--lkg"],
    ):  # fmt: skip
        assert lived(*words, text="n\n").code == 1
        assert lived(*words, "--json").code == 2
    assert lived.sql("SELECT * FROM config_epoch") == before


@pytest.mark.parametrize("words", [["--from", "litestream"], ["--from", "lkg", "--at", "2026-01-01"]])
def test_what_comes_later_is_told_as_such(lived: Cli, words: list[str]) -> None:
    refused(lived("restore", *words, "--yes"), 2, "comes with a later version")


def test_without_anything_only_an_empty_store_can_be_made(lived: Cli) -> None:
    lose(lived)
    lived.files.cache.unlink()
    refused(lived("rebuild", "--yes"), 69, "config-daemon rebuild --defaults")
    assert "EMPTY" in lived("rebuild", "--defaults", text="y\n").err
    assert lived.json("services") == []


def test_adopt_lkg_takes_nothing_from_another_database(lived: Cli, made: Path) -> None:
    lose(lived)
    shutil.copy(made / "config.db", lived.files.database)
    lived.ok("set", "tts-worker", "volume_percent=5")
    done = lived.json("adopt", "--lkg", "--yes")
    assert {row["service"] for row in lived.json("services")} == {"router", "stt-worker"}
    assert done["lost"]["after"]["at"] == "2026-01-02T03:04:05.678Z"
    refused(lived("adopt", "--lkg", "--db", "--yes"), 2, "either a SERVICE or --db or --lkg")
    refused(lived("adopt", "--lkg", "--dry-run"), 2, "--dry-run goes with a SERVICE only")


def test_a_living_daemon_is_asked_and_its_refusal_is_the_exit_code(lived: Cli, daemon: Daemon) -> None:
    words = [
        sys.executable,
        "-m",
        "config_daemon.cli.main",
        "restore",
        "--from",
        "copy.db",
        "--yes",
        "--data",
    ]
    asking = subprocess.Popen(
        [*words, str(lived.folder)], stderr=subprocess.PIPE, text=True, cwd=lived.folder.parent
    )
    while not (found := list(lived.files.requests.glob("*.json"))):
        assert asking.poll() is None
        time.sleep(0.005)
    request = json.loads(found[0].read_text())
    assert (request["kind"], request["arguments"]["what"]) == ("restore", "file")
    assert request["arguments"]["file"] == str(lived.folder.parent / "copy.db")
    daemon.answers(
        found[0].stem, "failed", {"message": "it is no copy", "suggestion": "Mend.", "exit_code": 69}
    )
    assert asking.wait(30) == 69
    assert asking.stderr is not None and "it is no copy" in asking.stderr.read()
    asking.stderr.close()


@pytest.mark.parametrize("change", [{"lost": 5}, {"by": "\x1b[2Jsomebody"}])
def test_status_shows_no_journal_that_is_not_ours(lived: Cli, change: dict[str, Any]) -> None:
    lived.ok("rebuild", "--yes", "--force")
    info = load_ground(lived.folder, {}, {}).files.rebuild_info
    assert "last rebuild" in lived("status").out
    info.write_text(json.dumps(json.loads(info.read_text()) | change))
    assert "last rebuild" not in lived("status").out
    assert lived.data("status", code=8)["last_rebuild"] is None


def test_nothing_of_a_journal_is_obeyed_by_a_terminal(lived: Cli) -> None:
    lived.ok("rebuild", "--yes", "--force")
    ground = load_ground(lived.folder, {}, {})
    keys = ground.keys.hmac_keys()
    done = journal.load(ground.files.rebuild_info, keys)
    assert done is not None
    journal.write(ground.files.rebuild_info, replace(done, by="\x1b[2Jsomebody"), keys[0])
    assert "by \\x1b[2Jsomebody" in lived("status").out


def test_a_dry_run_says_whether_it_would_go_ahead(lived: Cli) -> None:
    for words, goes_ahead in (
        (("rebuild",), False),
        (("rebuild", "--force"), True),
        (("restore", "--from", "lkg"), True),
    ):
        foreseen = lived.json(*words, "--dry-run")
        assert foreseen["goes_ahead"] is goes_ahead
        assert ("it would refuse" in lived.ok(*words, "--dry-run").out) is not goes_ahead
        assert lived(*words, text="n\n", terminal=True).code == (1 if goes_ahead else 4)
