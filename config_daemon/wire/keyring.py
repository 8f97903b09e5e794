"""The keyring: which keys may sign, which never may again, and when one keyring follows another.

Laws: a keyring is believed because a root of the one held signed it; its number only grows, its generation
never falls, and what was revoked stays revoked, so that no old one comes back; one public key alone is
keyring number 0, of which there are no bytes.

Source: docs/protocol.md "Keys and keyrings"; The Update Framework, "Update the root role".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from nacl.signing import SigningKey, VerifyKey
from pydantic import Field, StringConstraints, ValidationError

from config_daemon.errors import KeyUnavailable, RejectedUpdate
from config_daemon.wire.keys import key_id, verify_key
from config_daemon.wire.messages import Counter, KeyId, Message, Sha256, Timestamp, members_of, misshapen
from config_daemon.wire.sealing import canonical, seal, unseal
from config_daemon.wire.tail import check_size, cut_tail

KEYRING = "keyring"
ROOT, CONFIG = "root", "config"
MAX_KEYS, MAX_CONFIG_KEYS = 8, 4
REASON_CHARACTERS = 200


class ListedKey(Message):
    """A key as a keyring lists it."""

    key_id: KeyId = Field(description="the name of the key: made from its bytes")
    public_key: Sha256 = Field(description="the 32 bytes of the Ed25519 public key, in hex")
    roles: list[str] = Field(description="`root` signs keyrings, `config` everything else of the daemon's")


class Revocation(Message):
    """A key that must never be believed again."""

    key_id: KeyId = Field(description="which key")
    at: Timestamp = Field(description="when that was decided")
    reason: Annotated[str, StringConstraints(max_length=REASON_CHARACTERS)] = Field(
        description="why, for a person"
    )


class KeyringBody(Message):
    """What a keyring says, as it travels."""

    version: Literal[1] = Field(1, description="message format version")
    number: Counter = Field(description="grows with every keyring; numbers may be skipped")
    generation: Counter = Field(description="rises with a revocation; messages of a lower one are refused")
    issued_at: Timestamp = Field(description="when this was sealed; for display and the grace window")
    keys: list[ListedKey] = Field(
        description="the keys that are believed", json_schema_extra={"minItems": 1, "maxItems": MAX_KEYS}
    )
    revoked: list[Revocation] = Field(description="the keys that never are again")


class TrustedKey(NamedTuple):
    """A key of a keyring, ready to verify with."""

    key_id: str
    key: VerifyKey
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Keyring:
    """A keyring whose keys are usable; `raw` is empty for a single public key (number 0)."""

    number: int
    generation: int
    sha256: str
    keys: tuple[TrustedKey, ...]
    revoked: Mapping[str, Revocation]
    issued_at: str = ""
    raw: bytes = b""

    @property
    def roots(self) -> tuple[VerifyKey, ...]:
        """Return the keys that may sign the next keyring."""
        return tuple(one.key for one in self.keys if ROOT in one.roles)

    @property
    def config_keys(self) -> tuple[VerifyKey, ...]:
        """Return the keys that may sign configs, beacons and health."""
        return tuple(one.key for one in self.keys if CONFIG in one.roles)

    @property
    def root_ids(self) -> frozenset[str]:
        """Return the names of the keys that may sign the next keyring."""
        return frozenset(one.key_id for one in self.keys if ROOT in one.roles)

    @property
    def config_ids(self) -> frozenset[str]:
        """Return the names of the keys that may sign configs."""
        return frozenset(one.key_id for one in self.keys if CONFIG in one.roles)

    @property
    def anchor(self) -> str:
        """Return what names the trust in these roots: the name of the only one, or a digest of all."""
        roots = sorted(self.root_ids)
        return roots[0] if len(roots) == 1 else hashlib.sha256("".join(roots).encode()).hexdigest()[:32]

    @property
    def body(self) -> KeyringBody:
        """Return what the keyring says, to make the next one from."""
        listed = [
            ListedKey(key_id=one.key_id, public_key=bytes(one.key).hex(), roles=sorted(one.roles))
            for one in self.keys
        ]
        return KeyringBody(
            version=1, number=max(1, self.number), generation=self.generation, issued_at=self.issued_at or _BEGINNING,
            keys=listed, revoked=list(self.revoked.values()),
        )  # fmt: skip


_BEGINNING = "1970-01-01T00:00:00.000Z"


def of_key(public: VerifyKey) -> Keyring:
    """Return keyring number 0: one key with both roles, nothing revoked."""
    only = TrustedKey(key_id(bytes(public)), public, frozenset({ROOT, CONFIG}))
    return Keyring(0, 1, hashlib.sha256(bytes(public)).hexdigest(), (only,), {})


def seal_keyring(body: KeyringBody, root: SigningKey) -> bytes:
    """Return a keyring's sealed bytes."""
    return seal(canonical(body.model_dump(mode="json")), KEYRING, root)


def read_keyring(raw: bytes, roots: Iterable[VerifyKey]) -> Keyring:
    """Verify and read a keyring that one of `roots` must have signed.

    Raises: RejectedUpdate `oversize`, `wiped` (1), `bad-tail` (2), `bad-signature` (3), `bad-json` (4),
    `unknown-version`, `wrong-key`, `revoked-key` (5).
    """
    body, _ = unseal(raw, KEYRING, roots)
    return _keyring(body, raw)


def installed_keyring(raw: bytes) -> Keyring:
    """Read a keyring that a person installed as an anchor: a root that it lists itself signed it.

    Raises: RejectedUpdate, as `read_keyring`.
    """
    return read_keyring(raw, kept_keyring(raw).roots)


_SIGNATURE_BYTES = 64


def kept_keyring(raw: bytes) -> Keyring:
    """Read a keyring again that was verified before it was kept.

    Its signature is not looked at, nor covered by its digest: whoever has the body can put any tail behind it.

    Raises: RejectedUpdate, as `read_keyring`, but for the signature.
    """
    check_size(raw)
    body, _ = cut_tail(raw, _SIGNATURE_BYTES)
    return _keyring(body, raw)


def follow(held: Keyring, raw: bytes) -> Keyring:
    """Return the keyring that these bytes are, if whoever holds `held` must take it; `held` itself for its own bytes.

    Raises: RejectedUpdate as `read_keyring`, `fork` (other bytes under the number held), `rollback` (a lower
    number or generation), `unrevoked` (what was revoked is missing from the list); all step 8.
    """
    if raw and raw == held.raw:
        return held
    shown = read_keyring(raw, held.roots)
    if shown.number == held.number:
        raise RejectedUpdate("fork", 8, f"another keyring under the number {held.number}")
    if shown.number < held.number or shown.generation < held.generation:
        raise RejectedUpdate(
            "rollback",
            8,
            f"keyring {shown.number} of generation {shown.generation}, "
            f"held is {held.number} of generation {held.generation}",
        )
    if missing := held.revoked.keys() - shown.revoked.keys():
        raise RejectedUpdate("unrevoked", 8, f"keyring {shown.number} forgets that {min(missing)} is revoked")
    return shown


def _keyring(body: bytes, raw: bytes) -> Keyring:
    try:
        said = KeyringBody.model_validate(members_of(body))
    except ValidationError as error:
        raise misshapen(error) from error
    _check_counts(said)  # before any key is looked at: that takes time for each
    keys = tuple(_trusted(one) for one in said.keys)
    revoked = {one.key_id: one for one in said.revoked}
    if known := revoked.keys() & {one.key_id for one in keys}:
        raise RejectedUpdate("revoked-key", 5, f"it lists {min(known)}, which it revokes")
    return Keyring(
        said.number, said.generation, hashlib.sha256(body).hexdigest(), keys, revoked, said.issued_at, raw
    )


def _check_counts(said: KeyringBody) -> None:
    for listed in (said.keys, said.revoked):
        if len({one.key_id for one in listed}) != len(listed):
            raise RejectedUpdate("bad-json", 4, "a key is listed twice")
    roots, signing = (sum(role in one.roles for one in said.keys) for role in (ROOT, CONFIG))
    if not roots or not 1 <= signing <= MAX_CONFIG_KEYS or len(said.keys) > MAX_KEYS:
        raise RejectedUpdate(
            "bad-json",
            4,
            f"a keyring has a root, one to {MAX_CONFIG_KEYS} config keys, and {MAX_KEYS} at most",
        )


def _trusted(listed: ListedKey) -> TrustedKey:
    public = bytes.fromhex(listed.public_key)
    try:
        key = verify_key(public)
    except KeyUnavailable as error:
        raise RejectedUpdate("wrong-key", 5, error.message) from error
    if listed.key_id != key_id(public):
        raise RejectedUpdate("wrong-key", 5, f"{listed.key_id} is not the name of its key")
    return TrustedKey(listed.key_id, key, frozenset(listed.roles))
