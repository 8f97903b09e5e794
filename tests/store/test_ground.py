"""Every process finds the same folder, settings and files, and the values that `.env` fixes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config_daemon.core.definition import Override
from config_daemon.errors import SettingsError
from config_daemon.store.dotenv import parse
from config_daemon.store.files import Files
from config_daemon.store.ground import SYSTEM_FOLDER, find_folder, load_ground
from config_daemon.store.overrides import overrides_of

NAMES = {
    "STT_WORKER__GAIN": ("stt-worker", "gain"),
    "STT_GAIN": ("stt-worker", "gain"),
    "STT_WORKER__AUDIO_RATE": ("stt-worker", "audio.rate"),
    "TTS_WORKER__GAIN": ("tts-worker", "gain"),
}


def put(folder: Path, text: str, name: str = ".env", mode: int = 0o600) -> Path:
    (folder / name).write_text(text)
    (folder / name).chmod(mode)
    return folder


def test_the_folder_is_the_flags_then_the_environments_then_the_callers_then_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_folder(None, {}) == SYSTEM_FOLDER
    (tmp_path / ".config-daemon").mkdir()
    assert find_folder(None, {}) == tmp_path / ".config-daemon"
    assert find_folder(None, {"CONFIG_DAEMON_DATA": "from-environment"}) == tmp_path / "from-environment"
    assert find_folder("from-flag", {"CONFIG_DAEMON_DATA": "/x"}) == tmp_path / "from-flag"
    assert find_folder("", {"CONFIG_DAEMON_DATA": ""}) == tmp_path / ".config-daemon"


def test_a_strangers_folder_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write in a folder could else make another user's commands use his keys."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".config-daemon").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: (tmp_path / ".config-daemon").stat().st_uid + 1)
    assert find_folder(None, {}) == SYSTEM_FOLDER


def test_a_flag_beats_the_environment_that_beats_the_file_that_beats_toml(tmp_path: Path) -> None:
    put(
        tmp_path,
        'CONFIG_DAEMON_NAME = "by-toml"\nCONFIG_DAEMON_KEEPALIVE_SECONDS = 33\n',
        "config-daemon.toml",
    )
    assert load_ground(tmp_path, {}, {}).settings.name == "by-toml"
    put(tmp_path, "CONFIG_DAEMON_NAME=by-file\n")
    assert load_ground(tmp_path, {}, {}).settings.name == "by-file"
    environ = {"CONFIG_DAEMON_NAME": "by-environ", "HOME": "/root"}
    assert load_ground(tmp_path, environ, {}).settings.name == "by-environ"
    settings = load_ground(tmp_path, environ, {"CONFIG_DAEMON_NAME": "by-flag"}).settings
    assert (settings.name, settings.keepalive_seconds) == ("by-flag", 33)
    assert settings.sources["keepalive_seconds"] == "config-daemon.toml"


def test_files_lie_in_the_folder_unless_settings_say_otherwise(tmp_path: Path) -> None:
    assert load_ground(tmp_path, {}, {}).files == Files.below(tmp_path)
    put(tmp_path, "CONFIG_DB_PATH=/srv/a.db\nCONFIG_LKG_CACHE_PATH=/srv/b\nCONFIG_EPOCH_PATH=/srv/c\n")
    files = load_ground(tmp_path, {}, {}).files
    assert (files.database, files.cache, files.epoch) == (Path("/srv/a.db"), Path("/srv/b"), Path("/srv/c"))
    assert files.store_lock == tmp_path / "store.lock"


def test_a_relative_path_means_the_same_file_wherever_a_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the daemon reads one database and the command line writes another."""
    put(tmp_path, "CONFIG_DB_PATH=db/config.db\nCONFIG_LKG_CACHE_PATH=lkg\nCONFIG_EPOCH_PATH=./epoch\n")
    (tmp_path / "elsewhere").mkdir()
    for place in (Path("/"), tmp_path / "elsewhere"):
        monkeypatch.chdir(place)
        files = load_ground(tmp_path, {}, {}).files
        assert (files.database, files.cache, files.epoch) == (
            tmp_path / "db/config.db",
            tmp_path / "lkg",
            tmp_path / "epoch",
        )


def test_an_environment_file_that_is_there_must_be_valid(tmp_path: Path) -> None:
    put(tmp_path, "CONFIG_DAEMON_NAME='never closed\n")
    with pytest.raises(SettingsError):
        load_ground(tmp_path, {}, {})


def test_who_may_not_read_the_keys_may_still_use_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "CONFIG_DAEMON_NAME=by-file\n")

    def denied(path: Path) -> None:
        raise SettingsError(f"{path} cannot be read: EACCES")

    monkeypatch.setattr("config_daemon.store.ground.read", denied)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    ground = load_ground(tmp_path, {}, {})
    assert ground.env_file is None
    assert ground.settings.name == "config-daemon"


@pytest.mark.parametrize("text", ["name = ", "[section]\nx = 1\n", "CONFIG_DAEMON_NAEM = 'x'\n", "\xff"])
def test_a_settings_file_that_is_wrong_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "config-daemon.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError) as error:
        load_ground(tmp_path, {}, {})
    assert "config-daemon.toml" in str(error.value.contexts)


@pytest.mark.parametrize(
    ("text", "created"),
    [
        ('{"created_at": "2026-01-02T03:04:05.678Z"}', "2026-01-02T03:04:05.678Z"),
        ("", ""), ("[]", ""), ("not JSON", ""), ("{}", ""), ("\xff", ""), ("5", ""),
    ],
)  # fmt: skip
def test_when_the_store_was_made_is_known_or_empty(tmp_path: Path, text: str, created: str) -> None:
    assert load_ground(tmp_path, {}, {}).created_at == ""
    (tmp_path / "health+epoch.json").write_bytes(text.encode("latin-1"))
    assert load_ground(tmp_path, {}, {}).created_at == created


def test_values_in_the_file_override_with_the_line_they_stand_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_WORKER__GAIN", "9")  # the process's environment has no say
    text = "# first\nSTT_WORKER__GAIN=2\nPATH=/bin\n\nSTT_WORKER__AUDIO_RATE=8\nSTT_WORKER__NOPE=1\n"
    assert overrides_of(parse(text, Path(".env")), NAMES) == {
        "stt-worker": {"gain": Override("2", 2), "audio.rate": Override("8", 5)}
    }
    assert overrides_of(parse("", Path(".env")), NAMES) == {}


def test_two_names_of_one_value_must_agree() -> None:
    agreed = overrides_of(parse("STT_GAIN=2\nSTT_WORKER__GAIN=2\n", Path(".env")), NAMES)
    assert agreed["stt-worker"]["gain"].text == "2"
    with pytest.raises(SettingsError) as error:
        overrides_of(parse("STT_GAIN=s3cret-a\nX=1\nSTT_WORKER__GAIN=s3cret-b\n", Path(".env")), NAMES)
    assert "lines 1 and 3" in error.value.message
    assert "stt-worker gain" in error.value.message
    assert "s3cret" not in f"{error.value!r}{error.value.contexts}{error.value.suggestion}"


def test_an_override_does_not_show_its_value() -> None:
    found = overrides_of(parse("STT_WORKER__GAIN=s3cret\n", Path(".env")), NAMES)
    assert "s3cret" not in repr(found)
