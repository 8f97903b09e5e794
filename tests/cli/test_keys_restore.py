"""Keys come back from a backup, never over others, and whenever the machine stops."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config_daemon.store import keybackup, keyrecord
from tests.cli.conftest import Cli, Result, refused
from tests.cli.key_folders import CHEAP, PHRASE, keys_of, missing, secrets_of
from tests.cli.keyring_folders import held, note_signing
from tests.worker.full_disk import full_disk


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


def test_keys_come_back_into_a_folder_that_is_not_there(cli: Cli, empty: Cli, stick: Path) -> None:
    done = empty.ok("keys", "restore", str(stick), text=PHRASE)
    assert keys_of(empty) == keys_of(cli)
    assert empty.files.environment.stat().st_mode & 0o777 == 0o600
    assert empty.folder.stat().st_mode & 0o7777 == 0o2770
    assert "there is no database yet" in done.err
    assert missing(empty) is None
    assert not [secret for secret in secrets_of(cli) if secret in done.out + done.err]
    assert empty.json("init")["made"] == ["store"]


def test_a_folder_whose_keys_are_lost_works_again(cli: Cli, stick: Path) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    before = keys_of(cli)
    cli.files.environment.write_text("# settings\nENVIRONMENT=staging\nSTT_WORKER__SAMPLE_RATE=8000")
    cli.ok("keys", "restore", str(stick), text=PHRASE)
    assert cli.json("get", "stt-worker", "channels")["value"] == 2
    assert cli.json("get", "stt-worker", "sample_rate")["value"] == 8000
    assert keys_of(cli) == {**before, "ENVIRONMENT": "ENVIRONMENT=staging",
                            "STT_WORKER__SAMPLE_RATE": "STT_WORKER__SAMPLE_RATE=8000"}  # fmt: skip


def test_the_same_keys_change_nothing(cli: Cli, stick: Path) -> None:
    before = cli.files.environment.read_bytes()
    keyrecord.record(cli.files).unlink()
    for _ in range(2):
        assert cli.json("keys", "restore", str(stick), text=PHRASE)["restored"] == []
    assert cli.files.environment.read_bytes() == before
    assert missing(cli) is None


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("CONFIG_MASTER_KEY_BASE64=" + "A" * 43 + "=", "CONFIG_MASTER_KEY_BASE64"),
        ("LKG_HMAC_KEY_BASE64=" + "A" * 43 + "=", "LKG_HMAC_KEY_BASE64"),
        ("LKG_HMAC_KEY_ID=another", "LKG_HMAC_KEY_ID"),
        ("CONFIG_SIGNATURE_PUBLIC_KEY=5fba224069c132e9467b08b452f8061bb13a69334a7a0e1e5149309f7411cd19",
         "CONFIG_SIGNATURE_PUBLIC_KEY"),
    ],
)  # fmt: skip
def test_a_different_key_is_never_overwritten(empty: Cli, stick: Path, line: str, name: str) -> None:
    empty.folder.mkdir(parents=True)
    empty.files.environment.write_text(line)
    empty.files.environment.chmod(0o600)
    result = empty("keys", "restore", str(stick), text=PHRASE)
    refused(result, 1, f"{name} ({empty.files.environment}:1)", "nothing was changed")
    assert "AAAA" not in result.err
    assert empty.files.environment.read_text() == line


def test_a_key_in_a_place_of_its_own_counts_as_there(
    cli: Cli, empty: Cli, stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "master.key"
    file.write_text(keys_of(cli)["CONFIG_MASTER_KEY_BASE64"].partition("=")[2])
    file.chmod(0o600)
    monkeypatch.setenv("CONFIG_MASTER_KEY_BASE64_FILE", str(file))
    monkeypatch.setenv("CONFIG_MASTER_KEY_ID_FILE", str(_id_file(cli, tmp_path)))
    restored = empty.json("keys", "restore", str(stick), text=PHRASE)["restored"]
    assert sorted(restored) == [
        "CONFIG_SIGNATURE_PRIVATE_KEY", "CONFIG_SIGNATURE_PUBLIC_KEY", "LKG_HMAC_KEY_BASE64", "LKG_HMAC_KEY_ID",
    ]  # fmt: skip
    file.write_text("A" * 43 + "=")
    refused(empty("keys", "restore", str(stick), text=PHRASE), 1, f"CONFIG_MASTER_KEY_BASE64 (file {file})")


def _id_file(cli: Cli, folder: Path) -> Path:
    path = folder / "master.id"
    path.write_text(cli.json("keys", "list")["master_key_id"])
    return path


def test_a_wrong_passphrase_and_a_damaged_file_leave_no_trace(
    empty: Cli, stick: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short"
    short.write_bytes(stick.read_bytes()[:-30])
    result = empty("keys", "restore", str(stick), "--json", text="wrong")
    assert (result.code, result.error["error"]) == (1, "WRONG_PASSPHRASE")
    result = empty("keys", "restore", str(short), "--json", text="")
    assert (result.code, result.error["error"]) == (1, "BACKUP_DAMAGED")
    refused(empty("keys", "restore", str(tmp_path / "none"), text=PHRASE), 2, "No such file")
    refused(empty("keys", "restore", str(tmp_path), text=PHRASE), 2, "cannot be read")
    assert not empty.folder.exists()


def test_an_environment_file_that_others_can_read_gets_no_keys(empty: Cli, stick: Path) -> None:
    empty.folder.mkdir(parents=True)
    empty.files.environment.write_text("ENVIRONMENT=staging\n")
    empty.files.environment.chmod(0o644)
    refused(empty("keys", "restore", str(stick), text=PHRASE), 78, "others may read", "chmod 600")
    assert empty.files.environment.read_text() == "ENVIRONMENT=staging\n"


def test_a_full_disk_loses_nothing_and_the_next_run_ends_it(cli: Cli, empty: Cli, stick: Path) -> None:
    empty.folder.mkdir(parents=True)
    empty.files.environment.write_text("ENVIRONMENT=staging\n")
    empty.files.environment.chmod(0o600)
    with full_disk(50):
        refused(empty("keys", "restore", str(stick), text=PHRASE), 78, "cannot be written")
    assert empty.files.environment.read_text() == "ENVIRONMENT=staging\n"
    empty.ok("keys", "restore", str(stick), text=PHRASE)
    assert keys_of(empty).items() >= keys_of(cli).items()


STEPS = ("open", "fsync", "link", "rename", "replace", "mkdir", "fchmod", "chmod", "unlink")


def killed_at(step: int, run: Callable[[], Result]) -> bool:
    """Run in a process of its own that dies before its n-th step on a file; tell whether it got that far."""
    child = os.fork()
    if not child:
        left = [step]

        def dies(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*words: Any, **more: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*words, **more)

            return call

        for name in STEPS:
            setattr(os, name, dies(getattr(os, name)))
        code = 99
        try:
            code = run().code
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.fixture(params=["no folder", "a folder with settings"])
def target(request: pytest.FixtureRequest, empty: Cli) -> Iterator[Callable[[], Cli]]:
    def fresh() -> Cli:
        shutil.rmtree(empty.folder, ignore_errors=True)
        if request.param != "no folder":
            empty.folder.mkdir(parents=True)
            empty.files.environment.write_text("ENVIRONMENT=staging\n")
            empty.files.environment.chmod(0o600)
        return empty

    yield fresh


def test_a_restore_that_is_killed_at_any_step_is_ended_by_the_next(
    cli: Cli, target: Callable[[], Cli], stick: Path
) -> None:
    step, deaths = 1, 0
    while True:
        folder = target()
        dead = killed_at(step, lambda: folder("keys", "restore", str(stick), text=PHRASE))  # noqa: B023
        folder.ok("keys", "restore", str(stick), text=PHRASE)
        assert keys_of(folder).items() >= keys_of(cli).items()
        assert missing(folder) is None
        left = [path.name for path in folder.folder.iterdir() if "env" in path.name]
        assert left == [".env"], "nothing with keys in it lies about"
        step, deaths = step + 1, deaths + dead
        if not dead:
            break
    assert deaths > 5


def test_a_backup_that_is_killed_at_any_step_is_never_taken_for_one(cli: Cli, tmp_path: Path) -> None:
    step, dead = 1, True
    while dead:
        keyrecord.record(cli.files).unlink(missing_ok=True)
        stick = tmp_path / f"stick-{step}"
        dead = killed_at(step, lambda: cli("keys", "backup", str(stick), text=PHRASE))  # noqa: B023
        if missing(cli) is None:
            folder = Cli(tmp_path / f"data-{step}")
            folder.ok("keys", "restore", str(stick), text=PHRASE)
            assert keys_of(folder) == keys_of(cli)
        step += 1
    assert step > 5
    assert json.loads(stick.read_text())["version"] == 1


class AtTerminal:
    """The program at a terminal of its own, which shows what is typed unless it is told not to."""

    def __init__(self, *words: str) -> None:
        self._ours, theirs = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "config_daemon.cli.main", *words],
            stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        self.shown = ""

    def types(self, prompt: str, text: str) -> None:
        while not self.shown.endswith(prompt):
            self.shown += os.read(self._ours, 1000).decode()
        os.write(self._ours, text.encode() + b"\n")

    def ends(self) -> int:
        """Return the exit code; what was shown meanwhile stands in `shown`."""
        try:
            while piece := os.read(self._ours, 1000):
                self.shown += piece.decode()
        except OSError:  # the other end is closed
            pass
        os.close(self._ours)
        self._process.communicate(timeout=30)
        return self._process.returncode


def test_at_a_terminal_the_passphrase_is_asked_twice_and_not_shown(
    cli: Cli, empty: Cli, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    words = ("--data", str(cli.folder), "keys", "backup", str(stick))
    terminal = AtTerminal(*words)
    terminal.types("Passphrase: ", PHRASE)
    terminal.types("Once more: ", PHRASE + "x")
    assert terminal.ends() == 1
    assert "differ" in terminal.shown
    assert not stick.exists()
    terminal = AtTerminal(*words)
    terminal.types("Passphrase: ", PHRASE)
    terminal.types("Once more: ", PHRASE)
    assert terminal.ends() == 0, terminal.shown
    assert "correct" not in terminal.shown
    terminal = AtTerminal("--data", str(empty.folder), "keys", "restore", str(stick))
    terminal.types("Passphrase: ", PHRASE)
    assert terminal.ends() == 0, terminal.shown
    assert keys_of(empty) == keys_of(cli)


# keyrings -----------------------------------------------------------------------------------------


@pytest.fixture
def rotating(cli: Cli, tmp_path: Path) -> Path:
    """A backup made while keys were being rotated."""
    cli.ok("keys", "rotate")
    cli.ok("keys", "rotate", "--hmac")
    path = tmp_path / "rotating"
    cli.ok("keys", "backup", str(path), text=PHRASE)
    return path


def test_the_next_and_the_old_key_and_all_keyrings_come_back(cli: Cli, empty: Cli, rotating: Path) -> None:
    assert json.loads(rotating.read_text())["version"] == 2
    assert missing(cli) is None
    done = empty.json("keys", "restore", str(rotating), text=PHRASE)
    assert done["keyrings"] == [1]
    assert keys_of(empty) == keys_of(cli)
    assert empty.files.keyring.read_bytes() == cli.files.keyring.read_bytes()
    assert missing(empty) is None
    assert not {key["key_id"] for key in empty.json("keys", "list")["keyring"]["keys"] if not key["here"]}
    before = _tree(empty)
    assert empty.json("keys", "restore", str(rotating), text=PHRASE)["restored"] == []
    assert _tree(empty) == before


def _tree(cli: Cli) -> dict[str, bytes]:
    found = [cli.files.environment, cli.files.keyring, *cli.files.keyrings.glob("*.json")]
    return {path.name: path.read_bytes() for path in found}


def test_an_older_keyring_is_followed_and_a_newer_one_stays(cli: Cli, stick: Path, tmp_path: Path) -> None:
    cli.ok("keys", "rotate")
    cli.ok("keys", "split-root", str(tmp_path / "1.pem"), str(tmp_path / "2.pem"))
    late = tmp_path / "late"
    cli.ok("keys", "backup", str(late), text=PHRASE)
    whole = _tree(cli)
    assert cli.json("keys", "restore", str(stick), text=PHRASE)["keyrings"] == []
    assert _tree(cli) == whole, "the backup from before has none"
    cli.files.keyring.write_bytes((cli.files.keyrings / "1.json").read_bytes())
    for number in (2, 3):
        (cli.files.keyrings / f"{number}.json").unlink()
    assert cli.json("keys", "restore", str(late), text=PHRASE)["keyrings"] == [2, 3]
    assert _tree(cli) == whole
    cli.files.keyring.write_text("damaged")
    cli.ok("keys", "restore", str(late), text=PHRASE)
    assert _tree(cli) == whole


def test_a_keyring_that_knows_nothing_of_the_backups_is_never_overwritten(
    cli: Cli, stick: Path, tmp_path: Path
) -> None:
    """Both have the same keys, and each issued a keyring of its own."""
    other, roots = Cli(tmp_path / "other"), [str(tmp_path / f"{number}.pem") for number in range(4)]
    other.ok("keys", "restore", str(stick), text=PHRASE)
    cli.ok("keys", "split-root", *roots[:2])
    other.ok("keys", "split-root", *roots[2:])
    before, late = _tree(other), tmp_path / "late"
    cli.ok("keys", "backup", str(late), text=PHRASE)
    result = other("keys", "restore", str(late), "--json", text=PHRASE)
    assert (result.code, result.error["error"]) == (1, "KEYRING_DIFFERS")
    assert _tree(other) == before


@pytest.mark.parametrize("with_keyring", [False, True])
def test_a_folder_whose_keys_are_newer_needs_no_restoring(
    cli: Cli, tmp_path: Path, with_keyring: bool
) -> None:
    if with_keyring:
        cli.ok("keys", "rotate")
    old = tmp_path / "old"
    cli.ok("keys", "backup", str(old), text=PHRASE)
    cli.ok("keys", "rotate")
    note_signing(cli.files, held(cli), held(cli).keys[-1].key_id)
    cli.ok("keys", "rotate", "--retire")
    before = _tree(cli)
    result = cli("keys", "restore", str(old), text=PHRASE)
    refused(result, 1, f"{cli.folder} has newer keys than the backup", "Nothing needs restoring here.")
    assert "remove" not in result.err and _tree(cli) == before
    text = cli.files.environment.read_text()
    cli.files.environment.write_text(re.sub("LKG_HMAC_KEY_BASE64=.*\n", "", text))
    result = cli("keys", "restore", str(old), text=PHRASE)
    refused(result, 1, "has newer keys", "a backup that was made after the last rotation")


def test_a_staged_key_that_was_revoked_meanwhile_does_not_come_back(
    cli: Cli, stick: Path, tmp_path: Path
) -> None:
    new = cli.json("keys", "rotate")["key_id"]
    staged = tmp_path / "staged"
    cli.ok("keys", "backup", str(staged), text=PHRASE)
    cli.ok("keys", "revoke", new, "--reason", "mistyped", "--yes")
    assert cli.json("keys", "restore", str(staged), text=PHRASE)["restored"] == []
    assert "NEXT" not in cli.files.environment.read_text()


def test_a_restore_with_keyrings_that_is_killed_is_ended_by_the_next(
    cli: Cli, target: Callable[[], Cli], rotating: Path
) -> None:
    step, dead = 1, True
    while dead:
        folder = target()
        dead = killed_at(step, lambda: folder("keys", "restore", str(rotating), text=PHRASE))  # noqa: B023
        folder.ok("keys", "restore", str(rotating), text=PHRASE)
        assert keys_of(folder).items() >= keys_of(cli).items()
        assert folder.files.keyring.read_bytes() == cli.files.keyring.read_bytes()
        step += 1
    assert step > 10
