"""The conformance suite: every vector, and the verdict that every reader owes it.

Laws: the verdicts are written down here and never computed, so that an error in our own reader cannot
become the standard; names begin with the step, so that files sort in the order in which bytes are judged.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from config_daemon.wire.sealing import canonical, media_type, pae
from config_daemon.wire.tail import MAX_MESSAGE_BYTES, TAIL_BYTES
from tools.beacon_vectors import beacon_vectors
from tools.convergence_vectors import convergence_vectors
from tools.held_vectors import judged_under_keyrings
from tools.keyring_vectors import keyring_vectors
from tools.status_vectors import status_vectors
from tools.wire_messages import (
    CONFIG,
    ED25519_ORDER,
    ENVELOPE,
    HEALTH,
    HEALTH_TOPIC,
    IDS,
    KEYS,
    Vector,
    bad,
    body_sha256,
    edited,
    good,
    numbered,
    sealed,
    update,
    with_signature,
)

LATER = "2026-03-15T09:26:53.589Z"
OTHER_BODY = "00" * 32
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def vectors() -> list[Vector]:
    """Return every vector: about configs and health in the order of the steps, beacons, keyrings, what they change,
    statuses and convergences.
    """
    groups = (
        _good_values(),
        _good_forms(),
        _size_and_tail(),
        _signature(),
        _text(),
        _types(),
        _members(),
        _order(),
    )
    return [
        *(vector for group in groups for vector in group),
        *beacon_vectors(),
        *keyring_vectors(),
        *judged_under_keyrings(),
        *status_vectors(),
        *convergence_vectors(),
    ]


def _good_values() -> Iterator[Vector]:
    yield good("plain", "an ordinary config update, read for the first time", sealed())
    yield good("empty-config", "a service without any values", sealed(update(b"{}")))
    tombstone = update(b"{}", deleted=True)
    yield good("tombstone", "a deleted service: config is empty, deleted is true", sealed(tombstone))

    texts = {"ä": "Grüße, 世界, 🎙, e\u0301", "controls": "\x00\t\n\x1f\x7f\u2028", "quote": '"\\/'}
    about = "text beyond ASCII stands in the message as UTF-8, control characters as escapes"
    yield good("non-ascii", about, sealed(update(canonical(texts))))

    tail = ',"signature":"' + "A" * 86 + '=="}'
    imitation = {"a": ',"config_epoch":"', "b": '},"config_epoch":"x"', "c": tail}
    about = (
        "values that look like the end of the config and like a signature: find the config by parsing"
        " one value and the signature by position, never by searching"
    )
    yield good("imitates-members", about, sealed(update(canonical(imitation))))

    deep = b'{"a":' * 30 + b"{}" + b"}" * 30
    edge = b'{"deep":%s,"huge":1.7976931348623157e+308,"max":%d,"min":%d,"tiny":5e-324}'
    most = (1 << 53) - 1
    about = "the deepest nesting and the largest numbers that are ever written"
    yield good("limits", about, sealed(update(edge % (deep, most, -most), sequence=most)))

    spaced = b'{ "name" : "\\u00fc",\n\t"gain":1.50,"list":[ 1 , 2 ] }'
    others = b"".join(
        b', "%s":%s' % (name.encode(), canonical(ENVELOPE[name])) for name in sorted(ENVELOPE)[::-1]
    )
    loose = b'{"checksum":"%s","config":%s \r\n%s }' % (
        hashlib.sha256(spaced).hexdigest().encode(),
        spaced,
        others,
    )
    about = (
        "white space and another order of members: a reader takes the bytes as they stand, so the"
        " checksum covers the config's own white space, escapes and spelling of numbers"
    )
    yield good("white-space", about, sealed(loose))


def _good_forms() -> Iterator[Vector]:
    future = update(future={"list": [1, {"deep": None}]}, zone="x")
    yield good("unknown-members", "members that nobody knows yet are ignored", sealed(future))

    by_beta = sealed(update(key_id=IDS["beta"]), by="beta")
    yield good("second-key", "two keys are trusted, the second one signed", by_beta, keys=("alpha", "beta"))

    secrets = {"nonce": "bm9uY2U=", "ciphertext": "Y2lwaGVydGV4dA==", "recipients": {"kitchen": "a2V5"}}
    timed: dict[str, Any] = {"expires_at": LATER, "until": LATER, "then": {"threads": 2}}
    full = update(deleted=None, confirm_seconds=60, secrets=secrets, **timed)
    yield good("optional-members", "every optional member; null means the same as none", sealed(full))

    held = (1, 1041, body_sha256(sealed()))
    about = "the very message that the floor was made of, as after every reconnect"
    yield good("held-already", about, sealed(), floor=held)

    older = update(config_version=1, issued_at="1999-12-31T23:59:59.000Z")
    about = "a higher number than the floor's; config_version and issued_at do not matter"
    yield good("above-floor", about, sealed(older), floor=(1, 1040, OTHER_BODY))

    about = "a lower number in a higher generation is newer: pairs are compared"
    floor = (1, 900_000, OTHER_BODY)
    yield good("next-generation", about, numbered(5, generation=2), generation=2, floor=floor)

    health = sealed(canonical(HEALTH), as_type="health")
    about = "a health message on a health topic; steps 6 to 9 are not for health"
    yield good("health", about, health, topic=HEALTH_TOPIC)


def _size_and_tail() -> Iterator[Vector]:
    yield bad(1, "wiped", "", "an empty payload: somebody cleared the retained message", b"")
    short = len(sealed(update(b'{"text":""}')))
    long = sealed(update(b'{"text":"%s"}' % (b"a" * (MAX_MESSAGE_BYTES + 1 - short))))
    yield bad(1, "oversize", "", "well signed, and one byte longer than 1 MiB - 1", long)

    raw = sealed()
    other_bits = bytes([BASE64[BASE64.index(raw[-5]) | 1]])
    both = next(raw for raw in map(numbered, range(1, 100)) if b"+" in raw[-90:] and b"/" in raw[-90:])
    url_safe = both[:-90] + both[-90:].replace(b"+", b"-").replace(b"/", b"_")
    spaced = edited(raw, b'"signature":', b'"signature": ')
    hmac = raw[:-90] + b64encode(bytes(32)) + b'"}'
    for name, about, message in (
        ("newline", "a newline after the message", raw + b"\n"),
        ("byte-order-mark", "a byte order mark before the message", b"\xef\xbb\xbf" + raw),
        (
            "sorted",
            "a tool sorted all members: the signature is not the last one",
            canonical(json.loads(raw)),
        ),
        ("space", "a space after the colon of the signature", spaced),
        (
            "base64-bits",
            "the same signature, with unused bits of its base64 set",
            raw[:-5] + other_bits + raw[-4:],
        ),
        ("base64-url", "the signature in the URL-safe alphabet", url_safe),
        ("cut", "the last byte is missing", raw[:-1]),
        ("hmac", "the shorter tail of an HMAC, which seals files and never messages", hmac),
    ):
        yield bad(2, "bad-tail", name, about, message)


def _signature() -> Iterator[Vector]:
    raw = sealed()
    tail = raw[-TAIL_BYTES:]
    forged = update(edited(CONFIG, b'"threads":4', b'"threads":8'))[:-1] + tail
    twice = edited(raw, b',"version":1', b',"version":1,"version":1')
    health = sealed(canonical(HEALTH), as_type="health")
    bare = KEYS["alpha"].sign(update()).signature
    longer = KEYS["alpha"].sign(pae(media_type("config-update"), update() + b"\n")).signature
    signature = KEYS["alpha"].sign(pae(media_type("config-update"), update())).signature
    scalar = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    malleable = signature[:32] + scalar.to_bytes(32, "little")
    for name, about, message in (
        ("bit", "one bit of a value was flipped", edited(raw, b'"threads":4', b'"threads":5')),
        ("forged", "values and checksum were changed together, under the old signature", forged),
        ("splice", "the body of one good message, the tail of another", numbered(2000)[:-TAIL_BYTES] + tail),
        ("stranger", "signed by a key that is not trusted, naming one that is", sealed(by="gamma")),
        ("duplicate", "a duplicate key under the old signature: the signature comes first", twice),
        ("health", "a health message, well signed as such, on a config topic", health),
        ("other-type", "an update, well signed as a message of another type", sealed(as_type="dry-run")),
        ("bare", "the signature covers the body alone, without its type", with_signature(bare)),
        ("one-more-byte", "the signature covers the body and a newline", with_signature(longer)),
        ("malleable", "the group's order was added to the signature's scalar", with_signature(malleable)),
        ("zero", "a signature of zeros", with_signature(bytes(64))),
    ):
        yield bad(3, "bad-signature", name, about, message)
    about = "a config update, well signed as such, on a health topic"
    yield bad(3, "bad-signature", "config-as-health", about, raw, topic=HEALTH_TOPIC)


def _text() -> Iterator[Vector]:
    """Step 4, what is no strict JSON."""
    for name, about, body in (
        (
            "duplicate",
            "a member stands twice",
            edited(update(), b',"version":1', b',"version":1,"version":1'),
        ),
        ("duplicate-nested", "a key inside the config stands twice", update(b'{"a":{"b":1,"c":2,"b":1}}')),
        ("duplicate-escaped", "a key stands twice, once with an escape", update(b'{"a":1,"\\u0061":2}')),
        ("nan", "a number is NaN", update(b'{"a":NaN}')),
        ("overflow", "a number is beyond the range of binary64", update(b'{"a":1e400}')),
        ("number", "a number begins with a zero", update(b'{"a":01}')),
        ("comma", "a comma follows the last value", update(b'{"a":[1,]}')),
        ("control", "a text holds a control character without an escape", update(b'{"a":"\t"}')),
        ("utf-8", "a byte is no UTF-8", update(b'{"a":"\xff"}')),
        ("surrogate", "an escape is half of a surrogate pair", update(b'{"a":"\\ud83c"}')),
        ("rest", "something follows the object", update() + b"1}"),
    ):
        yield bad(4, "bad-json", name, f"well signed, but {about}", sealed(body))


def _types() -> Iterator[Vector]:
    """Step 4, members that are missing or of another type."""
    for name, about, body in (
        ("missing", "the sequence is missing", edited(update(), b'"sequence":1041,', b"")),
        ("list", "the config is a list", update(b"[]")),
        ("float", "the sequence is written as a float", edited(update(), b":1041", b":1041.0")),
        ("range", "the sequence is 2^53", update(sequence=1 << 53)),
        ("boolean", "the version is true, which equals 1 in some languages", update(version=True)),
        ("flag", "deleted is 1, which equals true in some languages", update(b"{}", deleted=1)),
        ("timestamp", "issued_at is a time in another form", update(issued_at="2026-03-14T09:26:53+00:00")),
        ("tombstone", "a tombstone carries values", update(deleted=True)),
        ("until", "until comes without then", update(until=LATER)),
        ("health", "the members are those of a health message", canonical(HEALTH)),
    ):
        yield bad(4, "bad-json", name, f"well signed, but {about}", sealed(body))
    health = sealed(canonical({**HEALTH, "err": 0}), as_type="health")
    about = "well signed, but a member of a health message is of another type"
    yield bad(4, "bad-json", "health-type", about, health, topic=HEALTH_TOPIC)


def _members() -> Iterator[Vector]:
    """Steps 5 to 7, what the members say."""
    future = sealed(b'{"version":2,"sequence":"?"}')
    yield bad(5, "unknown-version", "", "format 2: nothing else in it is judged", future)
    about = "signed by one trusted key, naming another trusted one"
    yield bad(5, "wrong-key", "", about, sealed(by="beta"), keys=("alpha", "beta"))

    other, two = sealed(update(service="camera-control")), ("camera-control", "stt-worker")
    about = "for a service that I follow, on the topic of another one that I follow"
    yield bad(6, "wrong-service", "topic", about, other, services=two)
    about = "for a service that I do not follow, on its own topic"
    yield bad(6, "wrong-service", "foreign", about, sealed(), services=("camera-control",))
    about = "on a topic outside the tree of configs"
    yield bad(6, "wrong-service", "tree", about, sealed(), topic="elsewhere/config/stt-worker")
    reserved, where = (
        sealed(update(service="keyring")),
        {"topic": "system/config/keyring", "services": ("keyring",)},
    )
    yield bad(6, "wrong-service", "reserved", "keyring can never name a service", reserved, **where)
    faulty = sealed(update(service="tts", checksum=OTHER_BODY))
    about = "wrong service, wrong checksum and old number: the first fault counts"
    yield bad(6, "wrong-service", "first-fault", about, faulty, floor=(1, 2000, OTHER_BODY))

    # same length as the head, so that the decoy's value begins at byte 88 and fits the checksum
    decoy = edited(update(CONFIG), b',"config":', b',"konfig":')[:-1] + b',"config":{"threads":64}}'
    rewritten = update(b'{"threads": 4}', checksum=hashlib.sha256(b'{"threads":4}').hexdigest())
    for name, about, body in (
        ("value", "the checksum is that of other values", update(checksum=OTHER_BODY)),
        ("rewritten", "the checksum covers the config as a parser would write it again", rewritten),
        ("decoy", "the checksum covers another member, which stands in the config's place", decoy),
        ("offset", "a member stands before the config", edited(update(), b',"config":', b',"a":1,"config":')),
        ("space", "a space stands before the config", edited(update(), b'"config":{', b'"config": {')),
    ):
        yield bad(7, "bad-checksum", name, about, sealed(body))


def _order() -> Iterator[Vector]:
    """Steps 8 and 9, what was seen before."""
    about = "of a higher generation than the keyring's"
    yield bad(8, "keyring-behind", "", about, numbered(1041, generation=2))
    yield bad(8, "rollback", "", "of a lower generation than the keyring's", sealed(), generation=2)
    held = (1, 1041, body_sha256(sealed()))
    yield bad(9, "rollback", "", "a lower number than the floor's", numbered(1040), floor=held)
    about = "a higher number in a lower generation than the floor's"
    yield bad(9, "rollback", "generation", about, numbered(5000), floor=(2, 3, OTHER_BODY))
    about = "the floor's own number over other bytes"
    yield bad(9, "fork", "", about, sealed(update(config_version=8)), floor=held)
