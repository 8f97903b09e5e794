"""The last-known-good cache: what was published, byte for byte, to go on with when the database cannot.

Laws: the HMAC over the exact bytes is checked before anything is parsed; the file is replaced whole and
durably, the one before stays as `.1`; it holds messages as they were sealed and never seals them again.

Source: seed 004 `LKGCache`; docs/protocol.md for the tail.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config_daemon import failpoints
from config_daemon.core.sealed import Fingerprint, Sealed
from config_daemon.errors import CacheError, RejectedUpdate
from config_daemon.store.files import read_capped, sync_folder, write_beside
from config_daemon.store.ports import Place
from config_daemon.wire.mac import seal_hmac, unseal_hmac
from config_daemon.wire.sealing import canonical

LKG = "lkg"
MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Head:
    """What the cache says beside the configs."""

    config_epoch: str
    generated_at: str
    generation: int
    sequence: int
    feed: Place
    schema_version: int
    key_id: str
    algorithm: str = "hmac-sha256"
    version: int = 1


@dataclass(frozen=True, slots=True)
class Cache:
    """A verified cache: its head, and the last message of every service."""

    head: Head
    sealed: Mapping[str, Sealed]


def load(path: Path, hmac_keys: Iterable[bytes]) -> Cache | None:
    """Read and verify the cache; None when there is none.

    Raises: CacheError when it is there and cannot be trusted.
    """
    try:
        members = json.loads(unseal_hmac(read_capped(path, MAX_BYTES), LKG, hmac_keys))
        head = Head(
            **{name: members[name] for name in Head.__slots__ if name != "feed"}, feed=Place(*members["feed"])
        )
        payload = members["payload"]
        return Cache(head, {name: _sealed(text, payload[name]) for name, text in members["sealed"].items()})
    except FileNotFoundError:
        return None
    except (RejectedUpdate, OSError, ValueError, TypeError, KeyError) as error:
        reason = error.reason if isinstance(error, RejectedUpdate) else str(error)
        raise CacheError(f"{path} cannot be trusted: {reason}") from error


def entry_bytes(service: str, sealed: Sealed) -> tuple[bytes, bytes]:
    """Return a service's two members: in `payload` its config, in `sealed` its message."""
    name = canonical(service)
    return name + b":" + sealed.config, name + b":" + canonical(sealed.raw.decode("utf-8"))


def assemble(head: Head, entries: Mapping[str, tuple[bytes, bytes]], hmac_key: bytes) -> bytes:
    """Return the file's bytes; members are in sorted order, as in every body of ours."""
    names = sorted(entries)
    members: dict[str, bytes] = {name: canonical(getattr(head, name)) for name in Head.__slots__}
    members["payload"] = b"{" + b",".join(entries[name][0] for name in names) + b"}"
    members["sealed"] = b"{" + b",".join(entries[name][1] for name in names) + b"}"
    body = b"{" + b",".join(b'"%s":%s' % (name.encode(), members[name]) for name in sorted(members)) + b"}"
    return seal_hmac(body, LKG, hmac_key)


def write(path: Path, content: bytes) -> None:
    """Put the cache in place durably and keep the one before as `.1`.

    Raises: OSError; the old cache is then still in place, under its name or as `.1`.
    """
    beside = write_beside(path, content)
    failpoints.reached("before_lkg_rename")
    previous = path.with_name(f"{path.name}.1")
    if path.exists():
        # a hard link first: at no moment is there no cache under its own name
        previous.unlink(missing_ok=True)
        previous.hardlink_to(path)
    beside.replace(path)
    sync_folder(path.parent)
    failpoints.reached("after_lkg")


def set_aside(path: Path, folder: Path, stamp: str) -> Path:
    """Move a cache that cannot be trusted into quarantine; return where it went.

    Raises: OSError.
    """
    folder.mkdir(mode=0o750, exist_ok=True)
    place = folder / f"lkg.bad-{stamp}"
    path.rename(place)
    return place


def _sealed(text: str, config: Any) -> Sealed:
    members = json.loads(text)
    fingerprint = Fingerprint(
        bytes.fromhex(members["checksum"]), members["config_version"], members["config_epoch"],
        members["generation"], members["key_id"], members.get("deleted", False),
    )  # fmt: skip
    return Sealed(text.encode("utf-8"), members["sequence"], fingerprint, len(canonical(config)))
