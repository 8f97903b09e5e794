"""The conformance suite's beacons and shards, and the verdict that every reader owes each.

Laws: verdicts and digests of lists are written from the protocol and never asked of our own reader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from config_daemon.wire.sealing import canonical
from config_daemon.wire.tail import TAIL_BYTES
from tools.wire_messages import (
    HEALTH,
    HEALTH_TOPIC,
    IDS,
    PUBLIC,
    SEALED_AT,
    Vector,
    bad,
    body_sha256,
    edited,
    good,
    sealed,
    update,
)

BEACON_TOPIC = "system/trust/beacon"
MOST = (1 << 53) - 1
SHARD = hashlib.sha256(b"stt-worker").hexdigest()[:2]
SHARD_TOPIC = f"{BEACON_TOPIC}/{SHARD}"
OTHER_SHARD_TOPIC = f"{BEACON_TOPIC}/{int(SHARD, 16) ^ 1:02x}"
CAMERA, STT = "5a" * 32, body_sha256(sealed())
SERVICES: dict[str, Any] = {"camera-control": [1038, CAMERA], "stt-worker": [1041, STT]}
# the list of a shard, as its digest is made: compact, names sorted
LISTED = b'{"stt-worker":[1041,"%s"]}' % STT.encode()
LISTED_SHA256 = hashlib.sha256(LISTED).hexdigest()
EMPTY_SHA256 = hashlib.sha256(b"{}").hexdigest()
ENVELOPE: dict[str, Any] = {
    "generation": 1,
    "issued_at": SEALED_AT,
    "key_id": IDS["alpha"],
    "sequence": 1050,
    "version": 1,
}
KEYRING = [0, hashlib.sha256(bytes.fromhex(PUBLIC["alpha"])).hexdigest()]


def beacon(**members: Any) -> bytes:
    """Return a beacon's body; `members` replace those of the plain one, or come on top."""
    return canonical({**ENVELOPE, "keyring": KEYRING, "services": SERVICES, **members})


def shard(**members: Any) -> bytes:
    """Return the body of the shard that has the plain update's service."""
    services = {"stt-worker": SERVICES["stt-worker"]}
    return canonical({**ENVELOPE, "sequence": 1049, "services": services, "shard": SHARD, **members})


def lit(body: bytes | None = None, *, by: str = "alpha", as_type: str = "beacon") -> bytes:
    """Return a body, or the plain beacon, signed with a test key."""
    return sealed(beacon() if body is None else body, by=by, as_type=as_type)


def beacon_vectors() -> Iterator[Vector]:
    """Yield every vector about beacons, in the order of the steps."""
    yield from _good_beacons()
    yield from _good_shards()
    yield from _forms_and_types()
    yield from _texts()
    yield from _misshapen()
    yield from _members()


def _good(name: str, description: str, body: bytes, topic: str = BEACON_TOPIC, **where: Any) -> Vector:
    return good(f"beacon{name}", description, lit(body), topic=topic, **where)


def _bad(
    step: int, reason: str, name: str, about: str, message: bytes, topic: str = BEACON_TOPIC, **where: Any
) -> Vector:
    return bad(step, reason, f"beacon{name}", about, message, topic=topic, **where)


def _good_beacons() -> Iterator[Vector]:
    yield _good("", "an ordinary beacon: two services, each by number and body digest", beacon())
    yield _good("-empty", "nothing is confirmed yet", beacon(services={}))
    absent = dict.fromkeys(("audit", "keyring", "shard", "shards"))
    yield _good("-null", "every optional member is null, which means the same as none", beacon(**absent))
    audit = {"access": [0, "00" * 32], "history": [2817, CAMERA]}
    yield _good("-audit", "with the heads of both audit chains", beacon(audit=audit))
    unknown = beacon(zone="x", future=[{"deep": None}])
    yield _good("-unknown-members", "members that nobody knows yet are ignored", unknown)
    edge = {"a": [1, "00" * 32], "z" + "-" * 63: [MOST, "ff" * 32]}
    about = "the largest numbers, the shortest and the longest name"
    yield _good("-limits", about, beacon(services=edge, sequence=MOST))
    many = {f"service-{number:03}": [number + 1, CAMERA] for number in range(501)}
    about = "more services than our daemon lists in one beacon; a reader takes what fits into a message"
    yield _good("-many", about, beacon(services=many))
    about = "the beacon is of the reader's generation, which is not the first"
    yield _good("-generation", about, beacon(generation=2), generation=2)
    by_beta = lit(beacon(key_id=IDS["beta"]), by="beta")
    where: dict[str, Any] = {"topic": BEACON_TOPIC, "keys": ("alpha", "beta")}
    yield good("beacon-second-key", "two keys are trusted, the second one signed", by_beta, **where)


def _good_shards() -> Iterator[Vector]:
    where: dict[str, Any] = {"topic": SHARD_TOPIC, "list_sha256": LISTED_SHA256}
    yield _good("-shard", "a shard: the services that belong to it, on its own topic", shard(), **where)
    digests = {SHARD: LISTED_SHA256, "00": EMPTY_SHA256}
    about = "the lists are in shards: the beacon has the digest of each; good-beacon-shard is one of them"
    yield _good("-sharded", about, beacon(services={}, shards=digests))
    about = "services and shards at once: well formed; where there are shards, they alone count"
    yield _good("-services-and-shards", about, beacon(shards=digests))
    where["list_sha256"] = EMPTY_SHA256
    about = "a shard that has lost its last service"
    yield _good("-shard-empty", about, shard(services={}), **where)
    two = {"b": [2, CAMERA], "a-b": [3, STT], "a": [MOST, CAMERA]}
    listed = b'{"a":[%d,"%s"],"a-b":[3,"%s"],"b":[2,"%s"]}'
    listed %= MOST, CAMERA.encode(), STT.encode(), CAMERA.encode()
    # written by hand: spaces, escapes and another order
    loose = b'{ "shard":"%s" ,\n"services":{"b":[ 2,"%s"],"a\\u002db":[3,"%s"],"a":[%d,"%s"]}, %s'
    loose %= (
        SHARD.encode(), CAMERA.encode(), STT.encode(), two["a"][0], CAMERA.encode(), canonical(ENVELOPE)[1:]
    )  # fmt: skip
    where["list_sha256"] = hashlib.sha256(listed).hexdigest()
    about = (
        "white space, an escape and another order: the list's digest is over its compact form with"
        " sorted names, not over the bytes in which it came"
    )
    yield _good("-shard-white-space", about, loose, **where)


def _forms_and_types() -> Iterator[Vector]:
    """Steps 1 to 3; above all, no type passes as another."""
    yield _bad(1, "wiped", "", "an empty payload on the beacon's topic", b"")
    raw = lit()
    bits = bytes([raw[-5] + 1])  # of A, Q, g and w, whose unused bits are zero
    about = "the same signature, with an unused bit of its base64 set"
    yield _bad(2, "bad-tail", "-base64-bits", about, raw[:-5] + bits + raw[-4:])
    yield _bad(2, "bad-tail", "-cut", "the last byte is missing", raw[:-1])
    splice = lit(shard())[:-TAIL_BYTES] + raw[-TAIL_BYTES:]
    service = b'"stt-worker":[1041,"%s"]' % STT.encode()
    twice = edited(raw, service, service + b"," + service)
    for name, about, message in (
        ("number", "a service's number was raised", edited(raw, b"[1041,", b"[1042,")),
        ("removed", "a service was taken off the list", edited(raw, b"," + service, b"")),
        ("splice", "the body of a shard, the tail of a beacon", splice),
        ("stranger", "signed by a key that is not trusted, naming one that is", lit(by="gamma")),
        ("duplicate", "a service twice under the old signature: the signature comes first", twice),
        ("config", "a config update, well signed as such, on the beacon's topic", sealed()),
        (
            "health",
            "a health message, well signed as such, on the beacon's topic",
            sealed(canonical(HEALTH), as_type="health"),
        ),
        ("type", "a beacon's body, signed as a config update", lit(as_type="config-update")),
    ):
        yield _bad(3, "bad-signature", f"-{name}", about, message)
    about = "a beacon, well signed as such, on a config topic"
    yield bad(3, "bad-signature", "beacon-as-config", about, raw)
    about = "a beacon, well signed as such, on a health topic"
    yield bad(3, "bad-signature", "beacon-as-health", about, raw, topic=HEALTH_TOPIC)


def _texts() -> Iterator[Vector]:
    """Step 4, what is no strict JSON or of another message."""
    plain, service = beacon(), b'"stt-worker":[1041,"%s"]' % STT.encode()
    escaped = b'"stt\\u002dworker":[9,"%s"]' % STT.encode()
    for name, about, body in (
        ("duplicate", "a member stands twice", edited(plain, b',"version":1', b',"version":1,"version":1')),
        (
            "duplicate-service",
            "a service stands twice with two numbers",
            edited(plain, service, service + b"," + service.replace(b"1041", b"9")),
        ),
        (
            "duplicate-escaped",
            "a service stands twice, once with an escape",
            edited(plain, service, service + b"," + escaped),
        ),
        ("nan", "a service's number is NaN", edited(plain, b"[1041,", b"[NaN,")),
        ("config", "the members are those of a config update", update()),
        ("health", "the members are those of a health message", canonical(HEALTH)),
    ):
        yield _bad(4, "bad-json", f"-{name}", f"well signed as a beacon, but {about}", lit(body))
    about = "well signed as a config update, but the members are those of a beacon"
    yield bad(4, "bad-json", "beacon-as-config", about, sealed(plain))
    health = sealed(plain, as_type="health")
    about = "well signed as a health message, but the members are those of a beacon"
    yield bad(4, "bad-json", "beacon-as-health", about, health, topic=HEALTH_TOPIC)


def _misshapen() -> Iterator[Vector]:
    """Step 4, members that are missing or of another type."""

    def listing(name: str, value: Any) -> bytes:
        return beacon(services={**SERVICES, name: value})

    one, plain = "tts-worker", beacon()
    for name, about, body in (
        ("missing", "there are no services at all", edited(plain, b'"services":', b'"other":')),
        ("services-null", "services is null", beacon(services=None)),
        ("services-list", "services is a list of pairs", beacon(services=[["stt-worker", 1041, STT]])),
        ("number-float", "a number is written as a float", edited(plain, b"[1041,", b"[1041.0,")),
        ("number-exponent", "a number has an exponent", edited(plain, b"[1041,", b"[1041e0,")),
        ("number-boolean", "a number is true, which equals 1 in some languages", listing(one, [True, STT])),
        ("number-range", "a number is 2^53", listing(one, [1 << 53, STT])),
        ("number-negative", "a number is below zero", listing(one, [-1, STT])),
        ("number-text", "a number is a text", listing(one, ["1041", STT])),
        ("digest-hex", "a digest is no hex", listing(one, [1, "g" * 64])),
        ("digest-upper", "a digest has capital letters", listing(one, [1, "AB" * 32])),
        ("digest-short", "a digest lacks a digit", listing(one, [1, "a" * 63])),
        ("digest-newline", "a newline follows a digest", listing(one, [1, "a" * 64 + "\n"])),
        ("digest-null", "a digest is null", listing(one, [1, None])),
        ("pair-short", "a pair lacks its digest", listing(one, [1])),
        ("pair-long", "a pair has three items", listing(one, [1, STT, 1])),
        ("pair-object", "a pair is an object", listing(one, {"number": 1, "sha256": STT})),
        ("pair-null", "a pair is null", listing(one, None)),
        ("name", "a service's name has a capital letter", listing("Camera", [1, STT])),
        ("name-slash", "a service's name reaches into another topic", listing("a/b", [1, STT])),
        ("name-long", "a service's name has 65 characters", listing("a" * 65, [1, STT])),
        ("name-empty", "a service has no name", listing("", [1, STT])),
        ("name-newline", "a newline follows a service's name", listing("a\n", [1, STT])),
        ("shard-name", "it calls itself a shard that there cannot be", beacon(shard="0G")),
        ("shards-name", "a digest is given for a shard that there cannot be", beacon(shards={"100": STT})),
        ("shards-digest", "the digest of a shard is a pair", beacon(shards={SHARD: [1, STT]})),
        ("shards-list", "shards is a list of digests", beacon(shards=[STT])),
        ("keyring", "the keyring is given without its number", beacon(keyring=KEYRING[1])),
        ("audit-chain", "an audit chain has a name that this format lacks", beacon(audit={"x": [1, STT]})),
        ("audit-null", "the head of an audit chain is null", beacon(audit={"history": None})),
        ("sequence", "the sequence is 0", beacon(sequence=0)),
        ("sequence-float", "the sequence is written as a float", edited(plain, b":1050", b":1050.0")),
        ("timestamp", "issued_at is a time in another form", beacon(issued_at="2026-03-14T09:26:53Z")),
        ("boolean", "the version is true, which equals 1 in some languages", beacon(version=True)),
    ):
        yield _bad(4, "bad-json", f"-{name}", f"well signed, but {about}", lit(body))


def _members() -> Iterator[Vector]:
    """Steps 5, 6 and 8; there is no step 7 or 9 for beacons."""
    future = b'{"version":2,"services":"?"}'
    yield _bad(5, "unknown-version", "", "format 2: nothing else in it is judged", lit(future))
    two = ("alpha", "beta")
    about = "signed by one trusted key, naming another trusted one"
    yield _bad(5, "wrong-key", "", about, lit(by="beta"), keys=two)
    about = "names no key that is trusted"
    yield _bad(5, "wrong-key", "-unknown", about, lit(beacon(key_id=IDS["gamma"])))
    about = "a shard on the topic of another shard"
    yield _bad(6, "wrong-service", "-other-shard", about, lit(shard()), OTHER_SHARD_TOPIC)
    yield _bad(6, "wrong-service", "-on-shard", "the beacon itself on a shard's topic", lit(), SHARD_TOPIC)
    yield _bad(6, "wrong-service", "-shard-on-beacon", "a shard on the beacon's topic", lit(shard()))
    about = "another shard's topic and another generation: the first fault counts"
    faulty = lit(shard(generation=3))
    yield _bad(6, "wrong-service", "-first-fault", about, faulty, OTHER_SHARD_TOPIC)
    yield _bad(8, "rollback", "", "of a lower generation than the keyring's", lit(), generation=2)
    about = "a shard of a lower generation than the keyring's"
    yield _bad(8, "rollback", "-shard", about, lit(shard()), SHARD_TOPIC, generation=2)
    about = "of a higher generation than the keyring's"
    yield _bad(8, "keyring-behind", "-higher", about, lit(beacon(generation=2)))
