"""What rebuild and restore say before they are told to go on: the very account that follows, and nothing is changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, refused
from tests.cli.lives import lose

ACCOUNT = ("services", "source", "lost")


def everything(cli: Cli) -> dict[str, bytes]:
    """Return the content of all files that count."""
    kept = [path for path in sorted(cli.folder.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return {str(path): path.read_bytes() for path in kept if not path.name.endswith(("-shm", "-wal"))}


def damage(cli: Cli) -> None:
    cli.ok("set", "router", "router_stream_min_chars=10")
    cli.sql("UPDATE service_configs SET config_json = '{}' WHERE service = 'router'")
    cli.sql("PRAGMA wal_checkpoint(TRUNCATE)")


def account(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in ACCOUNT}


def test_a_dry_run_changes_nothing_and_says_what_the_rebuild_then_says(lived: Cli) -> None:
    damage(lived)
    before = everything(lived)
    foreseen = lived.json("rebuild", "--dry-run")
    assert everything(lived) == before
    assert (foreseen["rebuilt"], foreseen["sound"]) == (False, False)
    assert foreseen["lost"]["services"] == {"router": {"from": 2, "to": 1}}
    assert account(lived.json("rebuild", "--yes")) == account(foreseen)


@pytest.mark.parametrize("source", ["lkg", "copy"])
def test_a_dry_run_of_a_restore_says_what_the_restore_then_says(
    lived: Cli, tmp_path: Path, source: str
) -> None:
    copy = tmp_path / "copy.db"
    lived.sql(f"VACUUM INTO '{copy}'")
    lived.ok("set", "stt-worker", "channels=1")
    words = ["restore", "--from", "lkg" if source == "lkg" else str(copy)]
    before = everything(lived)
    foreseen = lived.json(*words, "--dry-run")
    assert everything(lived) == before
    assert foreseen["sound"]
    assert account(lived.json(*words, "--yes")) == account(foreseen)


def test_who_is_asked_knows_what_will_be_lost(lived: Cli) -> None:
    damage(lived)
    result = lived("rebuild", text="n\n", terminal=True)
    refused(result, 1, "router: version 2 is lost, version 1 is there", "history: 4 rows", "Go on? [y/N]")
    assert result.err.index("history: 4 rows") < result.err.index("Go on?")
    assert "channels" in lived.stored("stt-worker")


def test_a_sound_database_is_rebuilt_only_when_that_is_insisted_on(lived: Cli) -> None:
    before = lived.sql("SELECT * FROM config_epoch")
    for words in (["rebuild"], ["rebuild", "--yes"], ["rebuild", "--defaults", "--yes"]):
        refused(lived(*words), 4, "is sound", "restore --from FILE", "rollback", "rebuild --force")
    told = lived.ok("rebuild", "--defaults", "--dry-run").out
    assert "without --force this is refused" in told
    assert "stt-worker: version 2 is lost, nothing of it is there" in told
    assert lived.sql("SELECT * FROM config_epoch") == before
    lived.ok("rebuild", "--force", text="y\n")
    assert lived.sql("SELECT * FROM config_epoch") != before
    assert lived.version("stt-worker") == 2


def test_a_database_that_lacks_its_newest_place_is_not_sound(lived: Cli) -> None:
    lived.sql("DELETE FROM change_feed WHERE seq = (SELECT max(seq) FROM change_feed)")
    lived.ok("rebuild", "--yes")


def test_who_restores_over_a_sound_database_is_told_so(lived: Cli) -> None:
    result = lived("restore", "--from", "lkg", text="n\n", terminal=True)
    refused(result, 1, "that is there is sound")


def test_of_the_history_only_what_the_copy_lacks_is_lost(lived: Cli, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    lived.sql(f"VACUUM INTO '{copy}'")
    lived.ok("set", "stt-worker", "channels=1")
    assert lived.json("restore", "--from", str(copy), "--dry-run")["lost"]["history_rows"] == 1
    assert lived.json("restore", "--from", str(copy), "--yes")["lost"]["history_rows"] == 1
    again = tmp_path / "again.db"
    lived.sql(f"VACUUM INTO '{again}'")
    done = lived.ok("restore", "--from", str(again), "--yes")
    assert "nothing that was acknowledged is lost" in done.out


def test_of_a_history_that_went_another_way_the_rows_of_that_way_are_lost(lived: Cli, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    lived.sql(f"VACUUM INTO '{copy}'")
    other = Cli(Path(shutil.copytree(lived.folder, tmp_path / "other")))
    for channels in (1, 2):
        other.ok("set", "stt-worker", f"channels={channels}")
    lived.ok("set", "router", "router_stream_min_chars=10")
    theirs = tmp_path / "theirs.db"
    other.sql(f"VACUUM INTO '{theirs}'")
    assert lived.json("restore", "--from", str(theirs), "--dry-run")["lost"]["history_rows"] == 1


@pytest.mark.parametrize("name", ["LKG", "Lkg"])
def test_the_caches_name_is_taken_however_it_is_written(lived: Cli, name: str) -> None:
    lose(lived)
    assert lived.json("restore", "--from", name, "--yes")["services"] == 2


@pytest.mark.parametrize("flag", ["--yes", "--dry-run"])
def test_what_is_no_copy_is_refused_in_words(lived: Cli, tmp_path: Path, flag: str) -> None:
    cache = tmp_path / "elsewhere" / "config.lkg.json"
    cache.parent.mkdir()
    shutil.copy(lived.files.cache, cache)
    refused(lived("restore", "--from", str(tmp_path), flag), 2, "is a folder", str(tmp_path / "config.db"))
    refused(lived("restore", "--from", str(lived.files.cache), flag), 2, "`config-daemon restore --from lkg`")
    refused(lived("restore", "--from", str(cache), flag), 2, "last-known-good cache", "adopt --lkg")
    refused(lived("restore", "--from", str(tmp_path / "typo"), flag), 69, "No such file")


def test_without_a_terminal_nobody_is_prompted(lived: Cli) -> None:
    result = lived("restore", "--from", "lkg")
    refused(result, 2, "nobody can be asked here", "--yes")
    assert "[y/N]" not in result.err
