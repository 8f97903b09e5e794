"""The conformance suite's keyrings, and the verdict that every reader owes each.

Laws: verdicts are written from the protocol and never asked of our own reader.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

from config_daemon.wire.sealing import canonical
from config_daemon.wire.tail import TAIL_BYTES
from tools.beacon_vectors import BEACON_TOPIC, lit
from tools.keyring_messages import (
    BOTH,
    CONFIG,
    HELD,
    KEYRING_TOPIC,
    MOST,
    OFFLINE,
    ROOT,
    bad_after,
    body_of,
    gone,
    good_after,
    good_ring,
    later,
    listed,
    ring,
    signed,
)
from tools.keyring_shapes import shape_vectors
from tools.wire_messages import (
    HEALTH,
    HEALTH_TOPIC,
    IDS,
    PUBLIC,
    SEALED_AT,
    Vector,
    bad,
    edited,
    sealed,
    update,
)


def keyring_vectors() -> Iterator[Vector]:
    """Yield every vector about keyrings, in the order of the steps."""
    yield from _first()
    yield from _next()
    yield from _forms_and_types()
    yield from shape_vectors()
    yield from _order()


def _first() -> Iterator[Vector]:
    """Keyrings for somebody who has one public key, which is number 0."""
    yield good_ring("", "the first keyring, signed by the only key that the reader was given", signed())
    about = "the first keyring that a reader sees need not be number 1: numbers may be skipped"
    yield good_ring("-first-skips", about, signed(ring(41, generation=3)), topic=f"{KEYRING_TOPIC}/41")
    retired = signed(ring(keys=[listed("beta", *BOTH)]))
    yield good_ring(
        "-first-retires", "the key that signed is not listed any more: it was one of the roots", retired
    )
    eight = [listed("alpha", *BOTH), *(listed(f"spare {n}", *CONFIG) for n in (1, 2, 3))]
    eight += [listed(f"offline {n}", *ROOT) for n in (1, 2, 3)] + [listed("idle")]
    limits = ring(MOST, generation=MOST, keys=eight, revoked=[gone("gamma", reason="🎙" * 200)])
    about = (
        "eight keys, four of them for configs, one without a role; 200 characters of reason; largest numbers"
    )
    yield good_ring("-limits", about, signed(limits))
    unknown = [
        listed("alpha", *BOTH, "audit", "root", made_at=SEALED_AT), listed("beta", "config", "", "ROOT")
    ]  # fmt: skip
    about = "roles and members that nobody knows yet are ignored, as is a role that stands twice"
    members = {"revoked": [gone("gamma", by="x")], "zone": {"deep": [None]}}
    yield good_ring("-unknown", about, signed(ring(keys=unknown, **members)))
    body = ring()
    loose = body.replace(b'":', b'" :\n').replace(b"key_id", b"key\\u005fid").replace(b",", b" , ")
    yield good_ring(
        "-white-space", "white space and escapes: a reader takes the bytes as they stand", signed(loose)
    )


def _next() -> Iterator[Vector]:
    """Keyrings for somebody who holds one."""
    yield good_after("-next", "the next number, signed by a root of the one held", later())
    yield good_after("-next-other-root", "signed by the other root: either may", later(by="epsilon"))
    yield good_after("-next-skips", "numbers may be skipped", later(900), topic=f"{KEYRING_TOPIC}/900")
    other = [listed("gamma", *ROOT), listed("beta", *CONFIG)]
    about = (
        "other roots: a root of the keyring held signed it, and that it is not listed itself does not matter"
    )
    yield good_after("-next-roots", about, later(keys=other))
    grown = later(
        generation=3, revoked=[gone("alpha"), gone("beta")], keys=[*OFFLINE[:2], listed("gamma", *CONFIG)]
    )
    yield good_after("-next-revokes", "one more key is revoked, the generation rises", grown)
    reworded = later(revoked=[gone("gamma"), gone("alpha", reason="lost in a train")])
    about = "one more key is revoked in the same generation, the reason of another one was reworded"
    yield good_after("-next-revokes-level", about, reworded)
    added = signed(ring(2, keys=[listed("alpha", *BOTH), listed("gamma", *ROOT)]))
    handed = signed(ring(3, keys=[listed("gamma", *ROOT), listed("beta", *CONFIG)]), by="gamma")
    about = "from one public key over a keyring that adds a root to one that this root signed"
    yield good_ring("-walk", about, handed, keyrings=(added,))
    about = "the very bytes that are held, as after every reconnect"
    yield good_after("-known", about, HELD, known=True)
    about = "the very bytes that are held, though another root signed them than is listed now"
    yield good_ring("-known-root", about, retired_root(), keyrings=(retired_root(),), known=True)


def retired_root() -> bytes:
    """Return a keyring that does not list the root that signed it."""
    return signed(ring(keys=[listed("beta", *BOTH)]))


def _forms_and_types() -> Iterator[Vector]:
    """Steps 1 to 3: the tail, who may sign, and that no type passes as another."""
    raw = later()
    yield bad_after(1, "wiped", "", "an empty payload on the keyring's topic", b"")
    bits = bytes([raw[-5] + 1])  # of A, Q, g and w, whose unused bits are zero
    for name, about, message in (
        (
            "base64-bits",
            "the same signature, with an unused bit of its base64 set",
            raw[:-5] + bits + raw[-4:],
        ),
        ("cut", "the last byte is missing", raw[:-1]),
        ("newline", "a newline after it, as editors leave one", raw + b"\n"),
        (
            "held-newline",
            "the bytes that are held and a newline are not the bytes that are held",
            HELD + b"\n",
        ),
        ("hmac", "the shorter tail of an HMAC", raw[:-90] + b64encode(bytes(32)) + b'"}'),
    ):
        yield bad_after(2, "bad-tail", f"-{name}", about, message)
    listed_itself = later(keys=[*OFFLINE, listed("gamma", *ROOT)], by="gamma")
    twice_signed = raw[:-1] + later(by="epsilon")[-TAIL_BYTES:]
    config = sealed(update(key_id=IDS["beta"], generation=2), by="beta")
    health = sealed(canonical(HEALTH), by="delta", as_type="health")

    def as_type(body_type: str) -> bytes:
        return signed(body_of(raw), by="delta", as_type=body_type)

    number, splice = edited(raw, b'"number":6', b'"number":7'), later(7)[:-TAIL_BYTES] + raw[-TAIL_BYTES:]
    same_body = HELD[:-TAIL_BYTES] + raw[-TAIL_BYTES:]
    twice = edited(raw, b',"number":6', b',"number":6,"number":9')
    roles = edited(
        raw, PUBLIC["beta"].encode() + b'","roles":["config"', PUBLIC["beta"].encode() + b'","roles":["root"'
    )
    for name, about, message in (
        ("number", "its number was raised", number),
        ("roles", "a role was changed under the old signature", roles),
        ("splice", "the body of one keyring, the tail of another", splice),
        ("held-splice", "the body that is held under another signature", same_body),
        ("duplicate", "a duplicate key under the old signature: the signature comes first", twice),
        ("two-signatures", "two roots signed, one after the other: one signature is all there is", twice_signed),
        ("stranger", "signed by a key that nobody listed", later(by="gamma")),
        ("own-root", "signed by a root that only this keyring itself lists", listed_itself),
        ("config-key", "signed by a key that may sign configs and is no root", later(by="beta")),
        ("revoked-root", "signed by a root that the keyring held revokes", later(by="alpha")),
        ("config", "a config update, well signed as such by a key for configs", config),
        ("config-root", "a config update, well signed as such by a root", sealed(by="delta")),
        ("as-config", "a keyring's body, signed by a root as a config update", as_type("config-update")),
        ("as-beacon", "a keyring's body, signed by a root as a beacon", as_type("beacon")),
        ("beacon", "a beacon, well signed as such by a root", lit(by="delta")),
        ("health", "a health message, well signed as such by a root", health),
    ):  # fmt: skip
        yield bad_after(3, "bad-signature", f"-{name}", about, message)
    for name, topic in (
        ("config", "system/config/stt-worker"),
        ("beacon", BEACON_TOPIC),
        ("health", HEALTH_TOPIC),
    ):
        about = f"a keyring, well signed as such, on a {name} topic"
        yield bad(3, "bad-signature", f"keyring-on-{name}", about, signed(), topic=topic)


def _order() -> Iterator[Vector]:
    """Step 8, what is held already."""
    about = "the number held over other bytes"
    yield bad_after(8, "fork", "", about, later(5, zone="x"))
    about = "the number held, the same content, sealed by the other root: other bytes"
    yield bad_after(8, "fork", "-other-root", about, signed(body_of(HELD), by="epsilon"))
    about = "the number held and a lower generation: the number is compared first"
    yield bad_after(8, "fork", "-generation", about, later(5, generation=1))
    yield bad_after(8, "rollback", "", "a lower number than that of the one held", later(4))
    yield bad_after(
        8, "rollback", "-higher-generation", "a lower number and a higher generation", later(4, generation=3)
    )
    yield bad_after(
        8, "rollback", "-generation", "a higher number and a lower generation", later(6, generation=1)
    )
    about = "on the topic of its own number: the topic decides nothing"
    yield bad_after(8, "rollback", "-numbered", about, later(4), topic=f"{KEYRING_TOPIC}/4")
    first = signed(ring(keys=[listed("alpha", *BOTH), listed("delta", *ROOT)]), by="delta")
    about = "the keyring that was held long ago, with the key that was revoked since"
    yield bad_after(8, "rollback", "-old", about, first)
    yield bad_after(8, "unrevoked", "", "nothing is revoked any more", later(revoked=[]))
    about = "another key is revoked instead, and the generation rises"
    yield bad_after(8, "unrevoked", "-other", about, later(generation=3, revoked=[gone("gamma")]))
    about = "the key that was revoked is listed again, and revoked no more"
    back = later(generation=3, keys=[*OFFLINE, listed("alpha", *CONFIG)], revoked=[])
    yield bad_after(8, "unrevoked", "-back", about, back)
