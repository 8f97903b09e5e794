"""The conformance suite's keyrings with a fault of their own: what each must be, whatever is held.

Laws: verdicts are written from the protocol and never asked of our own reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from config_daemon.wire.keys import key_id
from tools.beacon_vectors import BEACON_TOPIC, beacon, lit
from tools.keyring_messages import (
    BOTH,
    CONFIG,
    OFFLINE,
    ROOT,
    bad_after,
    bad_ring,
    gone,
    later,
    listed,
    ring,
    signed,
)
from tools.wire_messages import IDS, PUBLIC, Vector, bad, edited, sealed, update

PRIME = (1 << 255) - 19


def shape_vectors() -> Iterator[Vector]:
    """Yield every vector about a keyring's own form and keys, in the order of the steps."""
    yield from _texts()
    yield from _misshapen()
    yield from _members()


def _texts() -> Iterator[Vector]:
    """Step 4, what is no strict JSON or of another message."""
    plain, number = ring(), b'"number":1'
    key_twice = edited(plain, b'"roles":["config"]', b'"roles":["config"],"roles":["root"]')
    escaped = edited(plain, number, b'"n\\u0075mber":9,"number":1')
    half = edited(ring(revoked=[gone("gamma", reason="?")]), b'"?"', b'"\\ud83c"')
    for name, about, body in (
        ("duplicate", "a member stands twice", edited(plain, number, b'"number":9,"number":1')),
        ("duplicate-escaped", "a member stands twice, once with an escape", escaped),
        ("duplicate-roles", "a key's roles stand twice", key_twice),
        ("number-nan", "its number is NaN", edited(plain, number, b'"number":NaN')),
        ("surrogate", "the reason of a revocation is half of a surrogate pair", half),
        ("rest", "something follows the object", plain + b"1}"),
        ("config", "the members are those of a config update", update()),
        ("beacon", "the members are those of a beacon", beacon()),
    ):  # fmt: skip
        yield bad_ring(4, "bad-json", f"-{name}", f"well signed as a keyring, but {about}", signed(body))
    about = "well signed as a config update, but the members are those of a keyring"
    yield bad(4, "bad-json", "keyring-as-config", about, sealed(plain))
    about = "well signed as a beacon, but the members are those of a keyring"
    yield bad(4, "bad-json", "keyring-as-beacon", about, lit(plain), topic=BEACON_TOPIC)


def _misshapen() -> Iterator[Vector]:
    """Step 4, members that are missing, of another type, too many, or that say a thing twice."""
    plain, alpha, beta = ring(), listed("alpha", *BOTH), listed("beta", *CONFIG)
    configs = [listed(f"spare {n}", *CONFIG) for n in (1, 2, 3, 4)]
    apart = [listed("alpha", *ROOT), listed("alpha", *CONFIG)]
    shouting = [listed("alpha", "ROOT", "config")]
    misnamed = listed("beta", *ROOT, key_id=IDS["gamma"])
    nine = [alpha, *(listed(f"offline {n}", *ROOT) for n in range(1, 9))]

    def with_key(**members: Any) -> bytes:
        return ring(keys=[alpha, listed("beta", *CONFIG, **members)])

    def revoking(**members: Any) -> bytes:
        return ring(revoked=[gone("gamma", **members)])

    public, name_of = PUBLIC["beta"], IDS["gamma"]
    without = {
        name: edited(plain, b'"%s":' % name.encode(), b'"other":') for name in ("keys", "number", "revoked")
    }
    for name, about, body in (
        ("number", "the number is 0, which is what a single public key counts as", ring(0)),
        ("number-negative", "the number is below zero", ring(-1)),
        ("number-range", "the number is 2^53", ring(1 << 53)),
        ("number-boolean", "the number is true, which equals 1 in some languages", ring(True)),
        ("number-float", "the number is written as a float", edited(plain, b'"number":1', b'"number":1.0')),
        ("number-exponent", "the number has an exponent", edited(plain, b'"number":1', b'"number":1e0')),
        ("number-text", "the number is a text", ring("1")),
        ("number-missing", "there is no number", without["number"]),
        ("generation", "the generation is 0", ring(generation=0)),
        ("generation-float", "the generation is written as a float", edited(plain, b'ion":1,', b'ion":1.0,')),
        ("boolean", "the version is true, which equals 1 in some languages", ring(version=True)),
        ("timestamp", "issued_at is a time in another form", ring(issued_at="2026-03-14T09:26:53Z")),
        ("revoked-missing", "there is no list of what is revoked", without["revoked"]),
        ("revoked-null", "the list of what is revoked is null", ring(revoked=None)),
        ("revoked-object", "what is revoked is an object, not a list", ring(revoked={IDS["gamma"]: "lost"})),
        ("revoked-twice", "a key is revoked twice", ring(revoked=[gone("gamma"), gone("gamma", reason="lost")])),
        ("revoked-name", "the name of a revoked key is no name of a key", revoking(key_id="gamma")),
        ("revoked-upper", "the name of a revoked key has capital letters", revoking(key_id=name_of.upper())),
        ("revoked-at", "a revocation has a time in another form", revoking(at="yesterday")),
        ("reason-long", "a reason has 201 characters", revoking(reason="x" * 201)),
        ("reason-null", "a reason is null", revoking(reason=None)),
        ("keys-missing", "there are no keys", without["keys"]),
        ("keys-empty", "the list of keys is empty", ring(keys=[])),
        ("keys-object", "keys is an object, not a list", ring(keys={IDS["alpha"]: alpha})),  # type: ignore[arg-type]
        ("key-text", "a key is given by its digits alone", ring(keys=[alpha, PUBLIC["beta"]])),  # type: ignore[list-item]
        ("key-upper", "a public key has capital letters", with_key(public_key=public.upper())),
        ("key-short", "a public key lacks a byte", with_key(public_key=public[2:])),
        ("key-newline", "a newline follows a public key", with_key(public_key=public + "\n")),
        ("key-id-upper", "the name of a key has capital letters", with_key(key_id=IDS["beta"].upper())),
        ("key-twice", "a key is listed twice, with a role each", ring(keys=apart)),
        ("roles-missing", "a key has no roles member", edited(plain, b'"roles":["config"]', b'"may":["config"]')),
        ("roles-null", "the roles of a key are null", ring(keys=[alpha, listed("beta", roles=None)])),
        ("roles-text", "the roles of a key are one text", ring(keys=[listed("alpha", roles="root config"), beta])),
        ("roles-number", "a role is a number", ring(keys=[alpha, listed("beta", "config", roles=["config", 1])])),
        ("no-root", "no key is a root: nobody could sign the next one", ring(keys=[listed("alpha", *CONFIG), beta])),
        ("no-config", "no key may sign configs", ring(keys=[listed("alpha", *ROOT)])),
        ("root-upper", "the only root has its role in capital letters, which nobody knows", ring(keys=shouting)),
        ("five-config-keys", "five keys may sign configs", ring(keys=[alpha, *configs])),
        ("nine-keys", "nine keys are listed", ring(keys=nine)),
        ("first-fault", "nine keys, one under another's name", ring(keys=[*nine[:8], misnamed])),
    ):  # fmt: skip
        yield bad_ring(4, "bad-json", f"-{name}", f"well signed, but {about}", signed(body))


def _members() -> Iterator[Vector]:
    """Step 5, what the keys are."""
    future = b'{"version":2,"number":"?"}'
    yield bad_ring(5, "unknown-version", "", "format 2: nothing else in it is judged", signed(future))
    alpha = listed("alpha", *BOTH)
    misnamed = ring(keys=[alpha, listed("beta", *CONFIG, key_id=IDS["gamma"])])
    twice = ring(keys=[alpha, listed("alpha", *CONFIG, key_id=IDS["gamma"])])

    def with_y(y: int) -> bytes:
        public = y.to_bytes(32, "little")
        key = {"key_id": key_id(public), "public_key": public.hex(), "roles": ["config"]}
        return signed(ring(keys=[alpha, key]))

    for name, about, message in (
        ("", "a key under the name of another key", signed(misnamed)),
        ("-twice", "one key under its own name and under another", signed(twice)),
        ("-order-1", "a public key is the neutral element, for which everybody can sign", with_y(1)),
        ("-order-4", "a public key is a point of order 4", with_y(0)),
        ("-order-2", "a public key is the point of order 2", with_y(PRIME - 1)),
        ("-sign", "a public key is the neutral element with the sign that it cannot have", with_y(1 | 1 << 255)),
        ("-not-canonical", "a public key is not canonical: its y is not below 2^255 - 19", with_y(PRIME + 3)),
    ):  # fmt: skip
        yield bad_ring(5, "wrong-key", name, about, message)
    both = signed(ring(keys=[alpha, listed("beta", *CONFIG)], revoked=[gone("beta")]))
    yield bad_ring(5, "revoked-key", "", "a key is listed and revoked at once", both)
    about = "the key that signed it is listed, a root, and revoked"
    yield bad_ring(5, "revoked-key", "-root", about, signed(ring(revoked=[gone("alpha")])))
    back = later(keys=[*OFFLINE, listed("alpha", *CONFIG)])
    yield bad_after(5, "revoked-key", "-back", "what was revoked is listed again", back)
    about = "a key that is revoked, and too low a number: the first fault counts"
    yield bad_after(
        5, "revoked-key", "-first-fault", about, later(4, keys=[*OFFLINE, listed("alpha", *CONFIG)])
    )
