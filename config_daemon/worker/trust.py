"""What a worker believes, and the only way to change its mind. Pure.

Laws: bytes are judged in one order, signature before parsing; the floor never falls; no clock takes
part; a key comes from the installation and never from a message.

The numbers in `RejectedUpdate` are the steps of docs/protocol.md §4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nacl.bindings import crypto_sign_BYTES
from nacl.signing import VerifyKey

from config_daemon.errors import KeyUnavailable, RejectedUpdate
from config_daemon.wire.beacon import BEACON, Beacon, parse_beacon
from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import CONFIG_UPDATE, ConfigUpdate, parse_update
from config_daemon.wire.sealing import unseal
from config_daemon.wire.tail import cut_tail
from config_daemon.wire.topics import Topics

MAX_KEYS = 4
Outcome = Literal["pending", "applied", "rejected", "deleted"]


class Floor(NamedTuple):
    """The highest message ever accepted for a topic; compared by its first two members."""

    generation: int
    sequence: int
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Belief:
    """What is kept for one topic: floor, the message that runs, the one before, how the last attempt ended.

    `unused` is the message at the floor where that is not `current`: refused, failed, or a tombstone.
    """

    floor: Floor | None = None
    current: bytes | None = None
    previous: bytes | None = None
    outcome: Outcome | None = None
    unused: bytes | None = None

    @property
    def at_floor(self) -> bytes | None:
        """The message that proves the floor."""
        return self.unused or self.current

    @property
    def good(self) -> bytes | None:
        """The newest message known to work: of an unfinished one nobody knows."""
        return self.previous if self.outcome == "pending" else self.current


class Accepted(NamedTuple):
    """A message that passed steps 1 to 9; `again` when it was accepted before."""

    update: ConfigUpdate
    raw: bytes
    floor: Floor
    again: bool


class Trust:
    """One trust anchor and the services that this worker follows."""

    def __init__(
        self, keys: Sequence[VerifyKey], services: Sequence[str], topics: Topics, generation: int = 1
    ) -> None:
        if not keys or len(keys) > MAX_KEYS:
            raise KeyUnavailable(
                f"a worker trusts one to {MAX_KEYS} keys, not {len(keys)}",
                suggestion="Set CONFIG_SIGNATURE_PUBLIC_KEY to what `config-daemon keys public` prints.",
            )
        self._keys = tuple(keys)
        self._services, self._topics, self._generation = frozenset(services), topics, generation

    @property
    def anchor(self) -> str:
        """Return what names this trust anchor; belief that belongs to another one is discarded."""
        return key_id(bytes(self._keys[0]))

    def judge(self, topic: str, raw: bytes, belief: Belief) -> Accepted:
        """Take a message through steps 1 to 9.

        Raises: RejectedUpdate.
        """
        update, body_sha256 = self.verify(topic, raw)
        floor = Floor(update.generation, update.sequence, body_sha256)
        return Accepted(update, raw, floor, self._above(floor, belief.floor))

    def verify(self, topic: str, raw: bytes) -> tuple[ConfigUpdate, str]:
        """Take a message through steps 1 to 8: what it is, whatever was seen before; also its body's SHA-256.

        Raises: RejectedUpdate.
        """
        body, key = unseal(raw, CONFIG_UPDATE, self._keys)
        update, config = parse_update(body)
        if update.key_id != key_id(bytes(key)):
            raise RejectedUpdate("wrong-key", 5, "it names another key than the one that signed it")
        self._check_content(topic, update, config)
        if update.generation != self._generation:
            reason = "keyring-behind" if update.generation > self._generation else "rollback"
            raise RejectedUpdate(
                reason, 8, f"generation {update.generation}, the keyring's is {self._generation}"
            )
        return update, hashlib.sha256(body).hexdigest()

    def beacon(self, topic: str, raw: bytes) -> Beacon:
        """Verify a beacon, or one of its shards, of the present generation.

        Raises: RejectedUpdate.
        """
        body, key = unseal(raw, BEACON, self._keys)
        beacon = parse_beacon(body)
        if beacon.key_id != key_id(bytes(key)):
            raise RejectedUpdate("wrong-key", 5, "it names another key than the one that signed it")
        if (self._topics.beacon_shard(beacon.shard) if beacon.shard else self._topics.beacon) != topic:
            raise RejectedUpdate("wrong-service", 6, f"it is no beacon for {topic}")
        if beacon.generation != self._generation:
            raise RejectedUpdate("rollback", 8, f"generation {beacon.generation}")
        return beacon

    def recall(self, topic: str, raw: bytes) -> tuple[Accepted, bool]:
        """Read a message that was accepted before; also tell whether it would be refused if it came now.

        Signature, key and generation judge arriving messages: a key that was retired since, or another
        trust anchor, takes away nothing that runs.

        Raises: RejectedUpdate when it is no config of this topic at all.
        """
        body, _ = cut_tail(raw, crypto_sign_BYTES)
        update, config = parse_update(body)
        self._check_content(topic, update, config)
        try:
            self.verify(topic, raw)
            stale = False
        except RejectedUpdate:
            stale = True
        floor = Floor(update.generation, update.sequence, hashlib.sha256(body).hexdigest())
        return Accepted(update, raw, floor, again=True), stale

    def _check_content(self, topic: str, update: ConfigUpdate, config: bytes | None) -> None:
        if update.service not in self._services or self._topics.service_of(topic) != update.service:
            raise RejectedUpdate("wrong-service", 6, f"it is for {update.service}, on {topic}")
        if config is None or hashlib.sha256(config).hexdigest() != update.checksum:
            raise RejectedUpdate("bad-checksum", 7, "the checksum is not that of the config's bytes")

    @staticmethod
    def _above(new: Floor, held: Floor | None) -> bool:
        """Tell whether the message is the one held (True) or a newer one (False)."""
        if held is None or new[:2] > held[:2]:
            return False
        if new == held:
            return True
        if new[:2] == held[:2]:
            raise RejectedUpdate("fork", 9, f"other bytes under the number {new.sequence}")
        raise RejectedUpdate("rollback", 9, f"number {new.sequence} is below the floor {held.sequence}")
