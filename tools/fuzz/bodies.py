"""Mutants of JSON objects, made before anything is sealed: what a careless holder of the right key could sign.

Laws: all randomness comes from the generator that is given; what comes out begins with `{` and ends with `}`,
since every reader cuts the seal by position and refuses anything else before it parses.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tools.odd_bodies import BEACON_TOKENS, odd_bodies
from tools.wire_mutants import byte_edits

Bodies = Sequence[bytes]
Place = tuple[Any, Any]  # a container of the parsed body, and a key or an index in it

_HERE = "\x01here\x01"  # stands for raw text until the body was written
_HERE_TEXT = json.dumps(_HERE).encode()
_SCALARS = [
    *(b"null true false 0 1 -1 -0 1.0 1e0 1E2 -1.5 1e308 1e309 -1e400 1e-400 01 +1 .5 1. 0x10 1_0".split()),
    *(str(number).encode() for near in (31, 53, 63, 64) for number in ((1 << near) - 1, 1 << near, -(1 << near))),
    *(b"9" * digits for digits in (310, 4300, 4301)),
    *(b"NaN Infinity -Infinity nan True None undefined [] {} [null] {} [[]] [1,] [,1] {,} {\"a\"} [ ] ] }".split()),
    *(b'{"a":1,"a":2}', b'{"":{"":{}}}', b'{"version":2}', b"/**/1", b"1//", b"'a'", b"", b","),
]  # fmt: skip
_TEXTS = [
    *(
        b"",
        b" ",
        b"\\u0000",
        b"\\ud800",
        b"\\udc00\\ud800",
        b"\\ud83c\\udf99",
        b"\\uD83C",
        b"\\u12",
        b"\\x41",
    ),
    *(b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x01", b"\n", b"\x7f"),
    *("\ufeff", "\u2028", "\u202e", "٣٤", "１２", "ß", "ﬀ", "e\u0301", "🎙"),
    *(b"a" * 65, b"A" * 64, b"a" * 5000, b"\\n" * 3000, b"../x", b"a/b", b"+", b"#", b"$SYS", b"__proto__"),
    *(b"2026-02-30T00:00:00.000Z", b"2026-13-01T00:00:00.000Z", b"0000-00-00T24:61:61.999Z"),
    *(b"9999-12-31T23:59:60.000Z", b"2026-03-14T09:26:53Z", b"2026-03-14T09:26:53.589+00:00"),
    *("٢٠٢٦-03-14T09:26:53.589Z",),
    *(b"00000000-0000-0000-0000-000000000000", b"3F0C1A52-6B1E-4D6F-9A55-0C2C7A1F4E11", b"0" * 64, b"g" * 64),
    *(b"01" + b"00" * 31, b"ed" + b"ff" * 30 + b"7f", b"ff" * 32, "é" * 32, "٣" * 64),
]
TEXTS = [text.encode() if isinstance(text, str) else text for text in _TEXTS]
VALUES = [*_SCALARS, *(b'"%s"' % text for text in TEXTS)]
# around where recursion ends in Python, and where nesting ends for writers
DEPTHS = (31, 32, 33, 100, 300, 480, 900, 960, 970, 980, 985, 990, 995, 1000, 5000)
_NESTS = ((b"[", b"0", b"]"), (b'{"a":', b"0", b"}"), (b'[{"a":', b"[]", b"}]"), (b"[", b"", b""))


def values(rng: random.Random, good: Bodies) -> Iterator[bytes]:
    """One to three values anywhere replaced by others, most of which no reader should want."""
    for members in _parsed(rng, good):
        raws = []
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            holder, key = rng.choice(places(members))
            raws.append(_other(rng, holder[key]))
            holder[key] = f"{_HERE}{len(raws)}"
        yield written(members, raws)


def shapes(rng: random.Random, good: Bodies) -> Iterator[bytes]:
    """Members dropped, renamed, moved, swapped, wrapped, or added."""
    for members in _parsed(rng, good):
        for _ in range(rng.choice((1, 1, 2, 4))):
            everywhere = places(members)
            if not everywhere:
                break
            holder, key = rng.choice(everywhere)
            other, other_key = rng.choice(everywhere)
            match rng.randrange(7):
                case 0:
                    del holder[key]
                case 1 if isinstance(holder, dict):
                    holder[rng.choice((key.upper(), key + "\0", "", f" {key}", "a", "ß"))] = holder.pop(key)
                case 2:
                    holder[key] = [holder[key]]
                case 3:
                    holder[key] = {"a": holder[key]}
                case 4 if not _holds(holder[key], other):
                    other[other_key] = holder[key]
                case 5:
                    holder[key] = (
                        list(holder[key]) if isinstance(holder[key], dict | str) else str(holder[key])
                    )
                case _:
                    members[rng.choice(("zone", "alg", "deleted", "then", "shard", "held"))] = rng.choice(
                        (True, 0, {})
                    )
        yield json.dumps(members, ensure_ascii=rng.random() < 0.5).encode()


def twice(rng: random.Random, good: Bodies) -> Iterator[bytes]:
    """A key a second time in one object, with another value or another spelling."""
    for members in _parsed(rng, good):
        holders = [holder for holder, _ in places(members) if isinstance(holder, dict)]
        holder = rng.choice(holders or [members])
        key = rng.choice(list(holder) or ["a"])
        name = json.dumps(key).encode()
        if key and rng.random() < 0.4:
            name = b'"\\u%04x%s' % (ord(key[0]) & 0xFFFF, name[2:])
        holder[_HERE] = 0
        yield written(members, [b"%s:%s" % (name, rng.choice(VALUES))], key=True)


def nested(rng: random.Random, good: Bodies) -> Iterator[bytes]:
    """A value that is nested as deep as parsers stand, or deeper."""
    for members in _parsed(rng, good):
        holder, key = rng.choice(places(members))
        opening, middle, closing = rng.choice(_NESTS)
        depth = rng.choice(DEPTHS) + rng.randrange(-6, 7)
        holder[key] = f"{_HERE}1"
        yield written(members, [opening * depth + middle + closing * depth])


def spellings(rng: random.Random, good: Bodies) -> Iterator[bytes]:
    """The same values written otherwise: white space, order, escapes; garbage before the end; a byte order mark."""
    for members in _parsed(rng, good):
        pairs = list(members.items())
        rng.shuffle(pairs)
        text = json.dumps(
            dict(pairs), indent=rng.choice((None, 0, 3)), ensure_ascii=rng.random() < 0.5
        ).encode()
        inner = text[1:-1]
        ends: tuple[bytes, ...] = (
            b"",
            b",",
            b"}",
            b"]",
            b"\0",
            b"}{",
            b"\xef\xbb\xbf",
            b" \r\n\t",
            b"\x0b",
            b"//",
        )
        yield b"{" + rng.choice(ends) + inner + rng.choice(ends) + b"}"


def tokens(rng: random.Random, good: Bodies) -> Iterator[bytes]:
    """Tokens of JSON put anywhere (as the two readers in two languages are compared with)."""
    return odd_bodies(rng, list(good), BEACON_TOKENS)


def edits(rng: random.Random, good: Bodies) -> Iterator[bytes]:
    """Bytes edited anywhere between the braces."""
    return (b"{" + edited[1:-1] + b"}" for edited in byte_edits(rng, good))


CLASSES: dict[str, Callable[[random.Random, Bodies], Iterator[bytes]]] = {
    "values": values,
    "shapes": shapes,
    "twice": twice,
    "nested": nested,
    "spellings": spellings,
    "tokens": tokens,
    "edits": edits,
}


def places(value: Any) -> list[Place]:
    """Return everywhere in a parsed body where a value stands."""
    found: list[Place] = []
    todo = [value]
    while todo:
        holder = todo.pop()
        keys: Any = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                todo.append(holder[key])
    return found


def written(members: dict[str, Any], raws: Sequence[bytes], *, key: bool = False) -> bytes:
    """Return a body's bytes with raw text where its place was marked; `key` when a whole member was."""
    text = json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
    if key:
        return text.replace(_HERE_TEXT + b":0", raws[0])
    for number, raw in enumerate(raws, 1):
        text = text.replace(_HERE_TEXT[:-1] + b'%d"' % number, raw)
    return text


def mark(holder: Any, place: Any) -> None:
    """Mark a place for the first of `written`'s raw texts."""
    holder[place] = f"{_HERE}1"


def _parsed(rng: random.Random, good: Bodies) -> Iterator[dict[str, Any]]:
    while True:
        yield json.loads(rng.choice(good))


def _other(rng: random.Random, value: Any) -> bytes:
    """Return raw text instead of a value: often something close to it."""
    if rng.random() < 0.5:
        return rng.choice(VALUES)
    if isinstance(value, str):
        some = rng.choice(("\n", " ", "\0", "٣", "0", "é", "Z"))
        place = rng.randrange(len(value) + 1)
        near: list[Any] = [
            value.upper(), value + some, some + value, value[:-1], value[1:], [value], {value: value},
            value[:place] + some + value[place + 1 :], value * 2, value.translate(_ARABIC),
        ]  # fmt: skip
    elif isinstance(value, int):
        near = [-value, value + 1, 0, float(value), str(value), [value], not value, value << 53, {"a": value}]
    elif isinstance(value, list):
        near = [value * 2, value[:-1], value[::-1], [value], dict(enumerate(value)), None, [*value, 0]]
    elif isinstance(value, dict):
        near = [list(value), list(value.items()), [value], {}, {"a": value}, None, json.dumps(value)]
    else:
        near = [0, "", [], {}, True, 1, "null"]
    return json.dumps(rng.choice(near), ensure_ascii=rng.random() < 0.5).encode()


_ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


def _holds(value: Any, holder: Any) -> bool:
    """Tell whether a container is inside of a value: put into itself it would have no end."""
    return value is holder or any(place is holder or place[key] is holder for place, key in _inside(value))


def _inside(value: Any) -> list[Place]:
    return places(value) if isinstance(value, dict | list) else []
