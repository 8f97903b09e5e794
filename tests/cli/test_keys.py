"""Keys are listed and backed up; none of it shows one, and a backup is told of only when there is one."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from config_daemon.store import keybackup, keyrecord
from config_daemon.store.ground import load_ground
from tests.cli.conftest import Cli, refused
from tests.cli.key_folders import CHEAP, PHRASE, missing, secrets_in, secrets_of
from tests.forked import run
from tests.worker.full_disk import full_disk

NOT_YET = "no backup of the keys was made yet"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passphrases cost half a second each otherwise, and memory."""
    monkeypatch.setattr(keybackup.sealed, "__defaults__", (CHEAP,))


@pytest.fixture
def stick(cli: Cli, tmp_path: Path) -> Path:
    """A backup of the folder's keys."""
    path = tmp_path / "stick"
    cli.ok("keys", "backup", str(path), text=PHRASE + "\n")
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Cli:
    """The program on a folder that is not there."""
    return Cli(tmp_path / "new" / "data")


# list ---------------------------------------------------------------------------------------------


def test_the_list_is_the_seeds_metadata_with_purpose_place_and_backup(cli: Cli, tmp_path: Path) -> None:
    listed = cli.json("keys", "list")
    assert {name: listed[name] for name in ("rotation_status", "grace_window_until")} == {
        "rotation_status": "idle",
        "grace_window_until": None,
    }
    ids = {key["purpose"]: key["key_id"] for key in listed["keys"]}
    assert ids == {
        "signing": cli.json("keys", "public")["key_id"],
        "master": listed["master_key_id"],
        "lkg-hmac": listed["hmac_key_id"],
    }
    assert re.fullmatch("[0-9a-f]{64}", listed["signature_public_key_hash"])
    env = str(cli.files.environment)
    assert [key["source"] for key in listed["keys"]] == [
        {"kind": ".env", "path": env, "line": line} for line in (2, 4, 6)
    ]
    assert {key["backed_up"] for key in listed["keys"]} == {None}
    shown = cli.ok("keys", "list")
    assert "never" in shown.out
    assert NOT_YET in shown.err
    at = cli.json("keys", "backup", str(tmp_path / "stick"), text=PHRASE)["made_at"]
    assert {key["backed_up"] for key in cli.json("keys", "list")["keys"]} == {at}
    shown = cli.ok("keys", "list")
    assert (shown.out.count(at), shown.err) == (3, "")


def test_a_key_that_replaced_another_under_its_name_is_not_backed_up(cli: Cli, stick: Path) -> None:
    assert missing(cli) is None
    text = cli.files.environment.read_text()
    other = re.sub("(CONFIG_MASTER_KEY_BASE64=).*", "\\1" + "A" * 43 + "=", text)
    cli.files.environment.write_text(other)
    listed = cli.json("keys", "list")["keys"]
    assert [key["purpose"] for key in listed if key["backed_up"] is None] == ["master"]
    assert (missing(cli) or "").startswith("no backup was made yet of the master key master-")


def test_an_old_key_and_a_credential_are_listed_where_they_are(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, credentials = tmp_path / "old.key", tmp_path / "credentials"
    old.write_text("B" * 43 + "=")
    credentials.mkdir()
    (credentials / "lkg-hmac-key").write_text("C" * 43 + "=")
    for path in (old, credentials / "lkg-hmac-key"):
        path.chmod(0o600)
    monkeypatch.setenv("CONFIG_MASTER_KEY_OLD_BASE64_FILE", str(old))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    listed = cli.json("keys", "list")
    assert listed["rotation_status"] == "in-progress"
    assert {key["purpose"]: key["source"]["kind"] for key in listed["keys"]} == {
        "signing": ".env",
        "master": ".env",
        "lkg-hmac": "credential",
        "master-old": "file",
    }


def test_a_folder_without_keys_has_none_to_list(empty: Cli) -> None:
    refused(empty("keys", "list"), 78, f"there is no data folder {empty.folder}")
    empty.folder.mkdir(parents=True)
    refused(empty("keys", "list"), 78, "no key can be had")


@pytest.mark.parametrize(
    ("pattern", "by", "told"),
    [
        (
            r"(LKG_HMAC_KEY_BASE64=).*",
            r"CONFIG_MASTER_KEY_BASE64=(.*)",
            "is the same key as CONFIG_MASTER_KEY_BASE64",
        ),
        (r"(CONFIG_SIGNATURE_PUBLIC_KEY=).*", "", "is not the public half of CONFIG_SIGNATURE_PRIVATE_KEY"),
    ],
)
def test_a_daemon_does_not_start_on_keys_that_do_not_go_together(
    cli: Cli, pattern: str, by: str, told: str
) -> None:
    text = cli.files.environment.read_text()
    found = re.search(by, text)
    other = found[1] if by and found else "5fba224069c132e9467b08b452f8061bb13a69334a7a0e1e5149309f7411cd19"
    cli.files.environment.write_text(re.sub(pattern, lambda line: line[1] + other, text))
    done = run([sys.executable, "-m", "config_daemon.cli.main", "run", "--data", str(cli.folder)])
    assert done.returncode == 78
    assert told in done.stderr
    assert done.stderr.count(str(cli.files.environment)) == 2, "both places"
    assert not [secret for secret in (*secrets_in(text), other[:20]) if secret in done.stderr]


# backup -------------------------------------------------------------------------------------------


def test_a_backup_is_private_and_neither_it_nor_what_is_told_shows_a_key(cli: Cli, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    done = cli("keys", "backup", str(stick), text=PHRASE)
    assert done.code == 0, done.err
    assert stick.stat().st_mode & 0o777 == 0o600
    told = done.out + done.err + stick.read_text() + keyrecord.record(cli.files).read_text()
    told += cli.ok("keys", "list").out + str(cli.json("keys", "list"))
    assert not [secret for secret in secrets_of(cli) if secret in told]
    assert PHRASE not in told


def test_a_file_that_is_there_is_left_alone_and_no_passphrase_asked_for(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("file", "link", "."):
        refused(cli("keys", "backup", str(tmp_path / name), text=""), 1, "left alone")
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nothing").exists()
    assert missing(cli) == NOT_YET


def test_a_backup_that_cannot_be_written_is_none(cli: Cli, tmp_path: Path) -> None:
    refused(
        cli("keys", "backup", str(tmp_path / "no" / "folder"), text=PHRASE), 1, "No such file or directory"
    )
    with full_disk(100):
        refused(cli("keys", "backup", str(tmp_path / "stick"), text=PHRASE), 1, "cannot be written")
    assert not (tmp_path / "stick").exists()
    assert missing(cli) == NOT_YET


def test_a_backup_that_cannot_be_noted_is_kept_and_said_to_be_good(cli: Cli, tmp_path: Path) -> None:
    keyrecord.record(cli.files).mkdir()
    refused(
        cli("keys", "backup", str(tmp_path / "stick"), text=PHRASE), 1, "is a good backup", "cannot be noted"
    )
    assert (tmp_path / "stick").exists()


def test_a_backup_holds_all_keys_or_is_not_made(cli: Cli, tmp_path: Path) -> None:
    text = cli.files.environment.read_text()
    cli.files.environment.write_text(re.sub("CONFIG_SIGNATURE_PRIVATE_KEY=.*\n", "", text))
    result = cli("keys", "backup", str(tmp_path / "stick"), text=PHRASE)
    refused(result, 78, "CONFIG_SIGNATURE_PRIVATE_KEY cannot be had here", "CREDENTIALS_DIRECTORY")
    assert not (tmp_path / "stick").exists()


def test_root_backs_up_the_keys_that_only_the_unit_gets(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/deploy.md: the keys are root's files, named as credentials, and `.env` is the daemon's."""
    folder = tmp_path / "etc"
    folder.mkdir()
    entries = load_ground(cli.folder, {}, {}).env_file
    assert entries is not None
    for credential, name in (
        ("signing-key", "CONFIG_SIGNATURE_PRIVATE_KEY"),
        ("master-key", "CONFIG_MASTER_KEY_BASE64"),
        ("lkg-hmac-key", "LKG_HMAC_KEY_BASE64"),
    ):
        (folder / credential).write_text(entries.get(name) or "")
        (folder / credential).chmod(0o600)
    text = cli.files.environment.read_text()
    cli.files.environment.write_text(re.sub("CONFIG_SIGNATURE_PRIVATE_KEY=.*\n", "", text))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    if os.geteuid() == 0:  # anybody else cannot give it away; what is refused for its mode is the same
        os.chown(cli.files.environment, 65534, 65534)
    else:
        cli.files.environment.chmod(0o644)
    cli.ok("keys", "backup", str(tmp_path / "stick"), text=PHRASE)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    if os.geteuid() == 0:
        os.chown(cli.files.environment, 0, 0)
    cli.files.environment.chmod(0o600)
    assert missing(cli) is None, "nor for those who have the public half only"
    listed = {key["purpose"]: key["source"] for key in cli.json("keys", "list")["keys"]}
    assert listed["signing"] is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("\n", "empty"),
        ("  \n", "empty"),
        ("one\ntwo\n", "more than one line"),
        ("x" * 70_000, "too long"),
    ],
)
def test_what_is_no_passphrase_is_refused(cli: Cli, tmp_path: Path, text: str, told: str) -> None:
    refused(cli("keys", "backup", str(tmp_path / "stick"), text=text), 2, told)
    assert not (tmp_path / "stick").exists()


def test_a_passphrase_is_never_taken_from_the_command_line(cli: Cli, tmp_path: Path) -> None:
    refused(cli("keys", "backup", str(tmp_path / "stick"), "--passphrase", PHRASE), 2, "--passphrase")
    refused(cli("keys", "backup", str(tmp_path / "stick"), PHRASE), 2)


def test_a_passphrase_file_must_be_as_private_as_a_key_and_is_taken_letter_by_letter(
    cli: Cli, empty: Cli, tmp_path: Path
) -> None:
    file, stick = tmp_path / "phrase", tmp_path / "stick"
    file.write_text(f" {PHRASE} \r\n")
    file.chmod(0o644)
    refused(
        cli("keys", "backup", str(stick), "--passphrase-file", str(file)), 78, "others may read", "chmod 600"
    )
    file.chmod(0o600)
    cli.ok("keys", "backup", str(stick), "--passphrase-file", str(file))
    refused(empty("keys", "restore", str(stick), text=PHRASE), 1, "the passphrase does not open")
    empty.ok("keys", "restore", str(stick), text=f" {PHRASE} \n")
    refused(
        cli("keys", "backup", str(tmp_path / "b"), "--passphrase-file", str(tmp_path / "none")), 2, "no file"
    )


def test_with_json_nobody_is_asked(cli: Cli, tmp_path: Path) -> None:
    result = cli("keys", "backup", str(tmp_path / "stick"), "--json", terminal=True)
    assert (result.code, result.error["error"]) == (2, "USAGE")
