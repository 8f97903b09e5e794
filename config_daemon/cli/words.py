"""Turns of phrase that several commands share: what was meant, how many, what is wrong with JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from config_daemon.wire.values import BadJson

_NEAR = 0.7  # at difflib's 0.6 any two words that share a few letters are near
_PART_CHARACTERS = 3
_COMPARED_CHARACTERS = 100


def meant(word: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant by a word: one spelled nearly so, or one that it is a part of."""
    import difflib

    word, names = word[:_COMPARED_CHARACTERS], list(names)
    near = difflib.get_close_matches(word, names, 1, _NEAR)
    if not near and len(word) >= _PART_CHARACTERS:
        near = difflib.get_close_matches(word, [name for name in names if word in name], 1, 0.0)
    return near[0] if near else None


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun, such as `1 service` and `2 services`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def flaw(error: BadJson) -> str:
    """Return what follows `is not JSON`: where that begins, or why; never the parser's own words."""
    cause = error.__cause__
    if isinstance(cause, json.JSONDecodeError):
        if not cause.doc.strip():
            return ", because nothing is there"
        if "\n" in cause.doc.strip():
            return f" from line {cause.lineno}, column {cause.colno} on"
        return f" from character {cause.pos + 1} on"
    if type(cause) is ValueError:  # Python converts no number of more than some thousand digits
        return ": a number in it has too many digits"
    return f": {str(error)[:200]}"
