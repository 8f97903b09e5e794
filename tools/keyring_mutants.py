"""Ways to tamper with sealed keyrings, beside those that `wire_mutants.py` has for every message.

Laws: as there; a mutant never carries a signature that the one root made over it as a keyring.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from config_daemon.wire.mac import seal_hmac
from config_daemon.wire.sealing import canonical
from config_daemon.wire.tail import TAIL_BYTES
from tools.keyring_messages import BOTH, CONFIG, ROOT, gone, listed, ring, signed
from tools.wire_messages import KEYS, sealed, update
from tools.wire_mutants import ALPHA, BEACONS, GOOD, Messages

KEYRINGS = [
    signed(),
    signed(ring(7, keys=[listed("beta", *BOTH), listed("delta", *ROOT)])),
    signed(ring(8, generation=2, keys=[listed("beta", *BOTH)], revoked=[gone("alpha"), gone("gamma")])),
    signed(ring(2000, revoked=[gone("gamma", reason="Grüße 🎙")], future=[1, "x"])),
]


def key_lists(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """Keys, roles and revocations added, removed, exchanged or moved; numbers raised; the old tail behind it."""
    while True:
        raw = rng.choice(good)
        members: dict[str, Any] = json.loads(raw)
        del members["signature"]
        keys, revoked = members["keys"], members["revoked"]
        match rng.randrange(7):
            case 0:
                keys.append(listed(rng.choice(("gamma", "epsilon")), *rng.choice((BOTH, ROOT, CONFIG))))
            case 1:
                keys[rng.randrange(len(keys))] = listed("gamma", *BOTH)
            case 2:
                rng.choice(keys)["roles"] = rng.choice(([], ["root"], ["config", "root"], ["config", "x"]))
            case 3:
                members["revoked"] = revoked[:-1] if revoked else [gone("beta")]
            case 4:
                revoked.append(gone(rng.choice(("beta", "delta", "epsilon"))))
            case 5:
                keys.insert(0, keys.pop())
                members["number"] += 1
            case _:
                members[rng.choice(("number", "generation"))] += rng.choice((1, 1000))
        yield canonical(members)[:-1] + raw[-TAIL_BYTES:]


def no_keyrings(rng: random.Random, good: Messages) -> Iterator[bytes]:
    """Messages of other types by the root, keyrings under other types, keys and MACs, and spliced ones."""
    names = ("config-update", "health", "beacon", "keyrings", "", "dry-run", "status", "marks", "lkg")
    while True:
        number = rng.randrange(1, 1 << 53)
        body = rng.choice((ring(number), ring(number, generation=2, keys=[listed("gamma", *BOTH)])))
        key = rng.choice((bytes(ALPHA), bytes(ALPHA.verify_key), rng.randbytes(32)))
        match rng.randrange(6):  # signing takes long: only what is yielded is signed
            case 0:
                yield _no_keyring(rng, number, body)
            case 1:
                yield rng.choice(good)[:-TAIL_BYTES] + _no_keyring(rng, number, body)[-TAIL_BYTES:]
            case 2:
                yield _no_keyring(rng, number, body)[:-TAIL_BYTES] + rng.choice(good)[-TAIL_BYTES:]
            case 3:
                yield signed(body, as_type=rng.choice(names))
            case 4:
                yield signed(body, by=rng.choice([name for name in KEYS if name != "alpha"]))
            case _:
                yield seal_hmac(body, rng.choice((*names, "keyring")), key)


def _no_keyring(rng: random.Random, number: int, body: bytes) -> bytes:
    match rng.randrange(4):
        case 0:
            return rng.choice(GOOD)
        case 1:
            return rng.choice(BEACONS)
        case 2:
            return sealed(update(sequence=number))
        case _:
            return sealed(body)


def keyring_as_other(rng: random.Random, _good: Messages) -> Iterator[bytes]:
    """Whole keyrings by the root, which also signs configs and beacons, on topics of these."""
    while True:
        yield signed(ring(rng.randrange(1, 1 << 53))) if rng.randrange(2) else rng.choice(KEYRINGS)
