"""Everybody who can keep a database to himself, each in one way.

Laws: apsw connections lock each other out as processes do; locks of the kernel alone get a process of their own,
since any other connection of this one would drop them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw


@contextlib.contextmanager
def begin_exclusive(database: Path) -> Iterator[None]:
    """Hold a transaction open that nobody may write beside; in WAL mode others may read."""
    connection = apsw.Connection(str(database))
    connection.set_busy_timeout(5000)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close(True)


@contextlib.contextmanager
def locking_mode(database: Path) -> Iterator[None]:
    """Take the whole file for one connection: nobody may even read; only while nobody else has it open."""
    connection = apsw.Connection(str(database))
    connection.set_busy_timeout(5000)
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("BEGIN IMMEDIATE; COMMIT")
    try:
        yield
    finally:
        connection.close(True)


_LOCK = """
import fcntl, sys
shm = open(sys.argv[1], "r+b", 0)
fcntl.lockf(shm, fcntl.LOCK_EX, 8, 120)  # waits for readers, which hold one of the bytes while they read
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def shm_locks(database: Path) -> Iterator[None]:
    """Lock the bytes of `-shm` on which WAL's own locks lie (120 to 127), without SQLite."""
    locker = subprocess.Popen(
        [sys.executable, "-S", "-c", _LOCK, f"{database}-shm"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert locker.stdout is not None and locker.stdout.readline() == b"locked\n"
        yield
    finally:
        locker.communicate()
