"""Folders with keyrings: a command that dies at a failpoint, a daemon beside it, a worker that slept all along."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from nacl.signing import VerifyKey

from config_daemon.cli.keyrings_held import held_keyring, signer_of
from config_daemon.core.keyring import walk
from config_daemon.store.files import Files
from config_daemon.store.ground import load_ground
from config_daemon.store.keyrings import KeyringFiles
from config_daemon.store.marks import Marks, Numbers, load
from config_daemon.store.status import StatusView
from config_daemon.wire.keyring import Keyring, of_key
from tests.cli.conftest import Cli
from tests.e2e.house import Process, until
from tests.forked import run

NOWHERE = "mqtt://127.0.0.1:9"  # the daemon goes on without a broker


def dies(cli: Cli, failpoint: str, *words: str) -> None:
    """Run a command that must be killed at a failpoint."""
    argv = [sys.executable, "-m", "config_daemon.cli.main", *words, "--data", str(cli.folder)]
    done = run(argv, {"CONFIG_DAEMON_FAILPOINT": failpoint})
    name = failpoint.partition(":")[0]
    assert done.returncode == -signal.SIGKILL, (done.returncode, done.stdout, done.stderr)
    assert f"failpoint reached: {name}" in done.stderr


def held(cli: Cli) -> Keyring:
    return held_keyring(KeyringFiles(cli.files), load_ground(cli.folder, {}, {}).keys)


def public_key(cli: Cli) -> VerifyKey:
    return load_ground(cli.folder, {}, {}).keys.public_key()


def ids(cli: Cli) -> dict[str, str]:
    """Return the ids of the keys in `.env` by purpose."""
    return {key["purpose"]: key["key_id"] for key in cli.json("keys", "list")["keys"]}


def sleeper_walks(cli: Cli, first: VerifyKey) -> list[Keyring]:
    """Have a worker that only knows the first key take every stored keyring; return what it took."""
    stored = KeyringFiles(cli.files).stored()
    path = walk(of_key(first), stored)
    newest = held(cli)
    assert (path[-1].raw if path else b"") == newest.raw
    before = of_key(first)
    for one in path:
        signer = signer_of(one)
        assert signer in one.root_ids and signer in before.root_ids, (
            "an anchor for new workers, and for old ones"
        )
        before = one
    return path


def note_signing(files: Files, keyring: Keyring, key_id: str) -> None:
    """Write down what a daemon would: which keyring is in force, which key signs."""
    keys = load_ground(files.folder, {}, {}).keys
    known = load(files.marks, keys.hmac_keys()) or Marks(keyring.generation, 0, "", feed=None)
    numbers = Numbers(files.marks, keys.hmac_key()[1], known, 0)
    numbers.enter(keyring.generation, (keyring.number, keyring.sha256), key_id, 1_800_000_000_000)


class Daemon:
    """A real daemon on a folder, for as long as a test needs it."""

    def __init__(self, folder: Path, url: str = NOWHERE) -> None:
        self.files, self._view = Files.below(folder), StatusView(folder / "status.db")
        words = [sys.executable, "-m", "config_daemon.cli.main", "run", "--data", str(folder)]
        self._process = Process(words, {"MQTT_URL": url, "CONFIG_DAEMON_FAILPOINT": ""})

    def __enter__(self) -> Daemon:
        until(
            lambda: self._view.daemon().get("pid") == self._process.pid or self._dead(),
            "the daemon said who it is",
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.running:
            self._process.stop()

    def _dead(self) -> bool:
        assert self._process.running, self._process.talk
        return False

    @property
    def conditions(self) -> set[str]:
        return {name for name, *_ in self._view.conditions()}

    def signs(self, keyring: Keyring, key_id: str) -> None:
        """Wait until this keyring is in force and this key signs."""
        wanted = {"number": keyring.number, "generation": keyring.generation, "signs": key_id}

        def found() -> bool:
            return bool(self._view.daemon().get("keyring") == wanted and not self._dead())

        until(found, f"{wanted}, and not {self._view.daemon().get('keyring')}; {self._process.talk[-5:]}")
        assert key_id in keyring.config_ids
