"""A sealed message as the daemon remembers it: its exact bytes, and what makes it the same as another."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

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


class Sealed(NamedTuple):
    """The last message sealed for a service: its exact bytes, and how many of them are the config's."""

    raw: bytes
    sequence: int
    fingerprint: Fingerprint
    config_bytes: int

    @property
    def config(self) -> bytes:
        """Return the config exactly as it was signed."""
        return self.raw[CONFIG_OFFSET : CONFIG_OFFSET + self.config_bytes]

    @property
    def body_sha256(self) -> str:
        """Return the digest of the body, by which a worker's floor names this message."""
        return hashlib.sha256(self.raw[:-TAIL_BYTES] + b"}").hexdigest()
