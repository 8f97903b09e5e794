"""Belief on disk: one file per service, replaced whole, checked when read.

Laws: what is kept was synced before anything is applied; a file that does not read as it was written is
set aside and counts as lost, never as partly true; belief belongs to one trust anchor.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from config_daemon.worker.trust import Belief, Floor

MAX_BYTES = 8 << 20
_OUTCOMES = ("pending", "applied", "rejected", "deleted", None)


class Kept(NamedTuple):
    """What was on disk: the belief, and whether an earlier one was lost (`floor-lost`)."""

    belief: Belief
    lost: bool


class Keep:
    """The state folder of one worker."""

    def __init__(self, folder: Path, anchor: str) -> None:
        self._folder, self._anchor = folder, anchor
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self, service: str) -> Kept:
        """Return what is known of a service; a damaged file is set aside."""
        path = self._path(service)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return Kept(Belief(), False)
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        try:
            return Kept(self._parse(content), False)
        except (ValueError, KeyError, TypeError):
            path.rename(path.with_suffix(".damaged"))
            return Kept(Belief(), True)

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
        }
        body = json.dumps(members).encode()
        self._replace(self._path(service), hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def _parse(self, content: bytes) -> Belief:
        digest, _, body = content.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise ValueError("the digest does not fit")
        members: dict[str, Any] = json.loads(body)
        if members["outcome"] not in _OUTCOMES:
            raise ValueError("unknown outcome")
        current, previous = _bytes(members["current"]), _bytes(members["previous"])
        if members["anchor"] != self._anchor:
            return Belief(None, current, None, members["outcome"])
        floor = Floor(*members["floor"]) if members["floor"] else None
        return Belief(floor, current, previous, members["outcome"])

    def _path(self, service: str) -> Path:
        return self._folder / f"{service}.state"

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


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8")
