"""What the vectors of the conformance suite are made of: test keys, plain messages, and a vector's file.

Laws: everything follows from fixed seeds, so that two runs make the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from nacl.signing import SigningKey

from config_daemon.wire.keys import key_id
from config_daemon.wire.sealing import canonical, seal
from config_daemon.wire.tail import TAIL_BYTES

SEED_TEXT = "config-daemon test vectors, key {}: never trust it"
KEY_NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")
TOPIC = "system/config/stt-worker"
HEALTH_TOPIC = "system/health/config-daemon"
ED25519_ORDER = (1 << 252) + 27742317777372353535851937790883648493  # of the group, RFC 8032 section 5.1
SEALED_AT = "2026-03-14T09:26:53.589Z"


def signing_key(name: str) -> SigningKey:
    """Return one of the test keys: its seed is SHA-256 over a public sentence."""
    return SigningKey(hashlib.sha256(SEED_TEXT.format(name).encode()).digest())


KEYS = {name: signing_key(name) for name in KEY_NAMES}
PUBLIC = {name: bytes(key.verify_key).hex() for name, key in KEYS.items()}
IDS = {name: key_id(bytes(key.verify_key)) for name, key in KEYS.items()}
CONFIG = canonical(
    {"enabled": True, "language": None, "model": "small.en", "threads": 4, "vad": {"threshold": 0.6}}
)
ENVELOPE: dict[str, Any] = {
    "config_epoch": "3f0c1a52-6b1e-4d6f-9a55-0c2c7a1f4e11",
    "config_version": 7,
    "generation": 1,
    "issued_at": SEALED_AT,
    "key_id": IDS["alpha"],
    "sequence": 1041,
    "service": "stt-worker",
    "version": 1,
}
HEALTH: dict[str, Any] = {
    "ok": False,
    "database_status": "locked",
    "operational_mode": "read-only-fallback",
    "config_epoch": ENVELOPE["config_epoch"],
    "schema_version": 1,
    "lkg_cache_valid": True,
    "litestream_status": "disabled",
    "last_backup": None,
    "event": "database-locked",
    "err": "db-locked: another process holds the database",
    "version": 1,
    "session": "b7d8a4c6-2f0b-4f3e-8f43-5a6f0a0c9d21",
    "generation": 1,
    "sequence": 1042,
    "issued_at": SEALED_AT,
    "key_id": IDS["alpha"],
    "conditions": [
        {
            "name": "db-locked",
            "subject": "",
            "severity": "critical",
            "since": SEALED_AT,
            "detail": "another process holds the database",
        }
    ],
    "services": 8,
    "behind": 0,
}


@dataclass(frozen=True, slots=True)
class Vector:
    """One message, who reads it with what, and the verdict: `refused` is (step, reason), None when good."""

    name: str
    description: str
    message: bytes
    refused: tuple[int, str] | None = None
    topic: str = TOPIC
    services: tuple[str, ...] = ("stt-worker",)
    keys: tuple[str, ...] = ("alpha",)
    generation: int = 1
    floor: tuple[int, int, str] | None = None
    list_sha256: str | None = None  # of a good shard: the digest by which a beacon names its list
    keyrings: tuple[
        bytes, ...
    ] = ()  # taken before, one after the other; without `keys` the first was installed
    known: bool | None = None  # of a good keyring: whether it is the one held already

    def as_json(self) -> bytes:
        """Return the vector's file."""
        step, reason = self.refused or (None, None)
        members: dict[str, Any] = {
            "description": self.description,
            "topic": self.topic,
            "services": list(self.services),
            "public_keys": [PUBLIC[name] for name in self.keys],
            **(
                {"keyrings_base64": [b64encode(raw).decode() for raw in self.keyrings]}
                if self.keyrings
                else {}
            ),
            "generation": self.generation,
            "floor": self.floor
            and dict(zip(("generation", "sequence", "body_sha256"), self.floor, strict=True)),
            "message_base64": b64encode(self.message).decode(),
            "verdict": "rejected" if self.refused else "good",
            "step": step,
            "reason": reason,
        }
        if not self.refused:
            members["body_sha256"] = body_sha256(self.message)
        if self.list_sha256:
            members["list_sha256"] = self.list_sha256
        if self.known is not None:
            members["known"] = self.known
        return json.dumps(members, indent=2, ensure_ascii=False).encode() + b"\n"


def good(name: str, description: str, message: bytes, **where: Any) -> Vector:
    """Return a vector that every reader owes its belief."""
    return Vector(f"00-good-{name}", description, message, **where)


def bad(step: int, reason: str, name: str, description: str, message: bytes, **where: Any) -> Vector:
    """Return a vector that every reader refuses at a step, for a reason."""
    return Vector(f"{step:02}-{reason}-{name}".rstrip("-"), description, message, (step, reason), **where)


def body_sha256(raw: bytes) -> str:
    """Return the digest that floors hold: of the message without its signature."""
    return hashlib.sha256(raw[:-TAIL_BYTES] + b"}").hexdigest()


def update(config: bytes = CONFIG, *, checksum: str | None = None, **members: Any) -> bytes:
    """Return a config update's body; `members` replace those of the envelope, or come on top."""
    checksum = checksum or hashlib.sha256(config).hexdigest()
    rest = canonical({**ENVELOPE, **members})[1:]
    return b'{"checksum":"%s","config":%s,%s' % (checksum.encode(), config, rest)


def sealed(body: bytes | None = None, *, by: str = "alpha", as_type: str = "config-update") -> bytes:
    """Return a body, or the plain update, signed with a test key."""
    return seal(update() if body is None else body, as_type, KEYS[by])


def edited(raw: bytes, old: bytes, new: bytes) -> bytes:
    """Replace the only place where `old` stands."""
    if raw.count(old) != 1:
        raise ValueError(f"{old!r} stands {raw.count(old)} times")
    return raw.replace(old, new)


def numbered(sequence: int, **members: Any) -> bytes:
    """Return the plain update under another number, sealed."""
    return sealed(update(sequence=sequence, **members))


def with_signature(signature: bytes) -> bytes:
    """Return the plain update with whatever signature is given."""
    return update()[:-1] + b',"signature":"' + b64encode(signature) + b'"}'
