"""Read a JSON Schema as a tree of sections and fields.

Laws:
- one reading for every source: schema files, and the schemas that Pydantic makes of shipped models;
- what cannot be told to a person as a field is refused here, with the place and the remedy, and
  never guessed;
- a secret is a text property of its own: a mark at any other place would protect nothing;
- a text without `maxLength` gets 5 000 characters, and a property without `x-complexity` is simple:
  both are written into the schema, so that what is published is what is checked.

Source: JSON Schema 2020-12; seed 004 ConfigFieldMetadata; seed 001 (text of 0-5 000 characters).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from config_daemon.catalog.definition import MISSING, SEGMENT, Field, env_part
from config_daemon.catalog.marks import COMPLEXITIES, dependencies_of, field_of, is_secret, text_of, type_of
from config_daemon.catalog.references import hides_secret, plain
from config_daemon.catalog.shape import Judge, SchemaError, Section, Shape

MAX_TEXT: Final = 5000
_MAX_NESTING: Final = 16


def shape_of(schema: dict[str, Any], judge: Judge) -> Shape:
    """Return the shape that a schema describes; `schema` gets the marks it lacks, in place.

    Raises: SchemaError, naming the place and the remedy.
    """
    reading = _Reading(schema)
    keywords, nullable = plain(schema, schema, "")
    if keywords.get("type") != "object" or nullable or not keywords.get("properties"):
        raise SchemaError(
            "the schema does not describe an object with properties",
            'Begin with {"type": "object", "properties": {…}}.',
        )
    root = reading.section("", keywords, required=True, field=None, above=True)
    shape = Shape(
        title=text_of(schema, "title", "title"),
        description=text_of(schema, "description", "description"),
        dependencies=dependencies_of(schema),
        schema=schema,
        root=root,
        judge=judge,
        items=reading.items,
    )
    _refuse_twins(shape)
    return shape


def _refuse_twins(shape: Shape) -> None:
    seen: dict[str, str] = {}
    for key in shape.fields:
        twin = seen.setdefault(env_part(key), key)
        if twin != key:
            raise SchemaError(
                f"{twin} and {key} would have one name in .env, …__{env_part(key)}",
                "Rename one of them.",
                key,
            )
    names: dict[str, str] = {}
    for alias, key in shape.aliases:
        if names.setdefault(alias, key) != key:
            raise SchemaError(
                f"{alias} is an x-env of both {names[alias]} and {key}", "Keep one of them.", key
            )


class _Reading:
    """One pass over one schema; collects the types of list items on its way."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self.items: dict[str, str] = {}

    def section(
        self, key: str, keywords: Mapping[str, Any], *, required: bool, field: Field | None, above: bool
    ) -> Section:
        """Return the section that an object's keywords describe; `above`: all above it are required."""
        if key.count(".") >= _MAX_NESTING:
            raise SchemaError("the properties are nested too deeply", "Flatten them.", key)
        if keywords.get("x-secret"):
            raise SchemaError(
                "a secret must be a string, not object", "Mark the members that are secret.", key
            )
        beside = {k: v for k, v in keywords.items() if k not in {"properties", "$defs", "definitions"}}
        self._refuse_hidden_secret(beside, key)
        needs = frozenset(keywords.get("required", ()))
        members: dict[str, Field | Section] = {}
        for name, node in keywords["properties"].items():
            place = f"{key}.{name}" if key else name
            if not SEGMENT.fullmatch(name):
                raise SchemaError(
                    f"{name[:64]!r} cannot be a key",
                    "Use lower-case letters, digits and _, letter first.",
                    key,
                )
            if not isinstance(node, dict):
                raise SchemaError("the property has no single type", 'Give it a "type".', place)
            members[name] = self._member(place, node, required=name in needs, above=above)
        return Section(
            key=key,
            members=members,
            needs=needs,
            required=required,
            field=field,
            default=keywords.get("default", MISSING) if key else MISSING,
            is_open=keywords.get("additionalProperties", True) is not False
            and keywords.get("unevaluatedProperties", True) is not False,
        )

    def _member(self, key: str, node: dict[str, Any], *, required: bool, above: bool) -> Field | Section:
        keywords, nullable = plain(node, self._root, key)
        kind = type_of(keywords, key)
        if "x-complexity" not in keywords:
            node["x-complexity"] = COMPLEXITIES[0]
        if kind == "object" and keywords.get("properties"):
            field = field_of(key, keywords, nullable=True, required=required and above) if nullable else None
            inner = above and required and not nullable
            return self.section(key, keywords, required=required, field=field, above=inner)
        if kind in {"string", "path"} and "maxLength" not in keywords:
            node["maxLength"] = MAX_TEXT
        self._refuse_hidden_secret({k: v for k, v in keywords.items() if k != "x-secret"}, key)
        if kind == "list":
            self._note_items(key, keywords)
        if is_secret(keywords, key):
            node["x-secret"] = True
        return field_of(key, keywords, nullable=nullable, required=required and above)

    def _note_items(self, key: str, keywords: Mapping[str, Any]) -> None:
        items = keywords.get("items")
        if not isinstance(items, dict):
            return
        inner, _ = plain(items, self._root, key)
        if not inner:
            return
        kind = type_of(inner, f"{key}[]")
        if kind not in {"string", "enum", "path"}:
            self.items[key] = kind

    def _refuse_hidden_secret(self, keywords: Mapping[str, Any], key: str) -> None:
        if hides_secret(keywords, self._root):
            raise SchemaError(
                "x-secret stands where no field is, and would protect nothing",
                "Make the secret a string property of its own.",
                key,
            )
