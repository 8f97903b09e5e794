"""Belief on disk: one file per service and one for the keyring, replaced whole, checked when read.

Laws: what is kept was synced before anything is applied; a file that does not read as it was written is
set aside and counts as lost, never as partly true; belief belongs to one trust anchor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.keyring import KEYRING
from config_daemon.wire.messages import ConfigUpdate
from config_daemon.wire.status import Attempt
from config_daemon.worker.durable import DAMAGED, framed, members_of, read, replace
from config_daemon.worker.trust import Belief, Floor, update_in

_OUTCOMES = ("pending", "applied", "rejected", "rolled-back", "deleted", None)


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


def kept_update(folder: Path, service: str) -> ConfigUpdate | None:
    """Return the config that was taken last, None for none: to be looked at, for nothing is judged or written."""
    try:
        raw = _bytes(members_of(read(folder / f"{service}.state"))["current"])
        return None if raw is None else update_in(raw)
    except (OSError, RejectedUpdate, *DAMAGED):
        return None


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
            return Kept(self._parse(read(path)), False)
        except FileNotFoundError:
            return Kept(Belief(), False)
        except DAMAGED:
            self.set_aside(service)
            return Kept(Belief(), True)

    def load_keyring(self) -> KeptKeyring:
        """Return the keyring that was taken last, and keys believed before; what is damaged is set aside.

        Raises: OSError, as `load`.
        """
        path = self._path(KEYRING)
        try:
            members = members_of(read(path))
            if members["anchor"] != self._anchor:
                return KeptKeyring(None, (), (), False)
            past = tuple(bytes.fromhex(each) for each in members["past"])
            steps = tuple(each.encode("utf-8") for each in members.get("steps", []))
            return KeptKeyring(members["keyring"].encode("utf-8"), past, steps, False)
        except FileNotFoundError:
            return KeptKeyring(None, (), (), False)
        except DAMAGED:
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
        replace(self._path(KEYRING), framed(members))

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
            "attempt": belief.attempt and belief.attempt.model_dump(mode="json"),
        }
        replace(self._path(service), framed(members))

    def _parse(self, content: bytes) -> Belief:
        members = members_of(content)
        if members["outcome"] not in _OUTCOMES:
            raise ValueError("unknown outcome")
        current, previous = _bytes(members["current"]), _bytes(members["previous"])
        unused = _bytes(members.get("unused"))
        if members["anchor"] != self._anchor:
            return Belief(None, current, previous, members["outcome"], unused)
        floor, attempt = _floor(members["floor"]), _attempt(members.get("attempt"))
        return Belief(floor, current, previous, members["outcome"], unused, attempt)

    def _path(self, subject: str) -> Path:
        return self._folder / f"{subject}.state"


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


def _attempt(members: Any) -> Attempt | None:
    """Return the last attempt; None when another version told it otherwise, for nothing but words depends on it."""
    try:
        return None if members is None else Attempt.model_validate(members)
    except ValueError:
        return None
