"""Read one property's keywords and marks (`x-…`) as a field.

Laws:
- a property has one type, null aside, and a mark is spelt right or refused: a mark that is passed
  over in silence would be a secret published or a name in `.env` ignored;
- a secret has no default but null: schemas are read by everybody.

Source: JSON Schema Validation 2020-12; seed 004 ConfigFieldMetadata.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from config_daemon.catalog.definition import MISSING, Field, is_service_name
from config_daemon.catalog.shape import SchemaError

COMPLEXITIES: Final = ("simple", "advanced")
_TYPES: Final = {
    "string": "string",
    "integer": "integer",
    "number": "float",
    "boolean": "boolean",
    "array": "list",
    "object": "object",
}
_ALIAS: Final = re.compile(r"[A-Z][A-Z0-9_]{0,127}")
_OF_THE_DAEMON: Final = re.compile(
    r"(CONFIG|LKG|LITESTREAM)_.*|MQTT_URL|ALLOW_AUTO_REBUILD|REBUILD_TOKEN|ENVIRONMENT"
)


def field_of(key: str, keywords: Mapping[str, Any], *, nullable: bool, required: bool) -> Field:
    """Return the field that a property's keywords (references followed) describe.

    Raises: SchemaError.
    """
    kind = type_of(keywords, key)
    secret = is_secret(keywords, key)
    if secret and kind not in {"string", "enum", "path"}:
        raise SchemaError(f"a secret must be a string, not {kind}", "Mark a string property.", key)
    default = keywords.get("default", MISSING)
    if secret and default not in (MISSING, None):
        raise SchemaError("a secret must not have a default", "Remove it: schemas are no secrets.", key)
    minimum, maximum = _bounds(kind, keywords)
    choices = (
        () if secret else tuple(_as_text(choice) for choice in choices_of(keywords) if choice is not None)
    )
    return Field(
        key=key,
        type="secret" if secret else kind,
        complexity=_complexity(keywords, key),
        description=text_of(keywords, "description", key),
        help_text=text_of(keywords, "x-help", key),
        is_secret=secret,
        required=required,
        nullable=nullable,
        default=default,
        minimum=minimum,
        maximum=maximum,
        pattern=keywords.get("pattern") if kind in {"string", "path"} else None,
        allowed=choices,
        aliases=aliases_of(keywords, key),
    )


def type_of(keywords: Mapping[str, Any], where: str) -> str:
    """Return a property's one type as a field names it.

    Raises: SchemaError, when there is none or more than one.
    """
    kind = keywords.get("type", _implied(keywords))
    if isinstance(kind, list) and set(kind) == {"integer", "number"}:
        kind = "number"
    if not isinstance(kind, str) or kind not in _TYPES:
        raise SchemaError(
            "the property has no single type"
            if kind is None
            else f"type {json.dumps(kind)} is not supported",
            'Give it one "type" (string, integer, number, boolean, array, object), perhaps with "null".',
            where,
        )
    if kind == "string" and choices_of(keywords):
        return "enum"
    if kind == "string" and keywords.get("format") == "path":
        return "path"
    return _TYPES[kind]


def choices_of(keywords: Mapping[str, Any]) -> list[Any]:
    """Return the values that `enum` or `const` allow; empty when neither is there."""
    if "const" in keywords:
        return [keywords["const"]]
    return list(keywords.get("enum", ()))


def is_secret(keywords: Mapping[str, Any], where: str) -> bool:
    """Tell whether a property is marked as a secret; `format: password` marks it too."""
    mark = keywords.get("x-secret", keywords.get("format") == "password")
    if not isinstance(mark, bool):
        raise SchemaError("x-secret must be true or false", 'Write "x-secret": true.', where)
    return mark


def aliases_of(keywords: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return the further names in `.env` that `x-env` gives.

    Raises: SchemaError, also for a name that is the daemon's own.
    """
    given = keywords.get("x-env", [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(n, str) and _ALIAS.fullmatch(n) for n in names):
        raise SchemaError(
            "x-env must be a name or a list of names in capitals",
            'Write for example "x-env": "DB_HOST".',
            where,
        )
    for name in names:
        if _OF_THE_DAEMON.fullmatch(name):
            raise SchemaError(f"{name} is a name of the daemon's own", "Choose another name in x-env.", where)
    return tuple(dict.fromkeys(names))


def dependencies_of(keywords: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the services that `x-depends-on` names.

    Raises: SchemaError.
    """
    given = keywords.get("x-depends-on", [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(is_service_name(name) for name in names):
        raise SchemaError(
            "x-depends-on must be a list of service names",
            'Write "x-depends-on": ["router"].',
            "x-depends-on",
        )
    return tuple(dict.fromkeys(names))


def text_of(keywords: Mapping[str, Any], keyword: str, where: str) -> str:
    """Return a keyword that holds text for people; empty when it is not there.

    Raises: SchemaError.
    """
    text = keywords.get(keyword, "")
    if not isinstance(text, str):
        raise SchemaError(f"{keyword} must be text", f"Put the text of {keyword} in quotes.", where)
    return text


def _complexity(keywords: Mapping[str, Any], where: str) -> str:
    complexity = keywords.get("x-complexity", COMPLEXITIES[0])
    if complexity not in COMPLEXITIES:
        raise SchemaError("x-complexity must be simple or advanced", 'Write "x-complexity": "simple".', where)
    return str(complexity)


def _implied(keywords: Mapping[str, Any]) -> str | None:
    if "properties" in keywords:
        return "object"
    if "items" in keywords or "prefixItems" in keywords:
        return "array"
    kinds = {type(choice) for choice in choices_of(keywords) if choice is not None}
    if len(kinds) == 1:
        return {str: "string", bool: "boolean", int: "integer", float: "number"}.get(kinds.pop())
    return "number" if kinds == {int, float} else None


def _bounds(kind: str, keywords: Mapping[str, Any]) -> tuple[int | float | None, int | float | None]:
    """Return the least and the greatest allowed number; exact for integers, the open bound for floats."""
    low = [keywords[k] for k in ("minimum", "exclusiveMinimum") if k in keywords]
    high = [keywords[k] for k in ("maximum", "exclusiveMaximum") if k in keywords]
    if kind == "integer":
        low = [math.ceil(keywords["minimum"])] if "minimum" in keywords else []
        high = [math.floor(keywords["maximum"])] if "maximum" in keywords else []
        if "exclusiveMinimum" in keywords:
            low.append(math.floor(keywords["exclusiveMinimum"]) + 1)
        if "exclusiveMaximum" in keywords:
            high.append(math.ceil(keywords["exclusiveMaximum"]) - 1)
    elif kind != "float":
        return None, None
    return max(low, default=None), min(high, default=None)


def _as_text(choice: Any) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice)
