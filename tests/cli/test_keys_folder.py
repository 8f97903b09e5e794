"""Folders that are not there, or not this user's: every command says which, and makes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, refused

NOBODY = 65534


@pytest.mark.parametrize(
    "words",
    [
        ("list",), ("public",), ("public", "--keyring"), ("backup", "stick"), ("rotate",), ("rotate", "--retire"),
        ("rotate", "--activate"), ("rotate", "--hmac"), ("revoke", "00000000", "--reason", "r", "--yes"),
        ("split-root", "a", "b"), ("merge",),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, words: tuple[str, ...]) -> None:
    cli = Cli(tmp_path / "none")
    refused(cli("keys", *words, text="x"), 78, f"there is no data folder {cli.folder}", "--data")
    assert not cli.folder.exists()


def test_a_named_file_that_is_not_there_is_a_wrong_use_and_no_lost_key(cli: Cli, tmp_path: Path) -> None:
    none = str(tmp_path / "none.pem")
    key = cli.json("keys", "list")["keys"][0]["key_id"]
    for words in (
        ("rotate", "--root-key", none),
        ("revoke", key, "--reason", "r", "--yes", "--root-key", none),
        ("backup", str(tmp_path / "stick"), "--passphrase-file", none),
    ):
        result = cli("keys", *words)
        refused(result, 2, f"there is no file {none}", "Name the right file.")
        assert "restore" not in result.err
    assert not cli.files.keyring.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("closed", ["folder", "status.db"])
def test_status_of_a_folder_that_is_somebody_elses_is_no_traceback(
    cli: Cli, tmp_path: Path, closed: str
) -> None:
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(path.stat().st_mode | 0o011)
    cli.files.status.touch()
    cli.files.status.chmod(0o660)
    cli.folder.chmod(0o2770 if closed == "folder" else 0o2775)
    cli("status")  # whatever it imports, somebody else need not be able to
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            result = cli("status")
            os.write(writing, json.dumps([result.code, result.out, result.err]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        code, out, err = json.load(stream)
    os.waitpid(child, 0)
    assert (code, out) == (69, ""), err
    assert f"may not use {cli.files.status}" in err
    assert "Run this as the owner of" in err
