"""Tell a finding to a person: which field, what was received, what is expected, how to mend it.

Laws:
- one wording for every source of definitions, made from the field and never from a library's text;
- the value of a secret is never shown, nor that of an unknown key, which may be a misspelt secret,
  nor the user and password inside a URL;
- every suggestion names something that a person can do now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from config_daemon.catalog.definition import MISSING, Field, env_name
from config_daemon.catalog.shape import (
    BAD_PATTERN,
    MISSING_FIELD,
    NOT_ALLOWED_VALUE,
    OUT_OF_RANGE,
    UNKNOWN_KEY,
    WRONG_TYPE,
    Finding,
    Path,
    Shape,
)
from config_daemon.catalog.sound import TOO_LARGE
from config_daemon.errors import SHOWN_VALUE_CHARACTERS, ErrorContext

MASK: Final = "********"
_CATEGORIES: Final = {MISSING_FIELD: "missing_field", WRONG_TYPE: "type_error"}
_NAMED_CHOICES: Final = 12
_TYPE_WORDS: Final = {
    "string": "text",
    "path": "a path, as text",
    "secret": "a secret, as text",
    "integer": "a whole number",
    "float": "a number",
    "boolean": "true or false",
    "list": "a list",
    "object": "an object",
}
_SPELLINGS: Final = {
    "string": "Write it as text, in quotes in JSON.",
    "path": "Write it as text, in quotes in JSON.",
    "secret": "Write it as text, in quotes in JSON.",
    "enum": "Write one of the choices as text, in quotes in JSON.",
    "integer": "Write digits only, without quotes or a decimal point, for example 300.",
    "float": "Write a number without quotes, for example 0.5.",
    "boolean": "Write true or false, without quotes.",
    "list": 'Write a JSON list, for example ["a", "b"].',
    "object": 'Write a JSON object, for example {"name": "value"}.',
}


def tell(finding: Finding, service: str, shape: Shape, values: Mapping[str, Any]) -> ErrorContext:
    """Return a finding about a service's `values` as the error that a person reads."""
    key, field, rest = locate(finding.path, shape)
    value = _value_at(finding.path, values)
    name = _name(key, rest)
    expected = finding.expected or (expectation(field) if field and not rest else "")
    code = finding.code
    if code == TOO_LARGE and field is not None and field.type in {"integer", "float"}:
        code = OUT_OF_RANGE
    return ErrorContext(
        error_type=_CATEGORIES.get(code, "invalid_config"),
        error_code=code,
        failed_field=key if field else name,
        received_value=_received(code, field, key, value, shape),
        expected_type=expected,
        message=_message(code, finding, service, name, expected, value),
        suggestion=finding.suggestion or _suggestion(code, service, name, field, expected, shape, value),
    )


def locate(path: Path, shape: Shape) -> tuple[str, Field | None, Path]:
    """Return the key of the innermost known field or section on a path, its field, and what is left."""
    key = ""
    for index, part in enumerate(path):
        inner = f"{key}.{part}" if key else str(part)
        if not isinstance(part, str) or (inner not in shape.fields and inner not in shape.sections):
            return key, shape.fields.get(key), path[index:]
        key = inner
    return key, shape.fields.get(key), ()


def expectation(field: Field) -> str:
    """Return what a field takes, in words, such as `a number from 0.0 to 1.0, or null`."""
    choices = "one of: " + ", ".join(field.allowed)
    words = choices if field.allowed else _TYPE_WORDS[field.type] + _limits(field)
    if field.pattern:
        words += f" matching {field.pattern}"
    return words + (", or null" if field.nullable else "")


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the one of `words` that was probably meant by `word`."""
    import difflib

    found = difflib.get_close_matches(word[:100], words, n=1, cutoff=0.6)
    return found[0] if found else None


def unknown_key(key: str, shape: Shape) -> str:
    """Return what to do about a key that a service does not have."""
    meant = nearest(key, (*shape.fields, *shape.sections))
    if meant:
        return f"Did you mean {meant}?"
    parent = key.rpartition(".")[0]
    here = [known for known in shape.fields if known.rpartition(".")[0] == parent] or list(shape.fields)
    more = ", …" if len(here) > _NAMED_CHOICES else "."
    return f"Remove it; the keys are {', '.join(here[:_NAMED_CHOICES])}{more}"


def shown(value: Any) -> str:
    """Return a value as a short text that is safe to print; objects and lists by their size only."""
    if isinstance(value, str):
        text = printable(_without_credentials(value)[:SHOWN_VALUE_CHARACTERS])
        return f'"{text}"'[:SHOWN_VALUE_CHARACTERS]
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return f"an object with {len(value)} members"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a Python {type(value).__name__}"


def _without_credentials(text: str) -> str:
    begin, end = text.find("//"), text.rfind("@")
    return f"{text[:begin]}//***{text[end:]}" if 0 <= begin < end else text


def _message(code: str, finding: Finding, service: str, name: str, expected: str, value: Any) -> str:
    if finding.message:
        return f"{name or service} {finding.message}"
    if code == MISSING_FIELD:
        return f"{name} has no value, and there is no default"
    if code == UNKNOWN_KEY:
        return f"{service} has no key {name}"
    if code == WRONG_TYPE:
        return f"{name or service} must be {expected or 'of another type'}, not {_kind(value)}"
    if code in {OUT_OF_RANGE, NOT_ALLOWED_VALUE, BAD_PATTERN} and expected:
        return f"{name or service} must be {expected}"
    return f"{name or service} is not valid"


def _suggestion(
    code: str, service: str, name: str, field: Field | None, expected: str, shape: Shape, value: Any
) -> str:
    if code == MISSING_FIELD:
        env = f", or {env_name(service, name)}=… in .env" if field else ""
        return f"Set it: config-daemon set {service} {name}=…{env}."
    if code == UNKNOWN_KEY:
        return unknown_key(name, shape)
    if code == WRONG_TYPE and field and name == field.key:
        if value is None and not field.required:
            return f"To return to the default: config-daemon unset {service} {name}."
        return _SPELLINGS[field.type]
    if code == NOT_ALLOWED_VALUE and field and isinstance(value, str):
        meant = nearest(value, field.allowed)
        if meant:
            return f"Did you mean {meant}? The choices are: {', '.join(field.allowed)}."
    if code == OUT_OF_RANGE and field and (near := _nearest_limit(field, value)) is not None:
        return f"The nearest that it takes is {near}."
    if expected:
        return f"Give {expected}."
    return f"Compare with what runs now: config-daemon get {service} --source."


def _nearest_limit(field: Field, value: Any) -> int | float | None:
    if not isinstance(value, int | float):
        return None
    if field.maximum is not None and value > field.maximum:
        return field.maximum
    return field.minimum if field.minimum is not None and value < field.minimum else None


def _received(code: str, field: Field | None, key: str, value: Any, shape: Shape) -> str:
    if value is MISSING or code == MISSING_FIELD:
        return ""
    if code == UNKNOWN_KEY or (field is None and key not in shape.sections):
        return MASK
    if holds_secret(key, shape) and not isinstance(value, Mapping):
        return MASK
    return shown(value)


def holds_secret(key: str, shape: Shape) -> bool:
    """Tell whether a key is a secret, or a section with one in it."""
    if key in shape.fields and shape.fields[key].is_secret:
        return True
    section = shape.sections.get(key)
    return section is not None and any(leaf.is_secret for leaf in section.leaves())


def _name(key: str, rest: Path) -> str:
    name = key
    for part in rest:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return printable(name)[:200]


def printable(text: str) -> str:
    """Return text in JSON's spelling without the quotes, so that no key can break a line or a log."""
    return json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "backslashreplace").decode()


def _value_at(path: Path, values: Any) -> Any:
    for part in path:
        known = part in values if isinstance(values, Mapping) else _is_index(part, values)
        if not known:
            return MISSING
        values = values[part]
    return values


def _is_index(part: str | int, values: Any) -> bool:
    return isinstance(values, list) and isinstance(part, int) and part < len(values)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    for kind, words in ((str, "text"), (int, "a whole number"), (float, "a number"), (list, "a list")):
        if isinstance(value, kind):
            return words
    return "an object" if isinstance(value, Mapping) else f"a Python {type(value).__name__}"


def _limits(field: Field) -> str:
    if field.minimum is not None and field.maximum is not None:
        return f" from {field.minimum} to {field.maximum}"
    if field.minimum is not None:
        return f" of at least {field.minimum}"
    return f" of at most {field.maximum}" if field.maximum is not None else ""
