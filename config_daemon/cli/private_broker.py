"""One private broker on a free loopback port, so that `dev` needs no broker of the user's.

Laws: it listens on 127.0.0.1 only and never on port 1883; nobody gets in without a password, which
is new in every run and stands in no argument list and no environment; it ends with the process that
started it, even by `kill -9`; a start that fails says why, with the broker's own last lines.
Mosquitto keeps retained messages over a `kill -9`, but for the one it acknowledged last: it answers
first and writes its file right after.

Left out: TLS and brokers for production, which are described in `docs/deploy.md`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from config_daemon.cli.private_broker_files import (
    HOST,
    mosquitto_acl,
    mosquitto_programs,
    prepare_iotcore,
    prepare_mosquitto,
    write_private,
)
from config_daemon.errors import BrokerUnavailable
from config_daemon.wire.address import BrokerAddress

ROLES = ("daemon", "worker", "reader", "enroll")
# whom `dev` starts, and whom its user may start
WORKERS = ("demo", "kitchen", "hall", "garden")
START_SECONDS = 10.0
STOP_SECONDS = 5.0
LOOK_SECONDS = 0.005
LOCK_SECONDS = 2.0
LOG_TAIL_BYTES = 400
PASSWORD_BYTES = 24
STANDARD_PORT = 1883
PR_SET_PDEATHSIG = 1
IOTCORE_WARNING = (
    "mosquitto is not installed, so iotcore stands in: it has no permissions per user, keeps nothing over "
    "a restart and speaks MQTT 5 only. Install mosquitto to see the real thing."
)

Kind = Literal["mosquitto", "iotcore", "external"]


@dataclass(frozen=True)
class BrokerUser:
    """One name and password that the broker lets in."""

    name: str
    password: str = field(repr=False)


@dataclass
class PrivateBroker:
    """A broker and who may speak to it; leaving the `with` block ends it."""

    kind: Kind
    port: int
    warning: str | None
    _urls: Mapping[str, str] = field(repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)

    def url(self, role: str) -> str:
        """Return the URL, user and password in it, for `daemon`, `worker`, `reader` or `enroll`.

        Raises ValueError for any other role.
        """
        if role not in self._urls:
            raise ValueError(f"no broker user has the role {role!r}; there are {', '.join(ROLES)}")
        return self._urls[role]

    def alive(self) -> bool:
        """Tell whether the broker's process runs; for an external one, whether its port answers."""
        if self.kind == "external":
            return accepts(BrokerAddress.parse(self._urls["daemon"]).host, self.port)
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the broker, by force after 5 s; nothing for an external one, or the second time."""
        self._process = None
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def external(url: str) -> PrivateBroker:
    """Return somebody else's broker in the same shape: `url` for every role, and never stopped.

    Raises SettingsError when `url` is no MQTT URL.
    """
    return PrivateBroker("external", BrokerAddress.parse(url).port, None, dict.fromkeys(ROLES, url))


def start(
    folder: Path,
    prefix: str = "system",
    *,
    service: str = "stt-worker",
    workers: Sequence[str] = WORKERS,
) -> PrivateBroker:
    """Start a broker that keeps its files in `folder`, and return once it accepts connections.

    `folder` is made, mode 0700; the user `worker` may read `service`'s config and report as one of `workers`.
    Call this from a thread that lives as long as the broker shall, thus the main one: to Linux the end
    of the *thread* that started a child is the end of its parent.
    Raises BrokerUnavailable: nothing is installed, the folder is in use, or the broker did not start.
    """
    programs = mosquitto_programs()
    if programs is None and importlib.util.find_spec("iotcore") is None:
        raise BrokerUnavailable(
            "there is no MQTT broker on this machine",
            suggestion="Run `apt-get install mosquitto`, or `pip install 'config-daemon[dev-broker]'`, "
            "or name a broker of your own with --broker URL.",
        )
    with contextlib.ExitStack() as opened:
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = _lock(folder, opened)
        port = reserve_port(opened)
        users = [BrokerUser(role, secrets.token_urlsafe(PASSWORD_BYTES)) for role in ROLES]
        passwords = {user.name: user.password for user in users}
        if programs is not None:
            acl = mosquitto_acl(prefix, service, workers)
            argv = prepare_mosquitto(folder, port, passwords, acl, programs)
        else:
            argv = prepare_iotcore(folder, port, passwords)
        log = folder / "broker.log"
        process = _spawn(argv, log, lock)
        opened.callback(_end, process)
        _wait_until_listening(process, port, log)
        urls = {user.name: f"mqtt://{user.name}:{user.password}@{HOST}:{port}" for user in users}
        kind: Kind = "iotcore" if programs is None else "mosquitto"
        warning = IOTCORE_WARNING if programs is None else None
        return PrivateBroker(kind, port, warning, urls, process, opened.pop_all())


def _lock(folder: Path, opened: contextlib.ExitStack) -> int:
    """Return a lock, as a file descriptor, that one broker at a time holds on `folder`.

    Two would replace each other's passwords and persistence file. A broker whose `dev` was killed
    needs a moment to write its file and end, hence the patience.
    """
    file = opened.enter_context((folder / "broker.lock").open("a"))
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file.fileno()
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise BrokerUnavailable(
                    f"another process runs its broker in {folder}",
                    suggestion="Stop the other `config-daemon dev`, or choose another folder with --data.",
                ) from error
            time.sleep(LOOK_SECONDS)


def reserve_port(opened: contextlib.ExitStack) -> int:
    """Return a free port that stays bound but not listening, so that the kernel gives it to nobody else.

    The broker can listen on it all the same, since both sides set SO_REUSEADDR. Before that, and when
    it has died, a connection is refused, and a client with our passwords meets no stranger.
    """
    while True:
        holder = opened.enter_context(socket.socket())
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, 0))
        port: int = holder.getsockname()[1]
        if port != STANDARD_PORT:
            return port


def ends_with_parent() -> Callable[[], None] | None:
    """Return what a child runs before its program, so that the kernel ends it together with us."""
    if sys.platform != "linux":
        return None
    # Looked up before the fork: a forked child of a process with threads must not load a library.
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # we died before the kernel was told
            os._exit(1)

    return tie


def _spawn(argv: list[str], log: Path, lock: int) -> subprocess.Popen[bytes]:
    write_private(log, "")
    with log.open("ab") as output:
        # A session of its own: Ctrl-C in the terminal is for `dev`, whose last messages need the broker.
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(lock,),  # so that the lock lasts as long as the broker, even when we are killed
            preexec_fn=ends_with_parent(),
        )


def accepts(host: str, port: int) -> bool:
    """Tell whether something takes connections at this address, within 1 s."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    failure = ""
    while not accepts(HOST, port):
        # Waiting for its end is the pause between two looks: a broken start is told at once.
        with contextlib.suppress(subprocess.TimeoutExpired):
            failure = f"ended at its start (exit {process.wait(LOOK_SECONDS)})"
        if not failure and time.monotonic() > deadline:
            failure = f"did not listen within {START_SECONDS:g} s"
        if failure:
            tail = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
            raise BrokerUnavailable(
                f"the private broker {failure}; its last lines:\n{tail}",
                suggestion=f"Read {log}, or name a broker of your own with --broker URL.",
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
