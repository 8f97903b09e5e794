"""Write values as YAML that every parser of YAML 1.1 or 1.2 reads back exactly.

Laws: a scalar or list is written as JSON, which YAML contains, with everything invisible as an escape;
a name is written plain, and a number without a point, only where no parser can take it for something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

INDENT = "  "
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


def lines_of(values: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield the lines of an object; nested objects are indented, empty ones are written `{}`."""
    for name, value in values.items():
        head = f"{INDENT * depth}{name_of(name)}:"
        if isinstance(value, Mapping) and value:
            yield head
            yield from lines_of(value, depth + 1)
        else:
            yield f"{head} {flow(value)}"


def name_of(name: str) -> str:
    """Return a member's name as YAML."""
    plain = _PLAIN.fullmatch(name) and name.lower() not in _WORDS
    return name if plain else flow(name)


def flow(value: Any) -> str:
    """Return any value in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(name)}: {flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, float) and "." not in text:
        return text.replace("e", ".0e")  # YAML 1.1 takes 1e-05 for text
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
