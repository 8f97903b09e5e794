"""Inputs of up to 1 MiB of whatever takes a parser longest: made by code, since nobody wants them in a repository."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

from config_daemon.store.dotenv import MAX_BYTES as ENV_BYTES
from tools.fuzz.bodies import mark, places, written

Shape = Callable[[int], bytes]
_S = b"5a" * 32


def _filled(opening: bytes, piece: bytes, closing: bytes, size: int) -> bytes:
    """Return a piece between two others as often as it fits."""
    return opening + piece * max(1, (size - len(opening) - len(closing)) // len(piece)) + closing


def _of(opening: bytes, piece: bytes, closing: bytes) -> Shape:
    return lambda size: _filled(opening, piece, closing, size)


def _list(piece: bytes) -> Shape:
    return lambda size: _filled(b"[", piece + b",", piece + b"]", size)


def _object(member: bytes) -> Shape:
    """Return an object of members whose names count up."""
    return lambda size: (
        b"{" + b",".join(member % number for number in range(max(1, size // (len(member) + 5)))) + b"}"
    )


# each is a value to be put into a body, whether or not it is JSON
VALUES: dict[str, Shape] = {
    "[ open": lambda size: b"[" * size,
    "{ open": _of(b"", b'{"a":', b""),
    "digits": lambda size: b"1" * size,
    "fraction": lambda size: b"0." + b"1" * size,
    "exponent": lambda size: b"1e" + b"1" * size,
    "white space": lambda size: b" " * size + b"0",
    "text": lambda size: b'"' + b"a" * size + b'"',
    "text open": lambda size: b'"' + b"a" * size,
    "text of quotes": _of(b'"', b'\\"', b'"'),
    "text of \\n": _of(b'"', b"\\n", b'"'),
    "text of \\u": _of(b'"', b"\\u00fc", b'"'),
    "text of pairs": _of(b'"', b"\\ud83c\\udf99", b'"'),
    "text of halves": _of(b'"', b"\\ud83c", b'"'),
    "text of ü": _of(b'"', "ü".encode(), b'"'),
    "[] many": _list(b"[]"),
    "{} many": _list(b"{}"),
    "[[]] many": _list(b"[[]]"),
    "[[[[ many": _list(b"[" * 20 + b"]" * 20),
    "{{{{ many": _list(b'{"a":' * 20 + b"0" + b"}" * 20),
    "{a:0} many": _list(b'{"a":0}'),
    "integers": _list(b"1"),
    "long integers": _list(b"1" * 4300),
    "floats": _list(b"1.5"),
    "large floats": _list(b"1e300"),
    "texts": _list(b'""'),
    "texts of one \\u": _list(b'"\\u00fc"'),
    "nulls": _list(b"null"),
    "pairs": _list(b'[1,"%s"]' % _S),
    "keys": _object(b'"%d":0'),
    "keys of lists": _object(b'"k%d":[]'),
    "keys of pairs": _object(b'"k%d":[1,"' + _S + b'"]'),
    "keys of digests": _object(b'"k%d":"' + _S + b'"'),
    "keys with \\u": _object(b'"\\u00fc%d":0'),
    "one key often": _of(b'{"a":0', b',"a":0', b"}"),
}

# whole `.env` files
ENV: dict[str, Shape] = {
    "empty lines": lambda size: b"\n" * size,
    "blanks": lambda size: b" " * size,
    "lines of blanks": _of(b"", b" " * 60 + b"\n", b""),
    "names": lambda size: b"\n".join(b"A%d=1" % number for number in range(size // 8)),
    "comments": _of(b"", b"# a\n", b""),
    "no assignments": _of(b"", b"-\n", b""),
    "one name often": _of(b"", b"A=1\n", b""),
    "exports": _of(b"", b"export ", b"A=1"),
    "a long name": lambda size: b"A" * size + b"=1",
    "a long value": lambda size: b"A=" + b"x" * size,
    "a value of =": lambda size: b"A" + b"=" * size,
    "blanks in a value": lambda size: b"A=x" + b" " * size + b"y",
    "blanks behind a key of two lines": lambda size: b"'x\nA='=y" + b" " * size + b"z",
    "runs of blanks": _of(b"A=", b"x" + b" " * 255, b""),
    "short runs of blanks": _of(b"A=", b"x" + b" " * 30, b""),
    "tabs and blanks": _of(b"A=", b"x" + b" \t" * 60, b"#"),
    "# many": _of(b"A=", b" #", b""),
    "escapes": _of(b'A="', b"\\n", b'"'),
    "escaped quotes": _of(b"A='", b"\\'", b"'"),
    "backslashes": lambda size: b'A="' + b"\\" * size,
    "a value of lines": _of(b'A="', b"a\n", b'"'),
    "a quote open": lambda size: b'A="' + b"x" * size,
    "quotes open": _of(b"", b'A="\n', b""),
    "quotes of both kinds open": _of(b"", b"A='\nB=\"\n", b""),
    "quoted keys open": _of(b"", b"'\n", b""),
    "text after quotes": _of(b"", b"A='x' y\n", b""),
    "NUL": lambda size: b"\0" * size,
    "NUL lines": _of(b"", b"\0\n", b""),
    "CR": lambda size: b"\r" * size,
    "byte order marks": _of(b"", b"\xef\xbb\xbf", b"A=1"),
    "ideographic blanks": _of(b"A=x", "\u3000".encode(), b"y"),
    "no UTF-8 at the end": lambda size: b"A=" + b"x" * size + b"\xff",
}


def large_body(rng: random.Random, good: Sequence[bytes], most: int, turn: int) -> tuple[str, bytes]:
    """Return a shape's name, and a body with it in a place where some value was; turns go through all shapes."""
    name, shape = _turn(VALUES, turn)
    body = rng.choice(good)
    members = json.loads(body)
    holder, key = rng.choice(places(members))
    mark(holder, key)
    return name, written(members, [shape(max(1, _size(rng, most) - len(body)))])


def large_file(rng: random.Random, _good: Sequence[bytes], most: int, turn: int) -> tuple[str, bytes]:
    """Return a shape's name, and a large `.env` file of it: often as large as one may be."""
    name, shape = _turn(ENV, turn)
    return name, shape(rng.choice((_size(rng, most), ENV_BYTES - 20)))


def _turn(shapes: dict[str, Shape], turn: int) -> tuple[str, Shape]:
    return list(shapes.items())[turn % len(shapes)]


def _size(rng: random.Random, most: int) -> int:
    return most if rng.random() < 0.75 else int(4096 * (most / 4096) ** rng.random())
