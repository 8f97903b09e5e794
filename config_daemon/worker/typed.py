"""A service's own Pydantic class as the check of step 11: values become an instance, errors become words.

Laws: values are read as JSON, so that a strict class takes a time or a choice as text; every error says which
field, what it was and what it should be; the value of a secret, or of a field that the class does not have,
is never shown.

Source: docs/protocol.md "What a worker does, step by step"; seed 001 "ValidationError".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from config_daemon.errors import ErrorContext, InvalidConfig
from config_daemon.wire.sealing import canonical
from config_daemon.worker.standing import presentable

MASK = "********"
_TYPES = {
    "missing": ("missing_field", "MISSING_FIELD"),
    "extra_forbidden": ("invalid_config", "UNKNOWN_KEY"),
    "literal_error": ("invalid_config", "NOT_ALLOWED_VALUE"),
    "enum": ("invalid_config", "NOT_ALLOWED_VALUE"),
    "string_pattern_mismatch": ("invalid_config", "BAD_PATTERN"),
}
_INPUT = "Input should be "
_BEFORE = {
    "value_error": "Value error, ",
    "assertion_error": "Assertion failed, ",
}  # what a class says itself


def validator(model: type[BaseModel], service: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return a check that makes an instance of `model` of a config's values, and raises InvalidConfig."""

    def check(values: Mapping[str, Any]) -> Any:
        try:
            return model.model_validate_json(canonical(values))
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            contexts = [_context(model, service, dict(one)) for one in found]
            raise InvalidConfig(contexts[0].message, contexts=contexts) from error

    return check


def _context(model: type[BaseModel], service: str, error: dict[str, Any]) -> ErrorContext:
    path, kind = error["loc"], error["type"]
    key, secret = ".".join(map(str, path)), _is_secret(model, path, error["input"])
    said = str(error["msg"]).removeprefix(_BEFORE.get(kind, ""))
    expected = said.removeprefix(_INPUT) if said.startswith(_INPUT) else ""
    category, code = _TYPES.get(kind) or _coarse(kind)
    shown = "" if code == "MISSING_FIELD" else _shown(error["input"])
    return ErrorContext(
        category,
        code,
        presentable(f"{key or service}: {'it does not fit' if secret else said}"),
        _suggestion(model, service, key, code, path),
        presentable(key),
        MASK if secret and shown else shown,
        "" if secret else presentable(expected),
    )


def _coarse(kind: str) -> tuple[str, str]:
    if kind.endswith(("_type", "_parsing")):
        return "type_error", "WRONG_TYPE"
    if kind.startswith(("greater_than", "less_than", "too_", "string_too_", "multiple_of")):
        return "invalid_config", "OUT_OF_RANGE"
    return "invalid_config", "INVALID_VALUE"


def _suggestion(
    model: type[BaseModel], service: str, key: str, code: str, path: tuple[int | str, ...]
) -> str:
    if code == "UNKNOWN_KEY":
        meant = get_close_matches(str(path[-1])[:100], list(model.model_fields), n=1)
        also = f" Did you mean {meant[0]}?" if meant else ""
        return f"Remove it, or update the program: its class for {service} has no such field.{also}"
    if not key:
        return f"Look at what runs now: `config-daemon get {service} --source`."
    return f"`config-daemon set {service} {presentable(key)}=…` with a value that the program takes, or mend its class."


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"an object with {len(value)} members"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return presentable(json.dumps(value, ensure_ascii=False, default=lambda one: type(one).__name__))


def _is_secret(model: type[BaseModel], path: Iterable[int | str], value: Any) -> bool:
    """Tell whether a value must not be shown: a secret's, one in the place of what has secrets, or an unknown one."""
    inside: Any = model
    for part in path:
        if not isinstance(part, str):
            continue  # an item of a list, whose type is looked for below
        fields: dict[str, FieldInfo] = {}
        for one in _models(inside):
            fields |= {field.alias or name: field for name, field in one.model_fields.items()}
        if part not in fields:
            return True
        inside = fields[part].annotation
        if _is_marked(fields[part]) or _has_secret(inside):
            return True
    return not isinstance(value, Mapping) and inside is not model and _holds_secret(inside, set())


def _is_marked(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, Mapping) and bool(extra.get("x-secret"))


def _holds_secret(annotation: Any, seen: set[type[BaseModel]]) -> bool:
    """Tell whether classes inside have a secret, however deep."""
    for model in set(_models(annotation)) - seen:
        seen.add(model)
        for field in model.model_fields.values():
            inside = field.annotation
            if _is_marked(field) or _has_secret(inside) or _holds_secret(inside, seen):
                return True
    return False


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _has_secret(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and issubclass(kind, SecretStr | SecretBytes | Secret):
        return True
    return any(_has_secret(inner) for inner in get_args(annotation))
