"""Assignments are added to a `.env` without touching what stands in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config_daemon.errors import SettingsError
from config_daemon.store.dotenv import read
from config_daemon.store.dotenv_added import add
from tests.store.conftest import names
from tests.worker.full_disk import full_disk

LINES = [("LKG_HMAC_KEY_ID", "hmac-1"), ("CONFIG_MASTER_KEY_ID", 'with "quotes" and\nlines')]


@pytest.fixture
def env(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text(
        "# mine\nMQTT_URL=mqtt://127.0.0.1 # here\nSTT_WORKER__CHANNELS=2"
    )  # no line break at its end
    path.chmod(0o600)
    return path


def test_what_stood_in_the_file_stays_letter_by_letter(env: Path) -> None:
    before = env.read_bytes()
    add(env, LINES, "added")
    assert env.read_bytes().startswith(before + b"\n")
    assert [(entry.name, entry.value) for entry in read(env).entries.values()][2:] == LINES
    assert env.stat().st_mode & 0o777 == 0o600
    assert names(env.parent) == [".env"]


def test_a_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    add(tmp_path / ".env", LINES, "made")
    assert read(tmp_path / ".env").get("LKG_HMAC_KEY_ID") == "hmac-1"


def test_a_name_that_is_set_is_never_set_anew(env: Path) -> None:
    env.write_text("LKG_HMAC_KEY_ID=\n")
    with pytest.raises(SettingsError, match=r"\.env:1 sets LKG_HMAC_KEY_ID already"):
        add(env, LINES, "added")
    assert env.read_text() == "LKG_HMAC_KEY_ID=\n"


def test_a_full_disk_a_link_and_an_open_file_leave_it_as_it_was(env: Path, tmp_path: Path) -> None:
    before = env.read_bytes()
    with full_disk(len(before) + 5), pytest.raises(SettingsError, match="EFBIG"):
        add(env, LINES, "added")
    env.chmod(0o640)
    with pytest.raises(SettingsError, match="others may read"):
        add(env, LINES, "added")
    (tmp_path / "below").mkdir()
    link = tmp_path / "below" / ".env"
    link.symlink_to(env)
    with pytest.raises(SettingsError, match="symbolic link"):
        add(link, LINES, "added")
    assert env.read_bytes() == before
    assert names(tmp_path) == [".env", "below"]


def test_what_a_killed_run_left_is_removed_since_keys_are_in_it(env: Path) -> None:
    (env.parent / "..env.4711.new").write_text("CONFIG_MASTER_KEY_BASE64=half")
    add(env, LINES, "added")
    assert names(env.parent) == [".env"]
