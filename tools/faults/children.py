"""Child processes whose words go into files, so that nothing they say is lost when they are killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from config_daemon.cli.private_broker import ends_with_parent

WAIT_SECONDS = 20.0


class Child:
    """A process with a log; it ends with the stage at the latest."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                argv, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, preexec_fn=ends_with_parent(),
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Return the process's number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether it runs, stopped or not."""
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """Return what this process said so far."""
        return self.log.read_bytes()[self._from :].decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._process.send_signal(number)

    def wait(self, seconds: float = WAIT_SECONDS) -> int:
        """Wait for its end; return its exit code."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it as `kill -9` does; again does nothing."""
        self._process.kill()
        self.wait()

    def stop(self) -> int:
        """End it politely; return its exit code."""
        self._process.terminate()
        return self.wait()
