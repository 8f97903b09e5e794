"""A shipped Pydantic model as a shape: its schema in plain form, and a judge that uses the model.

Laws: what is published is what Pydantic checks, with references written out and without the titles
that Pydantic makes up; a finding carries our words, never Pydantic's, which name Python things.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config_daemon.catalog.definition import MISSING, Field
from config_daemon.catalog.reading import shape_of
from config_daemon.catalog.references import DIALECT, plain
from config_daemon.catalog.service import ServiceDefinition
from config_daemon.catalog.setting import RULES_BROKEN, Rule, ServiceModel, StrictModel
from config_daemon.catalog.shape import (
    BAD_PATTERN,
    INVALID_VALUE,
    MISSING_FIELD,
    NOT_ALLOWED_VALUE,
    OUT_OF_RANGE,
    UNKNOWN_KEY,
    WRONG_TYPE,
    Finding,
    Path,
)

_CODES: Final = {
    "missing": MISSING_FIELD,
    "extra_forbidden": UNKNOWN_KEY,
    "none_required": WRONG_TYPE,
    "literal_error": NOT_ALLOWED_VALUE,
    "enum": NOT_ALLOWED_VALUE,
    "string_pattern_mismatch": BAD_PATTERN,
    "greater_than": OUT_OF_RANGE,
    "greater_than_equal": OUT_OF_RANGE,
    "less_than": OUT_OF_RANGE,
    "less_than_equal": OUT_OF_RANGE,
}
_WORDS: Final = {
    "greater_than": ("gt", "greater than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "string_too_short": ("min_length", "text of at least {} characters"),
    "string_too_long": ("max_length", "text of at most {} characters"),
    "too_short": ("min_length", "at least {} long"),
    "too_long": ("max_length", "at most {} long"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
}


def definition_of(model: type[ServiceModel]) -> ServiceDefinition:
    """Return the definition that a model is.

    Raises: SchemaError, when the model says something that a field cannot.
    """
    schema = published_schema(model)
    judge = _ModelJudge(model)
    shape = shape_of(schema, judge)
    judge.fields = shape.fields
    return ServiceDefinition(model.service, shape)


def published_schema(model: type[ServiceModel]) -> dict[str, Any]:
    """Return a model's JSON Schema with references written out."""
    made = model.model_json_schema()
    schema: dict[str, Any] = {
        "$schema": DIALECT,
        "title": model.title or model.service,
        "description": inspect.cleandoc(model.__doc__ or ""),
        "type": "object",
    }
    if model.depends_on:
        schema["x-depends-on"] = list(model.depends_on)
    if rules := _all_rules(model):
        schema["x-rules"] = [{"fields": list(rule.fields), "says": rule.says} for rule in rules]
    schema["properties"] = _written_out(made["properties"], made, named=True)
    schema["required"] = made.get("required", [])
    schema["additionalProperties"] = False
    if model.example:
        schema["examples"] = [model.example]
    return schema


def _written_out(node: Any, root: Mapping[str, Any], *, named: bool = False) -> Any:
    """Return a copy of a schema without references and made-up titles; `named`: its keys are names."""
    if isinstance(node, list):
        return [_written_out(item, root) for item in node]
    if not isinstance(node, dict):
        return node
    if named:
        return {name: _written_out(inner, root) for name, inner in node.items()}
    if "$ref" in node:
        node, _ = plain(node, root, "")
    return {
        keyword: value
        if keyword in {"default", "enum", "const", "examples"}
        else _written_out(value, root, named=keyword == "properties")
        for keyword, value in node.items()
        if keyword != "title"
    }


class _ModelJudge:
    """Asks the model, then the rules of those fields that are right by themselves."""

    __slots__ = ("_model", "_rules", "fields")

    def __init__(self, model: type[ServiceModel]) -> None:
        self._model, self._rules = model, _all_rules(model)
        self.fields: Mapping[str, Field] = {}

    def __call__(self, values: Mapping[str, Any]) -> list[Finding]:
        try:
            self._model.model_validate(dict(values))
            return []
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
        except Exception as error:  # noqa: BLE001 - a registered model is foreign code, and must not stop the daemon
            return [_crashed(error)]
        findings = [_finding(detail) for detail in details if detail["type"] != RULES_BROKEN]
        try:
            findings.extend(self._broken_rules(values, [finding.path for finding in findings]))
        except Exception as error:  # noqa: BLE001 - so is a rule of a registered model
            findings.append(_crashed(error))
        return findings

    def _broken_rules(self, values: Mapping[str, Any], wrong: list[Path]) -> Iterator[Finding]:
        for rule in self._rules:
            paths = [tuple(key.split(".")) for key in rule.fields]
            if any(path[: len(p)] == p[: len(path)] for path in paths for p in wrong):
                continue
            given = [self._value(key, values) for key in rule.fields]
            if MISSING in given:
                continue
            if what := rule.broken(*given):
                wrong.append(paths[0])  # one complaint about a field at a time
                yield Finding(rule.code, paths[0], message=what, suggestion=rule.suggestion)

    def _value(self, key: str, values: Mapping[str, Any]) -> Any:
        value: Any = values
        for name in key.split("."):
            if value is None:
                return MISSING
            if name not in value:
                field = self.fields[key]
                return MISSING if field.is_secret else field.default
            value = value[name]
        return value


def _all_rules(model: type[StrictModel], prefix: str = "") -> tuple[Rule, ...]:
    """Return the rules of a model and of the models in it, with their fields as dotted keys."""
    rules = [
        Rule(tuple(prefix + key for key in rule.fields), rule.says, rule.broken, rule.suggestion, rule.code)
        for rule in model.rules
    ]
    for name, info in model.model_fields.items():
        for kind in (info.annotation, *get_args(info.annotation)):
            if inspect.isclass(kind) and issubclass(kind, StrictModel):
                rules.extend(_all_rules(kind, f"{prefix}{name}."))
    return tuple(rules)


def _finding(detail: ErrorDetails) -> Finding:
    kind = detail["type"]
    path = tuple(part for part in detail["loc"] if part != "[key]")
    code = _CODES.get(kind) or (WRONG_TYPE if kind.endswith(("_type", "_parsing")) else INVALID_VALUE)
    if kind not in _WORDS:
        return Finding(code, path)
    limit, words = _WORDS[kind]
    expected = words.format(detail.get("ctx", {}).get(limit, "?"))
    if code == OUT_OF_RANGE:
        return Finding(code, path)
    return Finding(code, path, expected=expected, message=f"must be {expected}")


def _crashed(error: Exception) -> Finding:
    return Finding(
        INVALID_VALUE,
        (),
        message=f"could not be judged: its model raised {type(error).__name__}",
        suggestion="Report this to the author of the model.",
    )
