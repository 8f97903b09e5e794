"""Run the commands that an operator configured: check, reload, verify, stop.

Laws: no shell; a time limit, after which the command and all that it started is ended; an environment of
a few names; what a command prints is bounded, and told only when it failed.

A program that a successful command leaves running lives on. It must not keep the command's output: nobody
reads that any more.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config_daemon.errors import ApplyFailed, ErrorContext

TOLD_CHARACTERS = 300
END_SECONDS = 1.0
_KEPT_BYTES, _READ_BYTES = 4096, 65536
_DRAINED_READS = 16
_INHERITED = ("PATH", "HOME", "LANG")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its role (`check`, `reload` …), its words, and how long it may take."""

    role: str
    argv: tuple[str, ...]
    seconds: float

    @classmethod
    def parse(cls, role: str, text: str, seconds: float) -> Command:
        """Take a line apart as a shell would, without expanding anything.

        Raises: ValueError when a quote is not closed, or nothing is there.
        """
        argv = tuple(shlex.split(text))
        if not argv:
            raise ValueError("there is no command in it")
        return cls(role, argv, seconds)

    def run(self, facts: Mapping[str, str], file: Path | None = None) -> None:
        """Run it to its end; `facts` come into its environment, and `file` in the place of every `{}`.

        Raises: ApplyFailed when it cannot be started, takes too long, or does not end with 0.
        """
        argv = [word.replace("{}", str(file)) for word in self.argv] if file else self.argv
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment = {"PATH": SEARCH_PATH} | environment | dict(facts)
        if file:
            environment["CONFIG_FILE"] = str(file)
        try:
            process = subprocess.Popen(
                argv, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "its words cannot be passed on"
            raise self._failed("COMMAND_NOT_STARTED", f"cannot be started: {why}") from error
        output = bytearray()
        try:
            in_time = _follow(process, output, time.monotonic() + self.seconds)
        finally:
            if process.poll() is None:
                _end_group(process)
            assert process.stdout is not None
            process.stdout.close()
        if not in_time:
            raise self._failed("COMMAND_TIMEOUT", f"took more than {self.seconds:g} s and was ended", output)
        if process.returncode:
            raise self._failed("COMMAND_FAILED", _ending(process.returncode), output)

    def _failed(self, code: str, what: str, output: bytes | bytearray = b"") -> ApplyFailed:
        printed = " ".join(output.decode("utf-8", "replace").split())[-TOLD_CHARACTERS:]
        printed = "".join(one if one.isprintable() else "?" for one in printed)
        told = f"{self.role} ({self.argv[0][:100]}) {what}" + (f"; it printed: {printed}" if printed else "")
        mend = f"Mend the {self.role} command, or what it found: run it by hand as the agent's user."
        context = ErrorContext("command", code, told, mend, failed_field=self.role)
        return ApplyFailed(context.message, contexts=[context], suggestion=mend)


def _follow(process: subprocess.Popen[bytes], output: bytearray, until: float) -> bool:
    """Keep the end of what a process prints until it ends; False when the time is over first."""
    assert process.stdout is not None
    stream = process.stdout.fileno()
    os.set_blocking(stream, False)
    ended = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            selector.register(ended, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0:
                ready = {key.fd for key, _ in selector.select(left)}
                if stream in ready and not _read(stream, output):
                    selector.unregister(stream)
                if ended in ready:
                    _drain(stream, output)
                    process.wait()
                    return True
            return False
    finally:
        os.close(ended)


def _read(stream: int, output: bytearray) -> bool:
    """Read once; False at the end."""
    try:
        piece = os.read(stream, _READ_BYTES)
    except BlockingIOError:
        return True
    output += piece
    del output[:-_KEPT_BYTES]
    return bool(piece)


def _drain(stream: int, output: bytearray) -> None:
    """Take what is in the pipe already; something that lives on may write into it for ever."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(_DRAINED_READS):
            piece = os.read(stream, _READ_BYTES)
            if not piece:
                return
            output += piece
            del output[:-_KEPT_BYTES]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and whatever it started, first politely."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
