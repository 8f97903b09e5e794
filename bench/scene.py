"""The scene of a measurement: a private mosquitto with our conf, a data folder, the daemon's process.

Laws: everything ends with the scene, also when the measurement fails; nothing listens but the broker,
on loopback.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from bench.services import TEXTS, Store, drop_schemas, names
from config_daemon.cli.private_broker import ends_with_parent
from config_daemon.cli.private_broker_files import mosquitto_programs
from config_daemon.store.files import Files
from config_daemon.store.ground import load_ground
from tests.broker_conf import Conf
from tests.real_broker import LocalBroker

STOP_SECONDS = 30.0
PREFIX = "system"
BASELINE_PREFIX = "plain"
# Our conf has the broker write all that it retains after every single change, so that at thousands of
# topics nothing but the broker's disk is measured, for the baseline as well. Where a figure is about
# the daemon and many services, these two lines stand instead, which is hardest on the daemon.
RELAXED = "autosave_on_changes false\nautosave_interval 1800\n"


class BenchBroken(Exception):
    """The bench itself does not work; the message says where."""


def until(look: Callable[[], Any], what: str, seconds: float, pause_seconds: float = 0.02) -> Any:
    """Return what `look` finds as soon as it is true.

    Raises: BenchBroken when it stays false.
    """
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise BenchBroken(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause_seconds)
    return found


class Scene:
    """One broker and one data folder; the daemon comes and goes."""

    def __init__(self, folder: Path, services: Sequence[str], texts: int, relaxed: bool) -> None:
        self.folder, self.services = folder, list(services)
        self._conf = Conf(extra_conf=RELAXED if relaxed else "")
        self._brokers = 0
        self.broker: LocalBroker
        self._opened = contextlib.ExitStack()
        self.data = folder / "data"
        self.process: psutil.Popen | None = None
        self.new_broker()
        try:
            self.command("init")
            drop_schemas(self.files.schemas, self.services)
            self.store = Store(self.data)
            if self.services:
                self.store.seed(self.services, texts)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Return where the broker is."""
        return self.broker.url

    @property
    def files(self) -> Files:
        """Return the files of the data folder."""
        return Files.below(self.data)

    @property
    def public_key(self) -> bytes:
        """Return the key that workers trust."""
        return bytes(load_ground(self.data, {}, {}).keys.public_key())

    def new_broker(self) -> None:
        """Replace the broker by an empty one."""
        programs = mosquitto_programs()
        if programs is None:
            raise BenchBroken("mosquitto is missing: apt-get install mosquitto")
        if self._brokers:
            self.broker.close()
        self._brokers += 1
        self.broker = LocalBroker(programs[0], self.folder / f"broker-{self._brokers}", self._conf)

    def command(self, *arguments: str) -> None:
        """Run one command of the product on this folder.

        Raises: BenchBroken when it fails.
        """
        done = subprocess.run(
            [*program(), *arguments, "--data", str(self.data)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchBroken(f"config-daemon {arguments[0]}: {done.stderr.strip()}")

    def start_daemon(self) -> int:
        """Start the daemon; return the moment at which its process was made (monotonic, ns)."""
        with (self.folder / "daemon.log").open("ab") as log:
            began = time.monotonic_ns()
            self.process = psutil.Popen(
                [*program(), "run", "--data", str(self.data)],
                env={**os.environ, "MQTT_URL": self.url}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=ends_with_parent(),
            )  # fmt: skip
        return began

    @property
    def daemon(self) -> psutil.Popen:
        """Return the daemon's process.

        Raises: BenchBroken when it does not run.
        """
        if self.process is None or self.process.poll() is not None:
            tail = (self.folder / "daemon.log").read_text(errors="replace")[-500:]
            raise BenchBroken(f"the daemon does not run: {tail}")
        return self.process

    def cpu_seconds(self) -> float:
        """Return the processor time that the daemon has used, user and system."""
        times = self.daemon.cpu_times()
        return float(times.user + times.system)

    def stop_daemon(self) -> None:
        """Stop the daemon politely."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STOP_SECONDS)
        self.process = None

    def forget(self) -> None:
        """Remove what a stopped daemon left of its own life, so that its next start is its first."""
        for path in (self.files.cache, self.files.marks, self.files.epoch, self.files.status):
            for one in path.parent.glob(f"{path.name}*"):
                one.unlink()

    def quiet(self, seconds: float = 120.0) -> None:
        """Wait until the daemon has nothing to do: the cache written, every read-back done."""
        quiet_since = time.monotonic()

        def is_quiet() -> bool:
            nonlocal quiet_since
            before = self.cpu_seconds()
            time.sleep(0.5)
            if self.cpu_seconds() - before > 0.015:
                quiet_since = time.monotonic()
            return time.monotonic() - quiet_since > 2.0 and self.files.cache.exists()

        until(is_quiet, "the daemon is quiet", seconds, 0.0)

    def close(self) -> None:
        """End everything."""
        try:
            self.stop_daemon()
        finally:
            self.broker.close()


@contextlib.contextmanager
def scene(count: int, *, texts: int = TEXTS, relaxed: bool = False) -> Iterator[Scene]:
    """Yield a scene with `count` seeded services, its daemon not started yet."""
    with tempfile.TemporaryDirectory(prefix="config-daemon-bench-") as folder:
        made = Scene(Path(folder), names(count), texts, relaxed)
        try:
            yield made
        finally:
            made.close()


def program() -> list[str]:
    """Return how to run `config-daemon`: as installed beside this Python, else as a module."""
    installed = Path(sys.executable).with_name("config-daemon")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "config_daemon.cli.main"]
