"""A dropped-in JSON Schema file as a shape; the only home of jsonschema-rs.

Laws:
- a file is strict JSON of at most 1 MiB and a schema of JSON Schema 2020-12, or it defines nothing;
- nothing is fetched: references lead into the file or are refused;
- its own defaults must pass it, or no config of the service ever could;
- the same bytes are compiled once, however many services have them.

Source: JSON Schema 2020-12; the codes of findings are those of shipped models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from config_daemon.catalog.reading import shape_of
from config_daemon.catalog.references import refuse_foreign
from config_daemon.catalog.service import ServiceDefinition
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
    SchemaError,
    Shape,
)
from config_daemon.wire.values import BadJson, parse

if TYPE_CHECKING:
    import jsonschema_rs

MAX_BYTES: Final = 1 << 20
_BACKTRACKS: Final = 100_000  # enough for any pattern a person writes, and ends within milliseconds
_CODES: Final = {
    "type": WRONG_TYPE,
    "minimum": OUT_OF_RANGE,
    "maximum": OUT_OF_RANGE,
    "exclusiveMinimum": OUT_OF_RANGE,
    "exclusiveMaximum": OUT_OF_RANGE,
    "enum": NOT_ALLOWED_VALUE,
    "const": NOT_ALLOWED_VALUE,
    "pattern": BAD_PATTERN,
}
_WORDS: Final = {
    "minLength": "text of at least {} characters",
    "maxLength": "text of at most {} characters",
    "minItems": "a list of at least {} items",
    "maxItems": "a list of at most {} items",
    "minProperties": "an object of at least {} members",
    "maxProperties": "an object of at most {} members",
    "multipleOf": "a multiple of {}",
    "format": "text in the format {}",
    "uniqueItems": "a list without repetitions",
}


class SchemaFiles:
    """Compiles the text of schema files, and remembers what is in use by its digest."""

    def __init__(self) -> None:
        self._shapes: WeakValueDictionary[bytes, Shape] = WeakValueDictionary()

    def shape(self, text: bytes) -> Shape:
        """Return the shape that a file's bytes describe.

        Raises: SchemaError, naming the place and the remedy.
        """
        digest = hashlib.sha256(text).digest()
        known = self._shapes.get(digest)
        if known is None:
            known = self._shapes[digest] = compile_schema(text)
        return known


def compile_schema(text: bytes) -> Shape:
    """Return the shape that a schema file's bytes describe, compiled anew.

    Raises: SchemaError.
    """
    if len(text) > MAX_BYTES:
        raise SchemaError(f"the file is larger than {MAX_BYTES} bytes", "Split the service in two.")
    try:
        schema = parse(text)
    except BadJson as error:
        raise SchemaError(f"the file is not strict JSON: {error}", "Mend the JSON at this place.") from error
    if not isinstance(schema, dict):
        raise SchemaError("the file is no JSON object", 'Begin with {"type": "object", "properties": {…}}.')
    refuse_foreign(schema)
    _compile(schema)  # the meta-schema first, so that reading may rely on it
    judge = _SchemaJudge()
    shape = shape_of(schema, judge)
    judge.validator = _compile(schema)  # with what reading has added
    judge.secrets = shape.secrets
    _refuse_bad_defaults(shape)
    return shape


def _compile(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    import jsonschema_rs

    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            retriever=_refuse_to_fetch,
            validate_formats=False,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS),
        )
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(part) for part in error.instance_path)
        raise SchemaError(
            f"the file is not JSON Schema 2020-12: {error.message[:200]}",
            "Mend the keyword at this place.",
            where,
        ) from error
    except ValueError as error:  # text that is no Unicode, nesting too deep for the compiler
        raise SchemaError("the file cannot be compiled as a schema", "Remove broken characters.") from error


def _refuse_to_fetch(uri: str) -> Any:
    raise ValueError(f"nothing is fetched: {uri[:100]}")


def _refuse_bad_defaults(shape: Shape) -> None:
    definition = ServiceDefinition("service", shape)
    problems = definition.check(definition.effective({}))
    for problem in problems:
        if problem.error_code != MISSING_FIELD:
            raise SchemaError(
                f"the schema refuses its own default: {problem.message}",
                "Change the default or the rule.",
                problem.failed_field,
            )


class _SchemaJudge:
    """Asks the compiled schema, and translates its errors by their kind."""

    __slots__ = ("secrets", "validator")

    validator: jsonschema_rs.Draft202012Validator
    secrets: frozenset[str]

    def __call__(self, values: Mapping[str, Any]) -> list[Finding]:
        plain = dict(values)
        try:
            if self.validator.is_valid(plain):
                return []
            found = [f for error in self.validator.iter_errors(plain) for f in self._findings(error)]
        except ValueError:  # a subclass of a JSON type that the library does not take
            return [Finding("NOT_JSON", (), message="holds values that are no plain JSON")]
        return _telling(found)

    def _findings(self, error: jsonschema_rs.ValidationError) -> list[Finding]:
        kind: Any = error.kind
        path: Path = tuple(error.instance_path)
        if hasattr(kind, "context"):  # anyOf and oneOf
            return self._of_branches(kind.context, path)
        if hasattr(kind, "unexpected"):  # additionalProperties and unevaluatedProperties
            return [Finding(UNKNOWN_KEY, (*path, member)) for member in kind.unexpected]
        if hasattr(kind, "property"):  # required and dependentRequired
            return [Finding(MISSING_FIELD, (*path, kind.property))]
        if kind.name in _CODES:
            return [Finding(_CODES[kind.name], path)]
        if kind.name in _WORDS:
            expected = _WORDS[kind.name].format(next(iter(kind.as_dict().values()), ""))
            return [Finding(INVALID_VALUE, path, expected=expected, message=f"must be {expected}")]
        rule = "/".join(str(part) for part in error.schema_path)
        return [Finding(INVALID_VALUE, path, message=f"breaks the rule {rule} of its schema")]

    def _of_branches(self, branches: list[list[jsonschema_rs.ValidationError]], path: Path) -> list[Finding]:
        """Return what is wrong in the branch that was meant, when all others are only about null."""
        wrong = [[finding for error in branch for finding in self._findings(error)] for branch in branches]
        if any(findings and all(map(self._is_absent_secret, findings)) for findings in wrong):
            return []
        meant = [found for branch, found in zip(branches, wrong, strict=True) if not _wants_null(branch)]
        if len(meant) == 1 and meant[0]:
            return meant[0]
        message = f"fits none of its {len(branches)} allowed forms, or more than one where only one may fit"
        return [Finding(INVALID_VALUE, path, message=message)]

    def _is_absent_secret(self, finding: Finding) -> bool:
        return finding.code == MISSING_FIELD and ".".join(map(str, finding.path)) in self.secrets


def _telling(findings: list[Finding]) -> list[Finding]:
    """Return findings without those that only follow from another one about the same value."""
    for code in (NOT_ALLOWED_VALUE, WRONG_TYPE):
        paths = {finding.path for finding in findings if finding.code == code}
        findings = [finding for finding in findings if finding.code == code or finding.path not in paths]
    return findings


def _wants_null(branch: list[jsonschema_rs.ValidationError]) -> bool:
    kinds: list[Any] = [error.kind for error in branch]
    return [getattr(kind, "types", None) for kind in kinds] == [["null"]]
