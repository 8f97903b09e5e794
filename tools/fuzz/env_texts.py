"""Mutants of `.env` files: there is no seal, so all of them reach the parser."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from tools.fuzz.bodies import TEXTS

Texts = Sequence[bytes]
_PIECES = [
    *(
        b"'",
        b'"',
        b"\\",
        b'\\"',
        b"\\'",
        b"\\\\",
        b"=",
        b"#",
        b" #",
        b" ",
        b"\t",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
    ),
    *(
        b"export ",
        b"export",
        b"A=",
        b"B='",
        b'C="',
        b"$",
        b"${A}",
        b"`",
        b";",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xff\xfe",
    ),
    *(
        b"\x0b",
        b"\x0c",
        b"\x1c",
        b"\x85",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\xc2\xa0",
        b"\xe3\x80\x80",
        b"\xed\xa0\x80",
    ),
    *(
        b" " * 256,
        b" " * 257,
        b"'x\nA='=y",
        b"\\x",
        b"\\u0041",
        b"\\N",
        b"\\777",
        b"-----BEGIN PRIVATE KEY-----\n",
    ),
]


def pieces(rng: random.Random, good: Texts) -> Iterator[bytes]:
    """Pieces that mean something to the tokeniser, put anywhere."""
    while True:
        text = rng.choice(good)
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            at = rng.randrange(len(text) + 1)
            piece = rng.choice(TEXTS) if rng.random() < 0.1 else rng.choice(_PIECES)
            text = text[:at] + piece + text[at + rng.choice((0, 0, 1, len(piece))) :]
        yield text


def soups(rng: random.Random, _good: Texts) -> Iterator[bytes]:
    """Nothing but such pieces."""
    while True:
        few = rng.choices(_PIECES, k=rng.choice((2, 4, 6)))
        yield b"".join(rng.choices(few, k=rng.choice((3, 10, 40))))


def lines(rng: random.Random, good: Texts) -> Iterator[bytes]:
    """Whole lines moved, doubled, joined, quoted, exported, made long, or with other ends."""
    while True:
        split = rng.choice(good).split(b"\n")
        for _ in range(rng.choice((1, 2, 4))):
            at, other = rng.randrange(len(split)), rng.randrange(len(split))
            line = split[at]
            name, _, value = line.partition(b"=")
            changed = (
                split[other], b"export " + line, b"export\t " + line, b" " + line, line + b"\r", line + line,
                name + b" = " + value, name + b"='" + value + b"'", name + b'="' + value, name + b'="' + value + b'"',
                name, b"'" + name + b"'=" + value, name.lower() + b"=" + value, b"#" + line, line + b" # note",
                line + b"x" * 5000, name + b"=" + value[::-1], line[: len(line) // 2],
            )  # fmt: skip
            if rng.random() < 0.5:
                split[at] = rng.choice(changed)
            else:
                split.insert(other, rng.choice(changed))
        yield rng.choice((b"\n", b"\n", b"\r\n", b"\r")).join(split)


CLASSES: dict[str, Callable[[random.Random, Texts], Iterator[bytes]]] = {
    "pieces": pieces,
    "soups": soups,
    "lines": lines,
}
