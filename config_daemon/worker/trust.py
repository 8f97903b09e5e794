"""What a worker believes, and the only way to change its mind. Pure.

Laws: bytes are judged in one order, signature before parsing; the floor never falls; no clock takes
part; a key comes from the installation, or from a keyring that a root of the one held signed.

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
from config_daemon.wire.keyring import MAX_CONFIG_KEYS, Keyring, follow
from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import CONFIG_UPDATE, ConfigUpdate, parse_update
from config_daemon.wire.sealing import unseal
from config_daemon.wire.status import Attempt
from config_daemon.wire.tail import cut_tail
from config_daemon.wire.topics import Topics

RETIRED, REVOKED = "stale", "revoked-signer"  # what runs was signed by a key that is not believed today
MAX_PAST_KEYS = 4
MAX_STEPS, MAX_STEP_BYTES = 8, 1 << 20  # as many as a daemon looks at in one go
_COMPARE = (
    "Compare what `config-daemon keys public` prints with this worker's public key (public_key, public_key_file). "
    "Where they are the same, somebody else writes on the broker. What ran before runs on, if anything did."
)
Outcome = Literal["pending", "applied", "rejected", "rolled-back", "deleted"]


class Floor(NamedTuple):
    """The highest message ever accepted for a topic; compared by its first two members."""

    generation: int
    sequence: int
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Belief:
    """What is kept for one topic: floor, the message that runs, the one before, how the last attempt ended.

    `unused` is the message at the floor where that is not `current`: refused, failed, or a tombstone;
    `attempt` is what a status says of the last message that was tried.
    """

    floor: Floor | None = None
    current: bytes | None = None
    previous: bytes | None = None
    outcome: Outcome | None = None
    unused: bytes | None = None
    attempt: Attempt | None = None

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


def update_in(raw: bytes) -> ConfigUpdate:
    """Read a message that was accepted before, without judging it.

    Raises: RejectedUpdate.
    """
    return parse_update(cut_tail(raw, crypto_sign_BYTES)[0])[0]


class Trust:
    """One keyring, which only a newer one replaces, and the services that this worker follows."""

    def __init__(self, keyring: Keyring, services: Sequence[str], topics: Topics) -> None:
        if not 1 <= len(keyring.config_keys) <= MAX_CONFIG_KEYS:
            raise KeyUnavailable(
                f"a worker trusts one to {MAX_CONFIG_KEYS} keys, not {len(keyring.config_keys)}",
                suggestion="Set CONFIG_SIGNATURE_PUBLIC_KEY to what `config-daemon keys public` prints.",
            )
        self.keyring, self.anchor = keyring, keyring.anchor
        self.past: tuple[VerifyKey, ...] = ()  # believed once; only to say why one is refused
        self.steps: tuple[
            bytes, ...
        ] = ()  # keyrings with other roots than the one before: the way to the one held
        self._services, self._topics = frozenset(services), topics

    def hold(self, keyring: Keyring) -> None:
        """Believe another keyring from now on: one that `follow` returned and that was made durable."""
        self.resume(keyring, (), self.steps_after(keyring))

    def resume(self, keyring: Keyring, past: Sequence[VerifyKey], steps: Sequence[bytes]) -> None:
        """Believe the keyring of an earlier life: with keys believed before it, and the way to it."""
        # what was kept is newer than what was installed
        self.past = tuple(dict.fromkeys((*self.past_after(keyring), *past)))[-MAX_PAST_KEYS:]
        self.keyring, self.steps = keyring, tuple(steps)

    @property
    def proof(self) -> tuple[bytes, ...]:
        """Return the bytes that lead whoever knows an older keyring to the one held; none for a single key."""
        return tuple(dict.fromkeys((*self.steps, *filter(None, [self.keyring.raw]))))

    def steps_after(self, keyring: Keyring) -> tuple[bytes, ...]:
        """Return the way to a keyring that is held next; of a long one the end."""
        changed = [keyring.raw] if keyring.root_ids != self.keyring.root_ids else []
        steps = (*self.steps, *changed)[-MAX_STEPS:]
        while sum(map(len, steps)) > MAX_STEP_BYTES:
            steps = steps[1:]
        return steps

    def past_after(self, keyring: Keyring) -> tuple[VerifyKey, ...]:
        """Return the keys that were believed once, when this keyring is held next."""
        known = dict.fromkeys((*self.past, *self.keyring.config_keys))
        return tuple(key for key in known if key not in keyring.config_keys)[-MAX_PAST_KEYS:]

    def follow(self, raw: bytes) -> Keyring:
        """Return the keyring to hold after these bytes were shown; nothing is believed yet.

        Raises: RejectedUpdate.
        """
        return follow(self.keyring, raw)

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
        body, key = self._unseal(raw, CONFIG_UPDATE)
        update, config = parse_update(body)
        if update.key_id != key_id(bytes(key)):
            raise RejectedUpdate("wrong-key", 5, "it names another key than the one that signed it")
        self._check_content(topic, update, config)
        self._check_generation(update.generation)
        return update, hashlib.sha256(body).hexdigest()

    def beacon(self, topic: str, raw: bytes) -> Beacon:
        """Verify a beacon, or one of its shards, of the present generation.

        Raises: RejectedUpdate.
        """
        body, key = self._unseal(raw, BEACON)
        beacon = parse_beacon(body)
        if beacon.key_id != key_id(bytes(key)):
            raise RejectedUpdate("wrong-key", 5, "it names another key than the one that signed it")
        if (self._topics.beacon_shard(beacon.shard) if beacon.shard else self._topics.beacon) != topic:
            raise RejectedUpdate("wrong-service", 6, f"it is no beacon for {topic}")
        self._check_generation(beacon.generation)
        return beacon

    def recall(self, topic: str, raw: bytes) -> tuple[Accepted, str | None]:
        """Read a message that was accepted before; also flag what would be refused if it came now.

        Signature, key and generation judge arriving messages: a key that was retired or revoked since, or
        another trust anchor, takes away nothing that runs.

        Raises: RejectedUpdate when it is no config of this topic at all.
        """
        body, _ = cut_tail(raw, crypto_sign_BYTES)
        update, config = parse_update(body)
        self._check_content(topic, update, config)
        flag = None
        try:
            self.verify(topic, raw)
        except RejectedUpdate:
            flag = REVOKED if update.key_id in self.keyring.revoked else RETIRED
        floor = Floor(update.generation, update.sequence, hashlib.sha256(body).hexdigest())
        return Accepted(update, raw, floor, again=True), flag

    def _unseal(self, raw: bytes, body_type: str) -> tuple[bytes, VerifyKey]:
        try:
            return unseal(raw, body_type, self.keyring.config_keys)
        except RejectedUpdate as rejection:
            if rejection.reason == "bad-signature":
                self._name_past_key(raw, body_type)
                untrusted = "it is signed by a key that this worker does not trust"
                raise RejectedUpdate("bad-signature", 3, untrusted, suggestion=_COMPARE) from rejection
            raise

    def _name_past_key(self, raw: bytes, body_type: str) -> None:
        """Raise the refusal that names a key believed once; return when none of them signed either."""
        try:
            _, key = unseal(raw, body_type, self.past)
        except RejectedUpdate:
            return
        name = key_id(bytes(key))
        if name in self.keyring.revoked:
            raise RejectedUpdate("revoked-key", 5, f"key {name} was revoked")
        raise RejectedUpdate("wrong-key", 5, f"key {name} was retired")

    def _check_generation(self, generation: int) -> None:
        held = self.keyring.generation
        if generation != held:
            reason = "keyring-behind" if generation > held else "rollback"
            raise RejectedUpdate(reason, 8, f"generation {generation}, the keyring's is {held}")

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
