"""Data folders that are missing, foreign, closed or damaged: the path is told, and what to do."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Result, call, refused

NOBODY = 65534


def test_a_missing_store_is_told_with_its_path(tmp_path: Path) -> None:
    for words in (
        ["get", "stt-worker"],
        ["set", "stt-worker", "channels=1"],
        ["services"],
        ["history", "stt-worker"],
        ["export"],
    ):
        result = call([*words, "--data", str(tmp_path / "nowhere")])
        refused(result, 69, f"{tmp_path}/nowhere/config.db", f"config-daemon init --data {tmp_path}/nowhere")
    assert not (tmp_path / "nowhere").exists()
    assert call(["search", "silence", "--advanced", "--data", str(tmp_path / "nowhere"), "--json"]).data


def test_a_daemon_does_not_start_where_nothing_is(tmp_path: Path) -> None:
    result = call(["run", "--data", str(tmp_path / "nowhere")])
    refused(result, 78, f"there is no data folder {tmp_path}/nowhere", "config-daemon init")
    assert not (tmp_path / "nowhere").exists()


def test_a_data_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        for command in ("services", "init", "status"):
            result = call([command, "--data", str(path)])
            assert (result.code, f"{tmp_path}/file is no folder" in result.err) == (2, True)
    assert call(["services", "--data", ""]).code == 2


def test_a_database_that_is_none_is_told(cli: Cli) -> None:
    for path in (
        cli.files.database.with_name("config.db-wal"),
        cli.files.database.with_name("config.db-shm"),
    ):
        path.unlink(missing_ok=True)
    cli.files.database.write_text("no database\n" * 100)
    refused(cli("services"), 69, str(cli.files.database))
    refused(cli("set", "stt-worker", "channels=1"), 69, str(cli.files.database))


def test_a_lost_or_foreign_key_is_told(cli: Cli) -> None:
    text = cli.files.environment.read_text()
    cli.files.environment.write_text(text.replace("CONFIG_MASTER_KEY_BASE64", "STT_WORKER__X"))
    refused(cli("services"), 78, "CONFIG_MASTER_KEY_BASE64 is missing")
    cli.files.environment.write_text(text)
    cli.files.environment.chmod(0o644)
    refused(cli("services"), 78, "chmod 600")


def as_somebody_else(words: list[str]) -> Result:
    """Run a command as a user who owns nothing; without root, file modes have been taken from ourselves."""
    if os.geteuid() != 0:
        return call(words)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        result = call(words)
        os.write(into, json.dumps([result.code, result.out, result.err]).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        code, printed, told = json.loads(stream.read())
    os.waitpid(child, 0)
    return Result(code, printed, told)


@pytest.fixture
def shared(cli: Cli) -> Iterator[Cli]:
    """A folder that another user can reach."""
    cli.ok("set", "stt-worker", "channels=2")  # everything is imported before anybody loses rights
    cli.ok("services")
    cli("get", "stt-workr")
    with tempfile.TemporaryDirectory() as above:
        Path(above).chmod(0o755)
        folder = Path(above) / "data"
        shutil.copytree(cli.folder, folder)
        folder.chmod(0o755)
        yield Cli(folder)
        folder.chmod(0o755)


def test_an_env_file_that_may_not_be_read_is_told_and_not_called_missing(shared: Cli) -> None:
    shared.files.environment.chmod(0o600 if os.geteuid() == 0 else 0)
    result = as_somebody_else(["services", "--data", str(shared.folder)])
    refused(result, 78, f"{shared.files.environment} may not be read by", "sudo -u")


def test_a_folder_that_may_not_be_entered_is_told(shared: Cli) -> None:
    shared.folder.chmod(0o700 if os.geteuid() == 0 else 0)
    for command in (["services"], ["get", "stt-worker"], ["set", "stt-worker", "channels=1"]):
        result = as_somebody_else([*command, "--data", str(shared.folder)])
        refused(result, 69, f"may not use {shared.folder}")


def test_a_folder_that_may_not_be_written_is_told(shared: Cli) -> None:
    shared.files.store_lock.unlink(missing_ok=True)
    if os.geteuid() == 0:
        os.chown(shared.files.environment, NOBODY, NOBODY)
        shared.files.database.chmod(0o644)
    else:
        shared.files.database.chmod(0o444)
        shared.folder.chmod(0o555)
    result = as_somebody_else(["set", "stt-worker", "channels=1", "--data", str(shared.folder)])
    assert (result.code, str(shared.folder) in result.err, "Traceback" in result.err) == (69, True, False)
    made = as_somebody_else(["init", "--data", str(shared.folder / "below")])
    assert (made.code, str(shared.folder / "below") in made.err) == (78, True)
