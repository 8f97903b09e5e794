"""Keyrings of the conformance suite: how they are made, those that readers hold, and a vector about one.

Laws: everything follows from the fixed test keys, so that two runs make the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from config_daemon.wire.keys import key_id
from config_daemon.wire.sealing import canonical
from config_daemon.wire.tail import TAIL_BYTES
from tools.wire_messages import IDS, KEYS, SEALED_AT, Vector, bad, good, sealed, signing_key

KEYRING_TOPIC = "system/trust/keyring"
MOST = (1 << 53) - 1
ROOT, CONFIG, BOTH = ("root",), ("config",), ("root", "config")
Keys = Sequence[dict[str, Any]]


def listed(name: str, *roles: str, **members: Any) -> dict[str, Any]:
    """Return a test key as a keyring lists it; `members` replace its own, or come on top."""
    public = bytes((KEYS.get(name) or signing_key(name)).verify_key)
    return {"key_id": key_id(public), "public_key": public.hex(), "roles": list(roles), **members}


def gone(name: str, **members: Any) -> dict[str, Any]:
    """Return a test key as a keyring revokes it."""
    return {"at": SEALED_AT, "key_id": IDS[name], "reason": "a laptop was stolen", **members}


def ring(
    number: Any = 1, *, generation: Any = 1, keys: Keys | None = None, revoked: Any = (), **members: Any
) -> bytes:
    """Return a keyring's body; without `keys` it lists alpha with both roles and beta for configs."""
    keys = [listed("alpha", *BOTH), listed("beta", *CONFIG)] if keys is None else keys
    said = {"generation": generation, "keys": keys, "number": number, "revoked": revoked}
    return canonical({"issued_at": SEALED_AT, "version": 1, **said, **members})


def signed(body: bytes | None = None, *, by: str = "alpha", as_type: str = "keyring") -> bytes:
    """Return a body, or the plain keyring, signed with a test key."""
    return sealed(ring() if body is None else body, by=by, as_type=as_type)


def body_of(raw: bytes) -> bytes:
    """Return a message without its signature."""
    return raw[:-TAIL_BYTES] + b"}"


# What most readers below hold: two roots that sign nothing else, one key for configs, alpha revoked.
OFFLINE = [listed("delta", *ROOT), listed("epsilon", *ROOT), listed("beta", *CONFIG)]
HELD = signed(ring(5, generation=2, keys=OFFLINE, revoked=[gone("alpha")]), by="delta")


def later(number: Any = 6, *, by: str = "delta", **members: Any) -> bytes:
    """Return a keyring that differs from the one held by its number, and by `members`."""
    members = {"generation": 2, "keys": OFFLINE, "revoked": [gone("alpha")], **members}
    return signed(ring(number, **members), by=by)


# The way of a reader who has alpha's public key: beta is staged, then alpha is retired, or revoked.
STAGED = signed(ring(1))
RETIRED = signed(ring(2, keys=[listed("alpha", *ROOT), listed("beta", *CONFIG)]))
REVOKED = signed(ring(3, generation=2, keys=[listed("beta", *BOTH)], revoked=[gone("alpha")]))


def good_ring(name: str, about: str, message: bytes, **where: Any) -> Vector:
    """Return a vector about a keyring that becomes the one held by a reader who has alpha's public key."""
    where = {"topic": KEYRING_TOPIC, "known": False, **where}
    return good(f"keyring{name}", about, message, **where)


def good_after(name: str, about: str, message: bytes, **where: Any) -> Vector:
    """Return a vector about a keyring that becomes the one held by a reader who holds HELD."""
    return good_ring(name, about, message, **{"keys": (), "keyrings": (HELD,), "generation": 2, **where})


def bad_ring(step: int, reason: str, name: str, about: str, message: bytes, **where: Any) -> Vector:
    """Return a vector about a keyring that a reader with alpha's public key refuses."""
    return bad(step, reason, f"keyring{name}", about, message, **{"topic": KEYRING_TOPIC, **where})


def bad_after(step: int, reason: str, name: str, about: str, message: bytes, **where: Any) -> Vector:
    """Return a vector about a keyring that a reader who holds HELD refuses."""
    where = {"keys": (), "keyrings": (HELD,), "generation": 2, **where}
    return bad_ring(step, reason, name, about, message, **where)


# what a careless writer begins with, and what it puts in
ODD_KEYRINGS = [
    ring(),
    ring(7, generation=2, keys=[OFFLINE[0], listed("beta", *BOTH)], revoked=[gone("gamma")]),
]
KEYRING_TOKENS = [
    *(
        ',"root"',
        '"config",',
        '["root","config"]',
        '"roles":[],',
        '"revoked":[],',
        ',"number":2',
        ',"revoked":null',
    ),
    *(IDS["beta"], IDS["gamma"], IDS["alpha"].upper(), SEALED_AT, '"reason":"🎙",', '{"key_id":', "}],["),
]
