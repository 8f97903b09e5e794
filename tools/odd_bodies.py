"""Bodies that are almost right, on which readers in two languages must agree."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tools.beacon_vectors import CAMERA, beacon, shard
from tools.wire_messages import update

TOKENS = [
    *(chr(byte) for byte in b'"{}[],:\\ \n\t0159-+.eEtfn/x\x00\x1f\x7f'),
    *("\udcff", "\udcc3"),  # lone bytes: no UTF-8
    *("ü", "🎙", "\\u0000", "\\u0061", "\\ud83c", "\\ud83c\\udf99", "\\/", "\ufeff", "\u2028"),
    *("true", "null", "NaN", "Infinity", "1e400", "1.0", "-0", "1E2", "[]", "{}", '""', "[[1]]"),
    *(
        ',"version":1',
        ',"version":2',
        ',"deleted":true',
        ',"until":null',
        ',"a":{"b":[1,2.5]}',
        ',"config":{}',
    ),
]
BEACON_TOKENS = [
    *TOKENS,
    *(',"shards":{}', ',"shard":null', ',"audit":{"history":null}', '"a":[1,"b"],', f'"a":[0,"{CAMERA}"],'),
]
ODD_UPDATES = [update(), update(b"{}"), update(b'{"a":[1,2.50,"\\u00fc"],"b":{"c":null}}', deleted=None)]
ODD_BEACONS = [beacon(), beacon(shards={"00": CAMERA}, audit={"history": [3, CAMERA]}), shard()]


def odd_bodies(rng: random.Random, plain: list[bytes], tokens: list[str]) -> Iterator[bytes]:
    """Yield bodies that a careless writer with the right key could sign, without end."""
    while True:
        body = rng.choice(plain)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            start = rng.randrange(1, len(body) - 1)
            token = rng.choice(tokens).encode(errors="surrogateescape")
            end = rng.choice((start, start, start + 1, start + len(token)))
            body = body[:start] + token + body[min(end, len(body) - 1) :]
        yield body
