"""Ways to tamper with sealed messages: each takes good ones and yields mutants without end.

Laws: a mutant never carries a signature that the trusted key made over it as the type that its topic wants; all
randomness comes from the generator that is given.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from config_daemon.wire.mac import seal_hmac
from config_daemon.wire.sealing import canonical, media_type, pae
from config_daemon.wire.tail import TAIL_BYTES
from tools.beacon_vectors import EMPTY_SHA256, LISTED_SHA256, SHARD, beacon, lit, shard
from tools.status_messages import REJECTED, status, told
from tools.wire_messages import ED25519_ORDER, HEALTH, KEYS, numbered, sealed, update, with_signature

ALPHA = KEYS["alpha"]
TEXTS = canonical({"ä": "Grüße 🎙", "imitation": ',"config_epoch":"', "list": [1, 2.5, None, {"a": []}]})
GOOD = [
    sealed(),
    numbered(2000),
    numbered(2000, config_version=8),
    sealed(update(b"{}", deleted=True)),
    sealed(update(TEXTS, expires_at="2026-03-15T09:26:53.589Z", future=[1, "x"])),
]
SHARDS = [lit(shard()), lit(shard(services={}, sequence=2000))]
BEACONS = [
    lit(),
    lit(beacon(services={}, shards={SHARD: LISTED_SHA256, "00": EMPTY_SHA256}, sequence=2000)),
    lit(
        beacon(services={"stt-worker": [1041, "00" * 32]}, audit={"history": [3, "5a" * 32]}, future=[1, "x"])
    ),
    *SHARDS,
]
STATUSES = [
    told(),
    told(status(boot=1773480413001, n=1, running=None, last_attempt=REJECTED, flags=["stale"])),
    told(status(n=2000, beacon=0, last_attempt=None, future=[1, "x"])),
]
KIND, BODY = media_type("config-update"), update()
RIGHT = ALPHA.sign(pae(KIND, BODY)).signature
Messages = Sequence[bytes]
Mutants = Callable[[random.Random, Messages], Iterator[bytes]]


def bit_flips(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """One to eight bits anywhere."""
    while True:
        raw = bytearray(rng.choice(good))
        for bit in rng.sample(range(8 * len(raw)), rng.choice((1, 1, 1, 2, 8))):
            raw[bit // 8] ^= 1 << bit % 8
        yield bytes(raw)


def byte_edits(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """Bytes replaced, inserted, removed, doubled or swapped; messages cut, extended or repeated."""
    while True:
        raw = rng.choice(good)
        a, b = sorted(rng.sample(range(len(raw)), 2))
        some = rng.randbytes(rng.choice((1, 1, 2, 16)))
        edits = (
            raw[:a] + some + raw[a + len(some) :],
            raw[:a] + some + raw[a:],
            raw[:a] + raw[b:],
            raw[:b] + raw[a:],
            raw[:a] + raw[b : b + 1] + raw[a + 1 : b] + raw[a : a + 1] + raw[b + 1 :],
            raw[a:],
            raw[:b],
            raw + some,
            some + raw,
            raw + raw,
            raw[:-TAIL_BYTES] + raw[-TAIL_BYTES:] * 2,
        )
        yield rng.choice(edits)


def splices(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """Pieces of two or three good messages, cut at the same place or anywhere."""
    while True:
        first, second, third = (rng.choice(good) for _ in range(3))
        a = rng.randrange(len(first))
        b = a if rng.random() < 0.5 else rng.randrange(len(second))
        tail = rng.choice((second, third))[-TAIL_BYTES:]
        edits = (
            first[:a] + second[b:],
            first[:a] + second[b:-TAIL_BYTES] + tail,
            first[:-TAIL_BYTES] + tail,
            first[:-1] + b"," + second[1:],
        )
        yield rng.choice(edits)


def json_edits(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """The message as JSON with members changed, added, removed; checksum mended; the old tail behind it."""
    while True:
        raw = rng.choice(good)
        members: dict[str, Any] = json.loads(raw)
        del members["signature"]
        name = rng.choice(list(members))
        value = members[name]
        if name == "config":
            members[name] = rng.choice(({}, {**value, "threads": rng.random()}, {**value, "new": None}))
        elif isinstance(value, int):
            members[name] = value + rng.choice((-1, 1, 1000))
        else:
            members[name] = rng.choice((None, [value], f"{value}0", rng.choice(list(members.values()))))
        if rng.random() < 0.2:
            del members[name]
        if rng.random() < 0.2:
            members[rng.choice(("zone", "alg", "key", "deleted"))] = rng.choice((True, "none", 0))
        body = canonical(members)
        if rng.random() < 0.5 and "config" in members and "checksum" in members:
            digest = hashlib.sha256(canonical(members["config"])).hexdigest()
            body = canonical({**members, "checksum": digest})
        yield body[:-1] + raw[-TAIL_BYTES:]


def duplicate_keys(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """A member a second time, before or after the first, with its own value or another."""
    while True:
        raw = rng.choice(good)
        members = json.loads(raw)
        name = rng.choice(list(members))
        value: Any = rng.choice((members[name], None, 1, {}, rng.choice(list(members.values()))))
        key = canonical(name) if rng.random() < 0.7 else b'"\\u%04x%s"' % (ord(name[0]), name[1:].encode())
        again = key + b":" + canonical(value)
        comma = rng.choice([found.start() for found in re.finditer(b",", raw)])
        edits = (
            b"{" + again + b"," + raw[1:],
            raw[:comma] + b"," + again + raw[comma:],
            raw[:-TAIL_BYTES] + b"," + again + raw[-TAIL_BYTES:],
            raw[:-1] + b"," + again + b"}",
        )
        yield rng.choice(edits)


def white_space(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """White space that means nothing to JSON, between tokens and around the message."""
    while True:
        raw = rng.choice(good)
        for _ in range(rng.choice((1, 1, 2, 5))):
            tokens = re.finditer(rb"[{}\[\],:]", raw)
            place = rng.choice([at for found in tokens for at in found.span()])
            space = rng.choice((b" ", b"\t", b"\n", b"\r\n", b"  "))
            raw = raw[:place] + space + raw[place:]
        yield raw


def rewritten(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """The same values as another program would write them: order, spaces, escapes, numbers."""
    while True:
        members = list(json.loads(rng.choice(good)).items())
        if rng.random() < 0.7:
            rng.shuffle(members)
        yield json.dumps(
            dict(members),
            indent=rng.choice((None, 0, 2)),
            ensure_ascii=rng.random() < 0.5,
            separators=rng.choice((None, (",", ":"), (",", ": "))),
        ).encode()


def base64_variants(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """The signature spelled, padded or cut in another way, and bytes close to it."""
    digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    while True:
        raw = rng.choice(good)
        head, base64, end = raw[:-90], raw[-90:-2], raw[-2:]
        place = rng.randrange(86)
        twin = digits[digits.index(base64[85]) ^ rng.randrange(1, 16)]
        edits = (
            base64[:85] + bytes([twin]) + b"==",
            base64[:place] + bytes([rng.choice(digits)]) + base64[place + 1 :],
            base64[:place] + bytes([rng.choice(b"-_=\n \\%,.")]) + base64[place + 1 :],
            base64[:place] + rng.choice((b"\n", b"=", b" ", b"\\n")) + base64[place:],
            base64.rstrip(b"=") + rng.choice((b"", b"=", b"===", b"AA", b"A=")),
            base64[:place] + base64[place:].swapcase(),
            base64.translate(bytes.maketrans(b"+/", b"-_")) + rng.choice((b"", b"\n")),
            b64encode(rng.randbytes(rng.choice((0, 32, 63, 64, 65, 66)))),
            base64[place:] + base64[:place],
        )
        yield head + rng.choice(edits) + end


def other_signatures(rng: random.Random, _good: Messages) -> Iterator[bytes]:
    """The right key over other bytes or types, other keys over the right ones, and twisted scalars."""
    while True:
        yield with_signature(odd_signature(rng))


def odd_signature(rng: random.Random) -> bytes:
    """Return 64 bytes that no honest signer made over the plain update as what it is."""
    some, stranger = rng.randbytes(rng.choice((1, 8, 32))), KEYS[rng.choice(("beta", "gamma"))]
    match rng.randrange(8):
        case 0:
            return ALPHA.sign(BODY + some).signature
        case 1:
            return ALPHA.sign(pae(KIND + some, BODY)).signature
        case 2:
            return ALPHA.sign(pae(KIND, some + BODY)).signature
        case 3:
            return stranger.sign(pae(KIND, BODY)).signature[:32] + RIGHT[32:]
        case 4:
            return RIGHT[:32] + stranger.sign(pae(KIND, BODY + some)).signature[32:]
        case 5:
            scalar = int.from_bytes(RIGHT[32:], "little") + rng.randrange(1, 15) * ED25519_ORDER
            return RIGHT[:32] + scalar.to_bytes(32, "little")
        case 6:
            return some.ljust(32, b"\0") + RIGHT[32:]
        case _:
            return hmac.digest(some, pae(KIND, BODY), "sha512")


def other_types(rng: random.Random, _good: Messages) -> Iterator[bytes]:
    """Whole messages of other types, well sealed by the trusted key, and files under their HMAC."""
    names = (
        "health",
        "keyring",
        "beacon",
        "dry-run",
        "status",
        "marks",
        "lkg",
        "convergence",
        "",
        "config-updates",
    )
    while True:
        number = rng.randrange(1, 1 << 53)
        body = rng.choice((update(sequence=number), canonical({**HEALTH, "sequence": number})))
        key = rng.choice((bytes(ALPHA), bytes(ALPHA.verify_key), rng.randbytes(32)))
        match rng.randrange(4):  # signing takes long: only what is yielded is signed
            case 0 | 1:
                yield sealed(body, as_type=rng.choice(names))
            case 2:
                yield sealed(body, by=rng.choice(("beta", "gamma")))
            case _:
                yield seal_hmac(body, rng.choice((*names, "config-update")), key)


def lists(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """A beacon's list with numbers, digests or services changed, added, removed or moved; the old tail behind it."""
    while True:
        raw = rng.choice([raw for raw in good if b'"services":{}' not in raw or b'"shards":{' in raw])
        members: dict[str, Any] = json.loads(raw)
        del members["signature"]
        of = rng.choice([name for name in ("services", "shards", "audit") if members.get(name)])
        listed = members[of]
        name, other = rng.choice(list(listed)), rng.choice(list(listed))
        match rng.randrange(6):
            case 0:
                del listed[name]
            case 1:
                listed[rng.choice(("tts-worker", "ff", name[:-1]))] = listed[name]
            case 2:
                listed[name], listed[other] = listed[other], listed[name]
            case 3 if of != "shards":
                listed[name] = [max(0, listed[name][0] + rng.choice((-1000, -1, 1, 1000))), listed[name][1]]
            case 4:
                members[of] = rng.choice(({}, None))
            case _:
                digest = rng.randbytes(32).hex()
                listed[name] = digest if of == "shards" else [listed[name][0], digest]
        if rng.random() < 0.3:
            members["sequence"] += rng.choice((1, 1000))
        yield canonical(members)[:-1] + raw[-TAIL_BYTES:]


def no_beacons(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """Messages of other types on the beacon's topic, beacons under other types, keys and MACs, and spliced ones."""
    names = ("config-update", "health", "keyring", "beacons", "", "dry-run", "status", "marks", "lkg")
    while True:
        number = rng.randrange(1, 1 << 53)
        body = rng.choice((beacon(sequence=number), shard(sequence=number)))
        key = rng.choice((bytes(ALPHA), bytes(ALPHA.verify_key), rng.randbytes(32)))
        match rng.randrange(6):  # signing takes long: only what is yielded is signed
            case 0:
                yield _no_beacon(rng, number, body)
            case 1:
                yield rng.choice(good)[:-TAIL_BYTES] + _no_beacon(rng, number, body)[-TAIL_BYTES:]
            case 2:
                yield _no_beacon(rng, number, body)[:-TAIL_BYTES] + rng.choice(good)[-TAIL_BYTES:]
            case 3:
                yield lit(body, as_type=rng.choice(names))
            case 4:
                yield lit(body, by=rng.choice(("beta", "gamma")))
            case _:
                yield seal_hmac(body, rng.choice((*names, "beacon")), key)


def no_statuses(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """Statuses by the keys of others and under other types and MACs, messages of other types by the worker's key."""
    names = (
        "config-update",
        "health",
        "keyring",
        "beacon",
        "convergence",
        "statuses",
        "",
        "dry-run",
        "marks",
    )
    while True:
        number = rng.randrange(1, 1 << 53)
        body = rng.choice((status(n=number), status(boot=number, last_attempt=REJECTED)))
        key = rng.choice((bytes(KEYS["beta"]), bytes(KEYS["beta"].verify_key), rng.randbytes(32)))
        match rng.randrange(6):  # signing takes long: only what is yielded is signed
            case 0:
                yield sealed(
                    rng.choice((update(sequence=number), body)), by="beta", as_type=rng.choice(names)
                )
            case 1:
                yield rng.choice(good)[:-TAIL_BYTES] + told(body)[-TAIL_BYTES:]
            case 2:
                yield told(body)[:-TAIL_BYTES] + rng.choice(good)[-TAIL_BYTES:]
            case 3:
                yield rng.choice((*GOOD, *BEACONS))
            case 4:
                yield told(body, by=rng.choice(("alpha", "gamma")))
            case _:
                yield seal_hmac(body, rng.choice((*names, "status")), key)


def _no_beacon(rng: random.Random, number: int, body: bytes) -> bytes:
    match rng.randrange(3):
        case 0:
            return rng.choice(GOOD)
        case 1:
            return sealed(update(sequence=number))
        case _:
            return sealed(body)


def beacon_as_config(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """Whole beacons and shards on a config topic."""
    while True:
        number = rng.randrange(1, 1 << 53)
        made = rng.choice((beacon, shard, None))
        yield lit(made(sequence=number)) if made else rng.choice(BEACONS)
