"""Belief on disk: one file per service and one for the keyring, replaced whole, checked when read.

Laws: what is kept was synced before anything is applied; a file that does not read as it was written is
set aside and counts as lost, never as partly true; belief belongs to one trust anchor.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from config_daemon.wire import values
from config_daemon.wire.keyring import KEYRING
from config_daemon.worker.trust import Belief, Floor

MAX_BYTES = 8 << 20
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_OUTCOMES = ("pending", "applied", "rejected", "deleted", None)


class Kept(NamedTuple):
    """What was on disk: the belief, and whether an earlier one was lost (`floor-lost`)."""

    belief: Belief
    lost: bool


class KeptKeyring(NamedTuple):
    """What was on disk of the keyring: its bytes, keys believed before it, the way to it; whether a file was lost."""

    raw: bytes | None
    past: tuple[bytes, ...]
    steps: tuple[bytes, ...]
    lost: bool


class Keep:
    """The state folder of one worker."""

    def __init__(self, folder: Path, anchor: str) -> None:
        self._folder, self._anchor = folder, anchor
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self, service: str) -> Kept:
        """Return what is known of a service; what is damaged, or no file at all, is set aside.

        Raises: OSError when there is a file and it cannot be read, which proves nothing about its content.
        """
        path = self._path(service)
        try:
            return Kept(self._parse(_read(path)), False)
        except FileNotFoundError:
            return Kept(Belief(), False)
        except _DAMAGED:
            self.set_aside(service)
            return Kept(Belief(), True)

    def load_keyring(self) -> KeptKeyring:
        """Return the keyring that was taken last, and keys believed before; what is damaged is set aside.

        Raises: OSError, as `load`.
        """
        path = self._path(KEYRING)
        try:
            members = _members(_read(path))
            if members["anchor"] != self._anchor:
                return KeptKeyring(None, (), (), False)
            past = tuple(bytes.fromhex(each) for each in members["past"])
            steps = tuple(each.encode("utf-8") for each in members.get("steps", []))
            return KeptKeyring(members["keyring"].encode("utf-8"), past, steps, False)
        except FileNotFoundError:
            return KeptKeyring(None, (), (), False)
        except _DAMAGED:
            self.set_aside(KEYRING)
            return KeptKeyring(None, (), (), True)

    def save_keyring(self, raw: bytes, past: Iterable[bytes], steps: Iterable[bytes]) -> None:
        """Make a keyring durable, before it is believed.

        Raises: OSError; the file is then the one before.
        """
        members = {
            "anchor": self._anchor, "keyring": raw.decode("utf-8"), "past": [key.hex() for key in past],
            "steps": [step.decode("utf-8") for step in steps],
        }  # fmt: skip
        self._write(KEYRING, members)

    def set_aside(self, subject: str) -> None:
        """Move a file that cannot be used out of the way, for a person to look at."""
        path = self._path(subject)
        # a disk that takes no writes is no reason not to start; the next save replaces the file
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".damaged"))

    def save(self, service: str, belief: Belief) -> None:
        """Make a belief durable.

        Raises: OSError; the file is then the one before.
        """
        members = {
            "anchor": self._anchor,
            "floor": belief.floor,
            "current": _text(belief.current),
            "previous": _text(belief.previous),
            "outcome": belief.outcome,
            "unused": _text(belief.unused),
        }
        self._write(service, members)

    def _write(self, subject: str, members: Mapping[str, Any]) -> None:
        # not escaped: some characters would take six times the bytes, and three of the largest messages too many
        body = json.dumps(members, ensure_ascii=False).encode()
        self._replace(self._path(subject), hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def _parse(self, content: bytes) -> Belief:
        members = _members(content)
        if members["outcome"] not in _OUTCOMES:
            raise ValueError("unknown outcome")
        current, previous = _bytes(members["current"]), _bytes(members["previous"])
        floor = _floor(members["floor"]) if members["anchor"] == self._anchor else None
        return Belief(floor, current, previous, members["outcome"], _bytes(members.get("unused")))

    def _path(self, subject: str) -> Path:
        return self._folder / f"{subject}.state"

    @staticmethod
    def _replace(path: Path, content: bytes) -> None:
        beside = path.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        descriptor = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _members(content: bytes) -> dict[str, Any]:
    digest, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("the digest does not fit")
    values.check_parts(body)
    members = json.loads(body)
    if not isinstance(members, dict):
        raise TypeError("not an object")
    return members


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8")


def _bytes(text: Any) -> bytes | None:
    if not isinstance(text, str | None):
        raise TypeError("a message is kept as text")
    return None if text is None else text.encode("utf-8")


def _floor(members: Any) -> Floor | None:
    if members is None:
        return None
    generation, sequence, body_sha256 = members
    if not (type(generation) is type(sequence) is int and isinstance(body_sha256, str)):
        raise TypeError("a floor is two integers and a digest")
    return Floor(generation, sequence, body_sha256)


def _read(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises: ValueError when it is a link, a folder, a pipe; OSError.
    """
    try:
        # O_NONBLOCK: opening a pipe would wait for its writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise ValueError("not a file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
