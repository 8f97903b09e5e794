"""Turn the text of a `.env` line or a command line into a value of a field's type.

Laws:
- text is taken literally for strings; everything else is strict JSON, booleans also as yes/no, on/off
  and 1/0, lists also separated by commas; empty text is an empty list and never a number;
- below an object whose members are free there is no type to go by: JSON where it is JSON, else text.

Source: conventions, "the command line" (`KEY=VALUE`); seed 002 "Parsing Features".
"""

from __future__ import annotations

from typing import Any, Final

from config_daemon.catalog.complaints import MASK, expectation, holds_secret, shown, unknown_key
from config_daemon.catalog.definition import SEGMENT, Field
from config_daemon.catalog.shape import UNKNOWN_KEY, WRONG_TYPE, Shape
from config_daemon.errors import ErrorContext, InvalidConfig
from config_daemon.wire.values import BadJson, parse

_LITERAL: Final = frozenset({"string", "path", "secret"})
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_REMEDIES: Final = {
    "integer": "Write a whole number, for example 300.",
    "float": "Write a number, for example 0.5.",
    "boolean": "Write true or false (or yes/no, on/off, 1/0).",
    "list": 'Write items separated by commas, or a JSON list such as ["a", "b"].',
    "object": 'Write a JSON object, for example {"name": true}.',
}


def coerce(text: str, key: str, service: str, shape: Shape) -> Any:
    """Return the value that `text` means for a service's `key`.

    Raises: InvalidConfig, with one context.
    """
    field = shape.fields.get(key)
    if field is not None:
        return _of_field(text, field, shape)
    if key in shape.sections:
        return _of_type(text, "object", key, shape)
    if _is_free(key, shape):
        try:
            return parse(text)
        except BadJson:
            return text
    raise InvalidConfig(
        f"{service} has no key {key[:200]}",
        contexts=[
            ErrorContext(
                "invalid_config",
                UNKNOWN_KEY,
                f"{service} has no key {key[:200]}",
                unknown_key(key, shape),
                failed_field=key[:200],
            )
        ],
    )


def _of_field(text: str, field: Field, shape: Shape) -> Any:
    if field.type in _LITERAL:
        return text
    if field.nullable and text.strip() == "null" and "null" not in field.allowed:
        return None
    if field.type == "enum":
        return text
    if field.type == "list" and not text.lstrip().startswith("["):
        items = [item.strip() for item in text.split(",")] if text.strip() else []
        kind = shape.items.get(field.key)
        return [_of_type(item, kind, field.key, shape) for item in items] if kind else items
    return _of_type(text, field.type, field.key, shape)


def _of_type(text: str, kind: str, key: str, shape: Shape) -> Any:
    if kind == "boolean":
        word = text.strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise _refusal(text, key, shape, "")
    try:
        value = parse(text.strip())
    except BadJson as error:
        raise _refusal(text, key, shape, f": {error}") from error
    if not _fits(value, kind):
        raise _refusal(text, key, shape, "")
    return value


def _fits(value: Any, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, list if kind == "list" else dict)


def _is_free(key: str, shape: Shape) -> bool:
    """Tell whether a key that is no field may be set: below an open section or a free object."""
    parts = key.split(".")
    if not all(SEGMENT.fullmatch(part) for part in parts):
        return False
    for count in range(len(parts) - 1, 0, -1):
        above = ".".join(parts[:count])
        if above in shape.sections:
            return shape.sections[above].is_open
        if above in shape.fields:
            return shape.fields[above].type == "object"
    return shape.root.is_open


def _refusal(text: str, key: str, shape: Shape, why: str) -> InvalidConfig:
    field = shape.fields.get(key)
    expected = expectation(field) if field else "an object"
    message = f"{key} must be {expected}{why[:200]}"
    context = ErrorContext(
        "type_error",
        WRONG_TYPE,
        message,
        _REMEDIES[field.type if field else "object"],
        failed_field=key,
        received_value=MASK if holds_secret(key, shape) else shown(text),
        expected_type=expected,
    )
    return InvalidConfig(message, contexts=[context])
