"""A sealed message as the daemon remembers it: what makes it the same as another, and its exact bytes.

Laws: the bytes are in memory or on a shelf, and what a shelf gives back counts only when its digest fits;
what cannot be read back is gone, and is never made up from parts.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol

from config_daemon.wire.messages import CONFIG_OFFSET
from config_daemon.wire.tail import TAIL_BYTES


class Fingerprint(NamedTuple):
    """What makes two seals of one service the same message: all but number and time."""

    config_sha256: bytes
    config_version: int
    epoch: str
    generation: int
    key_id: str
    deleted: bool


class Shelf(Protocol):
    """Where messages lie that are not in memory."""

    def read(self, offset: int, length: int) -> bytes | None:
        """Return what lies there; None when it cannot be read any more."""
        ...


class Sealed:
    """The last message sealed for a service; `config_bytes` of its bytes are the config's."""

    __slots__ = (
        "_body_sha256", "_length", "_offset", "_raw", "_sha256", "_shelf", "config_bytes", "fingerprint", "sequence",
    )  # fmt: skip

    def __init__(self, raw: bytes, sequence: int, fingerprint: Fingerprint, config_bytes: int) -> None:
        self.sequence, self.fingerprint, self.config_bytes = sequence, fingerprint, config_bytes
        self._raw: bytes | None = raw
        self._shelf: Shelf | None = None
        self._offset = self._length = 0
        self._sha256 = self._body_sha256 = (
            b""  # made when asked for: a message that waits to be sent comes first
        )

    @property
    def body_sha256(self) -> str:
        """Return the digest of the body, by which a worker's floor names this message."""
        return self._digest_of_body().hex()

    def read(self) -> bytes | None:
        """Return the exact bytes; None when they are gone."""
        if self._raw is not None or self._shelf is None:
            return self._raw
        raw = self._shelf.read(self._offset, self._length)
        return raw if raw is not None and self._is_digest_of(raw) else None

    def read_config(self) -> bytes | None:
        """Return the config exactly as it was signed; None when the bytes are gone."""
        raw = self.read()
        return None if raw is None else raw[CONFIG_OFFSET : CONFIG_OFFSET + self.config_bytes]

    def is_same(self, raw: bytes) -> bool:
        """Tell whether these are the exact bytes."""
        return self._is_digest_of(raw) if self._raw is None else raw == self._raw

    def put(self, shelf: Shelf, offset: int, length: int) -> None:
        """Let go of the bytes: they lie on a shelf from now on."""
        if self._raw is not None:
            self._sha256 = hashlib.sha256(self._raw).digest()
            self._digest_of_body()
        self._shelf, self._offset, self._length, self._raw = shelf, offset, length, None

    def _is_digest_of(self, raw: bytes) -> bool:
        return hashlib.sha256(raw).digest() == self._sha256

    def _digest_of_body(self) -> bytes:
        if not self._body_sha256 and self._raw is not None:
            self._body_sha256 = hashlib.sha256(self._raw[:-TAIL_BYTES] + b"}").digest()
        return self._body_sha256
