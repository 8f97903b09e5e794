"""What faults do with: the database's files, locks on it, other clients of the broker, clocks.

Laws: the database's files are read and written by other processes only, never by this one, whose own SQLite has
them open; a damage ends with the very database that there was.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw

from tests.raw_client import Message, RawClient
from tools.faults.children import Child
from tools.faults.stage import Stage

CLOCK = Path(__file__).parent / "clock"
_SUFFIXES = ("", "-wal", "-shm")


# the database's files -----------------------------------------------------------------------------


def checkpoint(stage: Stage) -> None:
    """Have everything in the file itself and nothing in its log."""
    connection = apsw.Connection(str(stage.files.database))
    connection.set_busy_timeout(5000)
    connection.pragma("wal_checkpoint(TRUNCATE)")
    connection.close(True)


def copy_database(stage: Stage, name: str = "good") -> Path:
    """Copy the database as SQLite does it; return the copy."""
    target = stage.folder / "scratch" / f"{name}.db"
    target.unlink(missing_ok=True)
    source, copy = apsw.Connection(str(stage.files.database)), apsw.Connection(str(target))
    with copy.backup("main", source, "main") as backup:
        backup.step(-1)
    source.close(True)
    copy.close(True)
    return target


def put_database(stage: Stage, copy: Path) -> None:
    """Put a copy in the place of the database, its log and its index, as a careful person does: all at once."""
    database = stage.files.database
    beside = database.with_name(".put-back")
    shutil.copyfile(copy, beside)
    beside.chmod(0o660)
    for suffix in _SUFFIXES[1:]:
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    beside.replace(database)


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Write bytes into a file as another process."""
    subprocess.run(
        ["dd", f"of={path}", "bs=1", f"seek={offset}", "conv=notrunc", "status=none"],
        input=content,
        check=True,
    )


def bytes_of(path: Path, offset: int, count: int) -> bytes:
    """Read bytes of a file as another process."""
    return subprocess.run(
        ["dd", f"if={path}", "bs=1", f"skip={offset}", f"count={count}", "status=none"],
        capture_output=True,
        check=True,
    ).stdout


def truncate(path: Path, size_bytes: int) -> None:
    """Cut a file as another process."""
    subprocess.run(["truncate", "-s", str(size_bytes), str(path)], check=True)


def flip(path: Path, rng: random.Random, low: int = 0, high: int | None = None) -> int:
    """Flip one bit somewhere in a file; return where."""
    at = rng.randrange(low, high or path.stat().st_size)
    old = bytes_of(path, at, 1)
    overwrite(path, at, bytes([old[0] ^ (1 << rng.randrange(8))]))
    return at


# locks --------------------------------------------------------------------------------------------

_LOCKER = """
import sys, time, apsw, random
connection = apsw.Connection(sys.argv[1]); connection.set_busy_timeout(10000)
if sys.argv[2] == "exclusive":
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE; UPDATE schema_version SET updated_at = updated_at; COMMIT")
    print("locked", flush=True)
    time.sleep(3600)
elif sys.argv[2] == "writers":
    connection.execute("BEGIN EXCLUSIVE")
    print("locked", flush=True)
    time.sleep(3600)
rng = random.Random(int(sys.argv[3]))
print("locked", flush=True)
while True:
    connection.execute("BEGIN IMMEDIATE"); time.sleep(0.02); connection.execute("ROLLBACK")
    time.sleep(rng.uniform(0.0, 0.06))
"""


@contextlib.contextmanager
def locked(stage: Stage, how: str) -> Iterator[None]:
    """Lock the database from another process: `exclusive`, `writers`, or `short` (20 ms at random times)."""
    child = Child(
        [sys.executable, "-c", _LOCKER, str(stage.files.database), how, str(stage.rng.randrange(1 << 30))], {},
        stage.folder / "logs" / "locker.log",
    )  # fmt: skip
    try:
        stage.until(lambda: "locked" in child.said, "the lock")
        yield
    finally:
        child.kill()


# others at the broker -----------------------------------------------------------------------------


@contextlib.contextmanager
def client(stage: Stage, user: str = "edge", name: str = "") -> Iterator[RawClient]:
    """Connect somebody to the broker who hears everything."""
    with RawClient(stage.url(user, direct=True), name, ca=stage.ca) as connected:
        connected.subscribe("system/#", retain_as_published=True)
        yield connected


def retained(stage: Stage) -> dict[str, bytes]:
    """Return what the broker retains now of configs and trust."""
    with client(stage) as connected:
        wanted = {f"system/config/{service}" for service in stage.services}
        connected.wait_for(lambda messages: wanted <= {message.topic for message in messages})
        return {
            message.topic: message.payload
            for message in list(connected.messages)
            if message.topic.startswith(("system/config/", "system/trust/")) and message.payload
        }


def live(connected: RawClient, service: str) -> list[Message]:
    """Return the messages that came for a service while somebody listened, old ones not among them."""
    found = [message for message in list(connected.messages) if message.topic == f"system/config/{service}"]
    with contextlib.suppress(IndexError):
        first = found[0]
        return found[1:] if first.retain and first.payload else found
    return []


def published(connected: RawClient, service: str) -> int:
    """Return how many different messages somebody heard for a service."""
    return len(
        {
            message.payload
            for message in list(connected.messages)
            if message.topic == f"system/config/{service}"
        }
    )


# clocks -------------------------------------------------------------------------------------------


class Clock:
    """The wall clock of the processes that get its environment; off by what was said last."""

    def __init__(self, stage: Stage) -> None:
        self._file = stage.folder / "clock"
        paths = filter(None, (str(CLOCK), stage.environment.get("PYTHONPATH"), os.getenv("PYTHONPATH")))
        self.environment = {"PYTHONPATH": os.pathsep.join(paths), "FAULTS_CLOCK": str(self._file)}
        self.turn(0)

    def turn(self, seconds: float) -> None:
        """Have the clock be off by so much, from its next look on."""
        beside = self._file.with_name("clock.new")
        beside.write_text(json.dumps(int(seconds * 1e9)))
        beside.replace(self._file)


# people -------------------------------------------------------------------------------------------


def command(stage: Stage, *words: str) -> tuple[int, str]:
    """Run one of the product's commands; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "config_daemon.cli.main", *words, "--data", str(stage.data)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr or done.stdout


_OTHERS = "".join(f"user {user}\ntopic readwrite #\n" for user in ("edge", "ear"))
OPEN_ACL = f"user daemon\ntopic readwrite #\n{_OTHERS}"


def allow(stage: Stage, daemon: str = "topic readwrite #", edge: str = "topic readwrite #") -> None:
    """Change what daemon and workers may do, as an operator does: the file, and the signal to read it."""
    rest = f"user edge\n{edge}\nuser ear\ntopic readwrite #\n"
    (stage.folder / "broker" / "acl").write_text(f"user daemon\n{daemon}\n{rest}")
    os.kill(stage.broker.pid, signal.SIGHUP)
    stage.pass_time(0.1)  # the broker has no answer to a signal
