"""The last-known-good cache: what was published, byte for byte, to go on with when the database cannot.

Laws: the HMAC over the exact bytes is checked before anything is parsed; the file is replaced whole and
durably, the one before stays as `.1`; it holds messages as they were sealed and never seals them again; of a
large fleet it is the place where the messages lie, in memory there are their digests; and of a large fleet what
changed since it was written lies in a second file of the same form, which names the first one and counts only
beside it.

Source: seed 004 `LKGCache`; docs/protocol.md for the tail.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from sys import intern
from typing import Any

from config_daemon import failpoints
from config_daemon.core.sealed import Fingerprint, Sealed
from config_daemon.errors import CacheError, RejectedUpdate
from config_daemon.store.files import create_beside, opened_capped, sync_folder
from config_daemon.store.ports import Place
from config_daemon.store.quarantine import prune_files
from config_daemon.store.shelf import CacheShelf
from config_daemon.wire import values
from config_daemon.wire.mac import open_body, tail_hmac
from config_daemon.wire.messages import CONFIG_OFFSET
from config_daemon.wire.sealing import canonical

LKG = "lkg"
ASIDE, ADDED = "lkg.bad-", ".added"
MAX_BYTES = 1 << 30
CHUNK_BYTES = 1 << 20
MAX_NESTED = 100  # lists and objects of a head: it has three
IN_MEMORY = 20_000  # services: the messages of more of them stay on disk
_ONE_MESSAGE = rb"\"signature\":\""  # as it stands in the text that a sealed message is here
_PAYLOAD, _BETWEEN, _SEALED = b',"payload":{', b',"schema_version":', b',"sealed":{'
_ENTRY = re.compile(rb'"([a-z][a-z0-9-]{0,63})":("(?:[^"\\]++|\\.)*+")')


class GoneMessage(Exception):
    """The bytes of a service's message, its argument, cannot be read back any more."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the cache says beside the configs; `uncovered` names the version of every row newer than what it holds.

    `base` is empty, or the MAC of the cache that this one adds to.
    """

    config_epoch: str
    generated_at: str
    generation: int
    sequence: int
    feed: Place
    schema_version: int
    key_id: str
    algorithm: str = "hmac-sha256"
    version: int = 1
    uncovered: Mapping[str, int] = field(default_factory=dict)
    base: str = ""


@dataclass(frozen=True, slots=True)
class Cache:
    """A verified cache: its head, the last message of every service, and which of them were added to the file `mac`."""

    head: Head
    sealed: Mapping[str, Sealed]
    mac: str
    added: frozenset[str] = frozenset()

    @property
    def versions(self) -> dict[str, int]:
        """Return the newest version of every service that was known when it was written."""
        held = {name: one.fingerprint.config_version for name, one in self.sealed.items()}
        return held | dict(self.head.uncovered)


def load(path: Path, hmac_keys: Iterable[bytes], in_memory: int = IN_MEMORY) -> Cache | None:
    """Read and verify the cache; None when there is none. Of more services than `in_memory` the bytes stay there.

    Raises: CacheError when it is there and cannot be trusted.
    """
    whole = _load(path, hmac_keys := tuple(hmac_keys), in_memory)
    added = _load(additions(path), hmac_keys, in_memory) if whole is not None else None
    if whole is None or added is None or added.head.base != whole.mac:
        return whole
    return Cache(
        replace(added.head, base=""), {**whole.sealed, **added.sealed}, whole.mac, frozenset(added.sealed)
    )


def additions(path: Path) -> Path:
    """Return where that lies which changed since the cache at `path` was written."""
    return path.with_name(path.name + ADDED)


def _load(path: Path, hmac_keys: Sequence[bytes], in_memory: int) -> Cache | None:
    try:
        with opened_capped(path, MAX_BYTES) as (descriptor, content):
            end = len(open_body(content, LKG, hmac_keys))
            is_large = content.count(_ONE_MESSAGE) > in_memory
            return _read(content, end, CacheShelf(descriptor) if is_large else None)
    except FileNotFoundError:
        return None
    except (
        RejectedUpdate, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError
    ) as error:  # fmt: skip
        reason = error.reason if isinstance(error, RejectedUpdate) else str(error)
        raise CacheError(f"{path} cannot be trusted: {reason}") from error


class Draft:
    """A cache on its way, or what is added to one: its body goes into a file beside the one it will replace.

    It goes there a slice at a time; of more services than `in_memory` the messages let go of their bytes as soon
    as they lie there. `mac` names it once it is in place.
    """

    def __init__(
        self, path: Path, head: Head, sealed: Mapping[str, Sealed], in_memory: int = IN_MEMORY
    ) -> None:
        """Begin; `sealed` must not change any more. Raises: OSError."""
        self._path, self.adds, self.mac = additions(path) if head.base else path, bool(head.base), ""
        self.count = len(sealed)
        self._beside, self._stream = create_beside(self._path)
        self._shelf = CacheShelf(self._stream.fileno()) if len(sealed) > in_memory else None
        self._pieces = _pieces(head, sealed)
        self._offset = 0

    def write(self, count: int) -> bool:
        """Write the next pieces, about two for each half of a service; False when nothing is left.

        Raises: OSError; GoneMessage.
        """
        some = list(islice(self._pieces, count))
        self._stream.write(b"".join(piece for piece, _ in some))
        if self._shelf is not None:
            self._stream.flush()
        for piece, sealed in some:
            if sealed is not None and self._shelf is not None:
                sealed.put(self._shelf, self._offset, len(piece))
            self._offset += len(piece)
        return len(some) == count

    def put_in_place(self, hmac_key: bytes) -> None:
        """Seal what was written, put it in place durably, and keep the cache before as `.1`.

        Raises: OSError; the old cache is then still in place, under its name or as `.1`.
        """
        with self._stream as stream:
            body_bytes = stream.tell()
            stream.seek(0)
            tail = tail_hmac(iter(partial(stream.read, CHUNK_BYTES), b""), body_bytes, LKG, hmac_key)
            stream.write(tail)
            self.mac = _mac_of(tail)
            stream.flush()
            os.fsync(stream.fileno())
        failpoints.reached("before_lkg_rename")
        previous = self._path.with_name(f"{self._path.name}.1")
        if self._path.exists() and not self.adds:
            # a hard link first: at no moment is there no cache under its own name
            previous.unlink(missing_ok=True)
            previous.hardlink_to(self._path)
        self._beside.replace(self._path)
        sync_folder(self._path.parent)
        failpoints.reached("after_lkg")
        if not self.adds:  # what was added to the one before; beside this one it would not count
            additions(self._path).unlink(missing_ok=True)

    def discard(self) -> None:
        """Give up, and leave nothing behind."""
        with contextlib.suppress(OSError):
            self._stream.close()
        with contextlib.suppress(OSError):
            self._beside.unlink(missing_ok=True)


def _pieces(head: Head, sealed: Mapping[str, Sealed]) -> Iterator[tuple[bytes, Sealed | None]]:
    """Yield the body without its closing brace; members are in sorted order, as in every body of ours.

    A piece that is a message's text comes with the message.
    """
    begin = b"{"
    for member in sorted([*Head.__slots__, "payload", "sealed"]):
        yield b'%s"%s":' % (begin, member.encode()), None
        begin = b","
        if member == "payload":
            yield from _object(sealed, lambda name, each: (_there(name, each.read_config()), None))
        elif member == "sealed":
            yield from _object(sealed, lambda name, each: (_text(_there(name, each.read())), each))
        else:
            yield canonical(getattr(head, member)), None


def _object(
    sealed: Mapping[str, Sealed], value: Callable[[str, Sealed], tuple[bytes, Sealed | None]]
) -> Iterator[tuple[bytes, Sealed | None]]:
    begin = b"{"
    for name in sorted(sealed):
        yield begin + canonical(name) + b":", None
        yield value(name, sealed[name])
        begin = b","
    yield b"}" if begin == b"," else b"{}", None


def _text(raw: bytes) -> bytes:
    return canonical(raw.decode("utf-8"))


def _there(service: str, content: bytes | None) -> bytes:
    if content is None:
        raise GoneMessage(service)
    return content


def set_aside(path: Path, folder: Path, stamp: str) -> Path:
    """Move a cache that cannot be trusted into quarantine, with what was added to it; return where it went.

    The newest ones stay there.

    Raises: OSError.
    """
    folder.mkdir(mode=0o750, exist_ok=True)
    place = folder / f"{ASIDE}{stamp}"
    path.rename(place)
    with contextlib.suppress(FileNotFoundError):
        additions(path).rename(additions(place))
    prune_files(folder, ASIDE, place.name, ADDED)
    return place


def _versions(members: Any) -> dict[str, int]:
    if not all(type(version) is int for version in members.values()):
        raise TypeError("a version is an integer")
    return dict(members)


def _read(content: bytes, end: int, shelf: CacheShelf | None) -> Cache:
    """Read a verified body of `end` bytes; what is on the shelf is not kept in memory.

    The payload is for people and is passed over: it may hold anything, but in the texts that follow it every
    quote is escaped, so that the last place that looks like the beginning of the messages is the one.
    """
    before, start = content.index(_PAYLOAD, 0, end), content.rindex(_SEALED, 0, end)
    between, place = content.rindex(_BETWEEN, before, start), start + len(_SEALED)
    sealed: dict[str, Sealed] = {}
    while entry := _ENTRY.match(content, place, end):
        name, text = entry[1].decode(), json.loads(entry[2])
        if name in sealed:
            raise ValueError(f"{name} is there twice")
        sealed[name] = _sealed(text)
        if shelf is not None:
            sealed[name].put(shelf, entry.start(2), len(entry[2]))
        place = entry.end()
        if content[place : place + 1] != b",":
            break
        place += 1
    if content[place : place + 1] != b"}":
        raise ValueError("the messages have no end")
    plain = content[:before] + content[between:start] + content[place + 1 : end] + b"}"
    if plain.count(b"[") + plain.count(b"{") > MAX_NESTED:
        raise ValueError("more lists and objects than a head has")
    head = json.loads(plain, parse_float=str)  # a head has none, and many take long
    names = [name for name in Head.__slots__ if name not in ("feed", "uncovered", "base")]
    known = {name: head[name] for name in names}
    rest = {
        "feed": Place(*head["feed"]),
        "uncovered": _versions(head["uncovered"]),
        "base": head.get("base", ""),
    }
    return Cache(Head(**known, **rest), sealed, _mac_of(content[end:]))


def _mac_of(tail: bytes) -> str:
    return tail.rsplit(b'"', 2)[1].decode("ascii")


def _sealed(text: str) -> Sealed:
    raw = text.encode("utf-8")
    values.check_parts(raw)
    members = json.loads(text, parse_float=str)
    fingerprint = Fingerprint(  # a hundred thousand services need no hundred thousand copies of one epoch
        bytes.fromhex(members["checksum"]), members["config_version"], intern(members["config_epoch"]),
        members["generation"], intern(members["key_id"]), members.get("deleted", False),
    )  # fmt: skip
    config = text[CONFIG_OFFSET:]
    end = values.end_of_value(config)  # not by writing the config again: many floats take long
    if end is None:
        raise ValueError("a message has no config at its place")
    return Sealed(raw, members["sequence"], fingerprint, len(config[:end].encode("utf-8")))
