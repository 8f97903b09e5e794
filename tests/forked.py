"""Programs as real processes without a new Python each: forked from one that has imported them already.

A start costs a third of a second of imports, and the tests make a thousand of them. So one server beside each test
process imports the whole package once, and a program is a fork of it that runs its module as `python -m` does.

Laws: a program has its own process, session, environment, folder and streams, and ends as Python ends; the server has
one thread and keeps nothing of a test open; what only a new Python can have (`sitecustomize`, say) gets a new Python.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PROGRAMS = ("config_daemon.cli.main", "config_daemon.cli.demo_worker", "config_daemon.agent.main")
OF_PYTHON = ("PYTHON", "LD_")  # variables that act before a program does
_STREAMS = (
    ("stdin", "r", False),
    ("stdout", "w", False),
    ("stderr", "w", True),
)  # whose lines go out at once
_ASKING = threading.Lock()


class Request(NamedTuple):
    """A program that is wanted."""

    words: list[str]
    environment: dict[str, str]
    folder: str


class Forked:
    """A program that the server forked; this much of `subprocess.Popen`."""

    def __init__(self, request: Request, streams: Sequence[int]) -> None:
        self._server, told = Pipe(duplex=False)
        self._code: int | None = None
        self._reading = threading.Lock()
        with told, _ASKING:
            server, _ = _serving()
            server.send(tuple(request))
            for descriptor in (*streams, told.fileno()):
                send_handle(server, descriptor, None)
        self.pid = int(self._server.recv())

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        with self._reading:
            if self._code is None and self._server.poll():
                self._code = int(self._server.recv())
            return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended.

        Raises: subprocess.TimeoutExpired.
        """
        if self._code is None and not self._server.poll(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, sig: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def start(
    argv: Sequence[str], environment: Mapping[str, str], streams: Sequence[int]
) -> Forked | subprocess.Popen[bytes]:
    """Start a program in a session of its own; `streams` are the descriptors of its stdin, stdout and stderr."""
    if tuple(argv[:2]) == (sys.executable, "-m") and _of_python(environment) == _of_python(os.environ):
        return Forked(Request(list(argv[2:]), dict(environment), str(Path.cwd())), streams)
    stdin, stdout, stderr = streams
    return subprocess.Popen(
        argv, env=environment, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
    )


def run(
    argv: Sequence[str], environment: Mapping[str, str] = {}, text: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with variables added to ours; return what it printed.

    Raises: subprocess.TimeoutExpired.
    """
    with contextlib.ExitStack() as opened:
        streams = [
            opened.enter_context(os.fdopen(os.memfd_create(name), "w+")) for name in ("in", "out", "err")
        ]
        streams[0].write(text)
        streams[0].seek(0)
        process = start(argv, {**os.environ, **environment}, [stream.fileno() for stream in streams])
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        for stream in streams:
            stream.seek(0)
        return subprocess.CompletedProcess(list(argv), code, streams[1].read(), streams[2].read())


def _of_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(OF_PYTHON)}


@cache
def _serving() -> tuple[Connection, subprocess.Popen[bytes]]:
    """Start the server of this process; it ends with the connection."""
    ours, theirs = Pipe()
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    return ours, server


# in the server ---------------------------------------------------------------------------------------


def _import_all() -> None:
    """Import what programs import; a program itself is left to whoever runs it."""
    import config_daemon

    for module in pkgutil.walk_packages(config_daemon.__path__, "config_daemon."):
        if module.name not in PROGRAMS:
            importlib.import_module(module.name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would lack the other threads"
    gc.freeze()  # what is here stays, in every fork


def _serve(requests: Connection) -> None:
    """Fork for each request until nobody asks any more, and tell how each fork ended."""
    running: dict[int, tuple[int, Connection]] = {}
    while True:
        for ready in wait([requests, *running]):
            if isinstance(ready, int):
                pid, told = running.pop(ready)
                os.close(ready)
                _tell(told, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                told.close()
                continue
            request = Request(*requests.recv())
            streams = [recv_handle(requests) for _ in range(3)]
            told = Connection(recv_handle(requests), readable=False)
            if not (pid := os.fork()):
                for connection in (requests, told, *(other for _, other in running.values())):
                    connection.close()
                return _become(request, streams)
            for descriptor in streams:
                os.close(descriptor)
            running[os.pidfd_open(pid)] = pid, told
            _tell(told, pid)


def _tell(told: Connection, number: int) -> None:
    with contextlib.suppress(OSError):  # whoever asked may not care
        told.send(number)


def _become(request: Request, streams: list[int]) -> None:
    """Be the program."""
    os.setsid()
    for target, descriptor in enumerate(streams):
        os.dup2(descriptor, target)
        name, mode, lines = _STREAMS[target]
        before = getattr(sys, name)
        stream = open(target, mode, encoding=before.encoding, errors=before.errors, closefd=False)  # noqa: SIM115 - a descriptor, for good
        stream.reconfigure(line_buffering=lines or stream.isatty())
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    sys.argv = request.words
    runpy.run_module(request.words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _import_all()
    with contextlib.suppress(EOFError):
        _serve(Connection(int(sys.argv[1])))
