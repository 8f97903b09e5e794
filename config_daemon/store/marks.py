"""The daemon's own floor on disk: which numbers may have been used, and where in the database it stood.

Laws: a number is used only when the file on disk already reserves it, so that a crash burns numbers
and never repeats one; the file carries an HMAC and is verified before it is parsed; it belongs in no
backup, because an old one would be a lie about the past.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from config_daemon.errors import CacheError, RejectedUpdate
from config_daemon.store.audit import Heads
from config_daemon.store.files import read_capped, replace_durably
from config_daemon.store.ports import Place
from config_daemon.wire import values
from config_daemon.wire.mac import seal_hmac, unseal_hmac
from config_daemon.wire.sealing import canonical

MARKS = "marks"
MAX_BYTES = 1 << 20
RESERVE = 1000
VERSION = 1
PURGED_MOST = 1000  # so that the file stays small, whatever happens
BEYOND_ANY_CLOCK = 1 << 52  # milliseconds since 1970 reach it in 142 000 years


@dataclass(frozen=True, slots=True)
class Marks:
    """What the file says: generation, the highest number that may have been used, epoch, place.

    `held` is a hold that only a person ends, as (condition, subject, detail): it outlives the process.
    `keyring` is number and digest of the one in force, `key` the id of the key that signs. `purged` are deleted
    services whose topics are to be empty, with the version at which each was deleted.
    """

    generation: int
    reserved: int
    epoch: str
    feed: Place | None
    held: tuple[str, str, str] | None = None
    audit: Heads | None = None
    keyring: tuple[int, str] | None = None
    key: str | None = None
    purged: Mapping[str, int] = field(default_factory=dict)
    version: int = VERSION


def load(path: Path, hmac_keys: tuple[bytes, ...]) -> Marks | None:
    """Read the marks; None when there are none.

    Raises: CacheError when they are there and cannot be trusted.
    """
    try:
        body = unseal_hmac(read_capped(path, MAX_BYTES), MARKS, hmac_keys)
        values.check_parts(body)
        members = values.parse(body)
        version = _counter(members["version"])
        if version != VERSION:  # writing it back would drop what we do not know
            raise ValueError(f"format {version}, this program writes {VERSION}")
        feed = members["feed"]
        return Marks(
            generation=_counter(members["generation"]),
            reserved=_counter(members["reserved"]),
            epoch=_text(members["epoch"]),
            feed=None if feed is None else Place(_counter(feed[0]), _text(feed[1])),
            held=_held(members.get("held")),
            audit=_heads(members.get("audit")),
            keyring=_keyring(members.get("keyring")),
            key=None if members.get("key") is None else _text(members["key"]),
            purged={_text(name): _counter(at) for name, at in members.get("purged", {}).items()},
        )
    except FileNotFoundError:
        return None
    except (RejectedUpdate, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise CacheError(
            f"{path} cannot be trusted: {error}",
            suggestion="Keep the file aside for inspection; without marks the daemon asks before it publishes.",
        ) from error


class Numbers:
    """Hands out the numbers of one daemon, each covered by a reservation on disk."""

    def __init__(
        self, path: Path, hmac_key: bytes, marks: Marks, last: int, older_keys: tuple[bytes, ...] = ()
    ) -> None:
        self._path, self._key, self._older_keys, self.marks = path, hmac_key, older_keys, marks
        self.last = last
        self.trouble: str | None = None
        self._noted: dict[str, Any] = {}

    @property
    def hmac_keys(self) -> tuple[bytes, ...]:
        """Return the key that seals the daemon's own files, and then those that may have sealed them."""
        return (self._key, *self._older_keys)

    def next(self) -> int:
        """Return a number never used before.

        Raises: OSError when it cannot be reserved; nothing is used then.
        """
        if self.last + RESERVE // 2 > self.marks.reserved and not self.trouble:
            self.reserve()
        if self.last + 1 > self.marks.reserved:
            raise OSError(None, self.trouble)
        self.last += 1
        return self.last

    def reserve(self) -> None:
        """Reserve the next block well before it is needed; `trouble` says why that failed, None when it did not."""
        try:
            if self.last >= values.MAX_INTEGER:
                raise OSError(errno.EOVERFLOW, "this generation has no numbers left")
            self.write(reserved=min(self.last + RESERVE, values.MAX_INTEGER))
        except OSError as error:
            self.trouble = error.strerror or str(error)
        else:
            self.trouble = None

    def raise_to(self, number: int) -> None:
        """Make sure that all numbers handed out from now on are above `number`."""
        self.last = max(self.last, number)

    def write(self, **changes: Any) -> None:
        """Replace the file durably with some fields changed."""
        changed = replace(self.marks, **{**self._noted, **changes})
        members = asdict(changed) | {"audit": changed.audit and changed.audit._asdict()}
        replace_durably(self._path, seal_hmac(canonical(members), MARKS, self._key))
        self.marks = changed

    def note(self, feed: Place, epoch: str) -> None:
        """Have the next write say where in which database we stand; not worth a write of its own."""
        self._noted |= {"feed": feed, "epoch": epoch}

    def insist(self, feed: Place) -> None:
        """Write down a place that the database must hold; `trouble` says why that failed."""
        self._noted["feed"] = feed
        self.reserve()

    def note_audit(self, heads: Heads) -> None:
        """Have the next write say how far the audit chains were checked."""
        self._noted["audit"] = heads

    def release(self, *, epoch: str, feed: Place, audit: Heads) -> None:
        """Write down that a person took this database for the true one.

        Raises: OSError.
        """
        self._noted = {}
        self.write(
            epoch=epoch, feed=feed, held=None, audit=audit, reserved=max(self.last, self.marks.reserved)
        )

    def hold(self, name: str, subject: str, detail: str) -> None:
        """Write a hold down, so that a restart does not end it; `trouble` says why that failed."""
        self._noted["held"] = (name, subject, detail)
        if self.marks.held is None:
            self.reserve()

    def enter(self, generation: int, keyring: tuple[int, str], key: str, unix_ms: int) -> None:
        """Write down which keyring is in force and which key signs, before anything is signed so.

        A generation starts at the clock where the one before ran beyond any: whoever stole its key may have
        used up its numbers.

        Raises: OSError; nothing has changed then. ValueError for what is older than what was in force.
        """
        before = self.marks.keyring[0] if self.marks.keyring else 0
        if generation < self.marks.generation or keyring[0] < before:
            raise ValueError(f"keyring {keyring[0]} of generation {generation} is older than what marks name")
        is_new = generation > self.marks.generation
        last = unix_ms if is_new and self.last >= BEYOND_ANY_CLOCK else self.last
        reserved = last if is_new else self.marks.reserved
        try:
            self.write(generation=generation, keyring=keyring, key=key, reserved=reserved)
        except OSError as error:
            self.trouble = error.strerror or str(error)
            raise
        self.last = last
        for stale in ("keyring", "key"):
            self._noted.pop(stale, None)

    def note_key(self, keyring: tuple[int, str], key: str) -> None:
        """Have the next write say which single key signs: one that signed from the beginning."""
        self._noted |= {"keyring": keyring, "key": key}

    def rekey(self, hmac_key: bytes) -> None:
        """Seal the file with another key from now on.

        Raises: OSError; the file is then sealed with the one before.
        """
        before, self._key = self._key, hmac_key
        try:
            self.write()
        except OSError:
            self._key = before
            raise
        self._older_keys = (before, *self._older_keys)

    def close(self) -> None:
        """Give unused numbers back: a clean stop wastes nothing. A disk that is full wastes them."""
        with contextlib.suppress(OSError):
            self.write(reserved=self.last)


def _held(value: Any) -> tuple[str, str, str] | None:
    return None if value is None else (_text(value[0]), _text(value[1]), _text(value[2]))


def _keyring(value: Any) -> tuple[int, str] | None:
    return None if value is None else (_counter(value[0]), _text(value[1]))


def _heads(value: Any) -> Heads | None:
    if value is None:
        return None
    history, access = ((_counter(value[name][0]), _text(value[name][1])) for name in Heads._fields)
    return Heads(history, access)


def _counter(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= values.MAX_INTEGER:
        raise ValueError(f"a {type(value).__name__} where a counter stands")  # showing it may take long
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a text stands")
    return value
