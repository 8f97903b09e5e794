"""The last-known-good cache: what was published, byte for byte, to go on with when the database cannot.

Laws: the HMAC over the exact bytes is checked before anything is parsed; the file is replaced whole and
durably, the one before stays as `.1`; it holds messages as they were sealed and never seals them again.

Source: seed 004 `LKGCache`; docs/protocol.md for the tail.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from config_daemon import failpoints
from config_daemon.core.sealed import Fingerprint, Sealed
from config_daemon.errors import CacheError, RejectedUpdate
from config_daemon.store.files import create_beside, read_capped, sync_folder
from config_daemon.store.ports import Place
from config_daemon.store.quarantine import prune_files
from config_daemon.wire import values
from config_daemon.wire.mac import tail_hmac, unseal_hmac
from config_daemon.wire.messages import CONFIG_OFFSET
from config_daemon.wire.sealing import canonical

LKG = "lkg"
ASIDE = "lkg.bad-"
MAX_BYTES = 1 << 30
CHUNK_BYTES = 1 << 20
_ONE_MESSAGE = rb"\"signature\":\""  # as it stands in the text that a sealed message is here


@dataclass(frozen=True, slots=True)
class Head:
    """What the cache says beside the configs; `uncovered` names the version of every row newer than what it holds."""

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


@dataclass(frozen=True, slots=True)
class Cache:
    """A verified cache: its head, and the last message of every service."""

    head: Head
    sealed: Mapping[str, Sealed]

    @property
    def versions(self) -> dict[str, int]:
        """Return the newest version of every service that was known when it was written."""
        held = {name: one.fingerprint.config_version for name, one in self.sealed.items()}
        return held | dict(self.head.uncovered)


def load(path: Path, hmac_keys: Iterable[bytes]) -> Cache | None:
    """Read and verify the cache; None when there is none.

    Raises: CacheError when it is there and cannot be trusted.
    """
    try:
        body = unseal_hmac(read_capped(path, MAX_BYTES), LKG, hmac_keys)
        values.check_parts(body, max(1, body.count(_ONE_MESSAGE)))
        members = json.loads(body, parse_float=str)  # they are only in the payload, which is for people
        head = Head(
            **{name: members[name] for name in Head.__slots__ if name not in ("feed", "uncovered")},
            feed=Place(*members["feed"]), uncovered=_versions(members["uncovered"]),
        )  # fmt: skip
        if members["payload"].keys() != members["sealed"].keys():
            raise ValueError("payload and sealed are not of the same services")
        return Cache(head, {name: _sealed(text) for name, text in members["sealed"].items()})
    except FileNotFoundError:
        return None
    except (
        RejectedUpdate, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError
    ) as error:  # fmt: skip
        reason = error.reason if isinstance(error, RejectedUpdate) else str(error)
        raise CacheError(f"{path} cannot be trusted: {reason}") from error


class Draft:
    """A cache on its way: its body goes into a file beside the one it will replace, a slice at a time."""

    def __init__(self, path: Path, head: Head, sealed: Mapping[str, Sealed]) -> None:
        """Begin; `sealed` must not change any more. Raises: OSError."""
        self._path = path
        self._beside, self._stream = create_beside(path)
        self._pieces = _pieces(head, sealed)

    def write(self, count: int) -> bool:
        """Write the next pieces, about one for each half of a service; False when nothing is left.

        Raises: OSError.
        """
        some = list(islice(self._pieces, count))
        self._stream.write(b"".join(some))
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
            stream.flush()
            os.fsync(stream.fileno())
        failpoints.reached("before_lkg_rename")
        previous = self._path.with_name(f"{self._path.name}.1")
        if self._path.exists():
            # a hard link first: at no moment is there no cache under its own name
            previous.unlink(missing_ok=True)
            previous.hardlink_to(self._path)
        self._beside.replace(self._path)
        sync_folder(self._path.parent)
        failpoints.reached("after_lkg")

    def discard(self) -> None:
        """Give up, and leave nothing behind."""
        with contextlib.suppress(OSError):
            self._stream.close()
        with contextlib.suppress(OSError):
            self._beside.unlink(missing_ok=True)


def _pieces(head: Head, sealed: Mapping[str, Sealed]) -> Iterator[bytes]:
    """Yield the body without its closing brace; members are in sorted order, as in every body of ours."""
    entries = sorted(sealed.items())
    begin = b"{"
    for member in sorted([*Head.__slots__, "payload", "sealed"]):
        yield b'%s"%s":' % (begin, member.encode())
        begin = b","
        if member == "payload":
            yield from _object((name, each.config) for name, each in entries)
        elif member == "sealed":
            yield from _object((name, canonical(each.raw.decode("utf-8"))) for name, each in entries)
        else:
            yield canonical(getattr(head, member))


def _object(members: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    begin = b"{"
    for name, value in members:
        yield begin + canonical(name) + b":" + value
        begin = b","
    yield b"}" if begin == b"," else b"{}"


def set_aside(path: Path, folder: Path, stamp: str) -> Path:
    """Move a cache that cannot be trusted into quarantine, of which the newest stay; return where it went.

    Raises: OSError.
    """
    folder.mkdir(mode=0o750, exist_ok=True)
    place = folder / f"{ASIDE}{stamp}"
    path.rename(place)
    prune_files(folder, ASIDE, place.name)
    return place


def _versions(members: Any) -> dict[str, int]:
    if not all(type(version) is int for version in members.values()):
        raise TypeError("a version is an integer")
    return dict(members)


def _sealed(text: str) -> Sealed:
    members = json.loads(text)
    fingerprint = Fingerprint(
        bytes.fromhex(members["checksum"]), members["config_version"], members["config_epoch"],
        members["generation"], members["key_id"], members.get("deleted", False),
    )  # fmt: skip
    config = text[CONFIG_OFFSET:]
    end = values.end_of_value(config)  # not by writing the payload again: many floats take long
    if end is None:
        raise ValueError("a message has no config at its place")
    return Sealed(text.encode("utf-8"), members["sequence"], fingerprint, len(config[:end].encode("utf-8")))
