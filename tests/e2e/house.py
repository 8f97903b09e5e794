"""A whole house for end-to-end tests: data folder, daemon and workers as real processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from config_daemon.catalog.catalog import Catalog
from config_daemon.cli.init import make
from config_daemon.cli.session import Session
from config_daemon.store.files import Files
from config_daemon.store.ground import load_ground
from config_daemon.store.ports import Edit
from config_daemon.store.writer import SqliteWriter
from config_daemon.wire.keys import public_key_pem
from config_daemon.wire.messages import timestamp
from tests.forked import run, start

T = TypeVar("T")
SECONDS = 15.0


def until(look: Callable[[], T | None], what: str, seconds: float = SECONDS) -> T:
    """Look again and again until something is there; fail with what was awaited."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


class Process:
    """A child process whose output lines are kept."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.talk: list[str] = []
        (out, into_out), (talk, into_talk) = os.pipe(), os.pipe()
        with Path(os.devnull).open() as nothing:
            streams = (nothing.fileno(), into_out, into_talk)
            self._process = start(argv, {**os.environ, **environment}, streams)
        for descriptor in (into_out, into_talk):
            os.close(descriptor)
        self._threads = [
            threading.Thread(target=self._keep, args=(stream, lines), daemon=True)
            for stream, lines in ((out, self.lines), (talk, self.talk))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float = SECONDS) -> int:
        code = self._process.wait(seconds)
        for thread in self._threads:
            thread.join(seconds)
        return code

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def stop(self) -> int:
        self._process.terminate()
        return self.wait()

    @staticmethod
    def _keep(descriptor: int, lines: list[str]) -> None:
        with os.fdopen(descriptor) as stream:
            for line in stream:
                lines.append(line.rstrip("\n"))


class Worker(Process):
    """The demo worker as a process; its reports as dictionaries."""

    @property
    def reports(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(self.lines)]

    @property
    def applied(self) -> list[dict[str, Any]]:
        return [report for report in self.reports if report["state"] == "applied"]

    def wait_for(self, version: int, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait until a version was applied."""
        return until(
            lambda: next((report for report in self.applied if report["config_version"] == version), None),
            f"version {version} applied; reports: {self.lines[-5:]}, talk: {self.talk[-5:]}",
            seconds,
        )


class House:
    """A data folder and the processes around it; everything ends with the test. A folder that is there is kept."""

    def __init__(self, folder: Path, broker_url: str) -> None:
        self.folder, self.broker_url = folder, broker_url
        self._processes: list[Process] = []
        if not (folder / "config.db").exists():
            make(Session(data=str(folder)))  # as `init` does; a process for it would cost as much as the test

    @property
    def files(self) -> Files:
        return Files.below(self.folder)

    @property
    def ground(self) -> Any:
        return load_ground(self.folder, {}, {})

    @property
    def public_key(self) -> str:
        return public_key_pem(self.ground.keys.public_key())

    def cli(
        self, *arguments: str, environment: dict[str, str] | None = None, text: str = ""
    ) -> tuple[int, str, str]:
        """Run one command; return exit code, stdout, stderr."""
        words = [sys.executable, "-m", "config_daemon.cli.main", *arguments, "--data", str(self.folder)]
        done = run(words, environment or {}, text)
        return done.returncode, done.stdout, done.stderr

    def set(self, service: str, **values: Any) -> int:
        """Set values of a service as the CLI does, within this process; return the new version."""
        ground = self.ground
        writer = SqliteWriter(
            ground.files.database, ground.keys.row_sealer(), Catalog.load(ground.files.schemas),
            lock=ground.files.store_lock, now=lambda: timestamp(time.time_ns() // 1_000_000),
        )  # fmt: skip
        try:
            return writer.commit([Edit(service, lambda stored: {**stored, **values})], by="test")[0].version
        finally:
            writer.close()

    def daemon(
        self, failpoint: str = "", program: str = "config_daemon.cli.main", **environment: str
    ) -> Process:
        """Start the daemon; another `program` is a module that runs it."""
        process = Process(
            [sys.executable, "-m", program, "run", "--data", str(self.folder)],
            {"MQTT_URL": self.broker_url, "CONFIG_DAEMON_FAILPOINT": failpoint, **environment},
        )
        self._processes.append(process)
        return process

    def worker(
        self, name: str = "demo", service: str = "stt-worker", failpoint: str = "", url: str = "",
        first_use: str = "wait",
    ) -> Worker:  # fmt: skip
        """Start a demo worker."""
        process = Worker(
            [sys.executable, "-m", "config_daemon.cli.demo_worker"],
            {
                "DEMO_MQTT_URL": url or self.broker_url, "CONFIG_SIGNATURE_PUBLIC_KEY": self.public_key,
                "DEMO_SERVICE": service, "DEMO_WORKER": name, "DEMO_STATE": str(self.folder / f"worker-{name}"),
                "CONFIG_DAEMON_FAILPOINT": failpoint, "DEMO_FIRST_USE": first_use,
            },
        )  # fmt: skip
        self._processes.append(process)
        return process

    def status(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
        return dict(json.loads(self.cli("status", "--json")[1]))

    def close(self) -> None:
        for process in reversed(self._processes):
            if process.running:
                process.signal(signal.SIGCONT)
                process.kill()
