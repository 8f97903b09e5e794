"""Mutants of sealed inputs: nearly all of them are refused by the seal, which must stand them all."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from tools.fuzz.bodies import TEXTS, VALUES
from tools.wire_mutants import base64_variants, bit_flips, byte_edits, splices

Raws = Sequence[bytes]
MOST = 1 << 20
_BITS = [b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b'"', b"'", b"\\", b"{", b"}", b"\r\n", b"\n\n", b'"}']


def cuts(rng: random.Random, good: Raws) -> Iterator[bytes]:
    """Only the beginning or the end of an input, down to nothing at all."""
    while True:
        raw = rng.choice(good)
        at = rng.choice((rng.randrange(len(raw) + 1), rng.randrange(min(len(raw), 8))))
        yield rng.choice((raw[:at], raw[at:], raw[: len(raw) - at]))


def chunks(rng: random.Random, good: Raws) -> Iterator[bytes]:
    """A piece of an input several times, moved, or reversed."""
    while True:
        raw = rng.choice(good)
        a, b = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
        piece = raw[a:b]
        yield rng.choice((raw[:b] + piece * rng.choice((1, 2, 30)) + raw[b:], piece + raw, raw[:a] + raw[b:] + piece,
                          raw[:a] + piece[::-1] + raw[b:]))  # fmt: skip


def insertions(rng: random.Random, good: Raws) -> Iterator[bytes]:
    """Bytes that mean something to some parser, put anywhere."""
    while True:
        raw = rng.choice(good)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(raw) + 1)
            some = rng.choice((rng.choice(_BITS), rng.choice(TEXTS), rng.choice(VALUES)))
            raw = raw[:at] + some + raw[at + rng.choice((0, len(some))) :]
        yield raw


def noise(rng: random.Random, _good: Raws) -> Iterator[bytes]:
    """Bytes that nobody meant."""
    while True:
        yield rng.randbytes(rng.choice((0, 1, 2, 59, 60, 61, 103, 104, 105, 1000)))


CLASSES: dict[str, Callable[[random.Random, Raws], Iterator[bytes]]] = {
    "bit flips": bit_flips,
    "byte edits": byte_edits,
    "splices": splices,
    "base64": base64_variants,
    "cuts": cuts,
    "chunks": chunks,
    "insertions": insertions,
    "noise": noise,
}
