"""Follow references inside one JSON Schema, and refuse those that lead out of it.

Law: nothing outside the document is ever looked up, neither on the network nor on the disk.

Source: JSON Schema Core 2020-12, §8.2 (`$id`, `$ref`, `$dynamicRef`); RFC 6901 (JSON Pointer).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from config_daemon.catalog.shape import SchemaError

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DATA: Final = frozenset({"default", "const", "enum", "examples"})
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_MAX_NESTING: Final = 100


def plain(node: Mapping[str, Any], root: Mapping[str, Any], where: str) -> tuple[dict[str, Any], bool]:
    """Return the keywords of a property with its references followed, and whether it may be null.

    `{"anyOf": [X, {"type": "null"}]}` and `{"type": [T, "null"]}` are read as X and T that may be
    null; keywords beside a reference win over those it leads to.

    Raises: SchemaError, when a reference leads nowhere or round in a circle.
    """
    merged, nullable = dict(node), False
    followed: set[str] = set()
    while True:
        if "$ref" in merged:
            pointer = merged.pop("$ref")
            if pointer in followed:
                raise SchemaError(f"$ref {pointer} leads back to itself", "Break the circle.", where)
            followed.add(pointer)
            merged = {**target(pointer, root, where), **merged}
            continue
        branch = _beside_null(merged)
        if branch is None:
            break
        nullable = True
        merged = {**branch, **{k: v for k, v in merged.items() if k not in {"anyOf", "oneOf"}}}
    kinds = merged.get("type")
    if isinstance(kinds, list) and "null" in kinds:
        rest = [kind for kind in kinds if kind != "null"]
        merged["type"] = rest[0] if len(rest) == 1 else rest
        nullable = nullable or "enum" not in merged or None in merged["enum"]
    elif kinds is None and None in merged.get("enum", ()):
        nullable = True
    return merged, nullable


def target(pointer: str, root: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return the schema that a local JSON Pointer such as `#/$defs/port` leads to.

    Raises: SchemaError.
    """
    found: Any = root
    if pointer != "#" and not pointer.startswith("#/"):
        raise SchemaError(f"$ref {pointer} is no JSON pointer", "Refer to `#/$defs/…`.", where)
    for part in pointer.split("/")[1:]:
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise SchemaError(f"$ref {pointer} leads nowhere", "Add it below `$defs`.", where)
    if not isinstance(found, Mapping):
        raise SchemaError(f"$ref {pointer} leads to no schema object", "Refer to an object.", where)
    return found


def refuse_foreign(root: Mapping[str, Any]) -> None:
    """Refuse another dialect, references out of the document, and names that would move its root.

    Raises: SchemaError.
    """
    dialect = root.get("$schema", DIALECT)
    if not isinstance(dialect, str) or dialect.rstrip("#") != DIALECT:
        raise SchemaError("$schema is not JSON Schema 2020-12", f'Write "$schema": "{DIALECT}".', "$schema")
    for node, where, depth in _schemas(root):
        if depth > _MAX_NESTING:
            raise SchemaError("the schema is nested too deeply", "Flatten it.", where[:200])
        for keyword in ("$ref", "$dynamicRef"):
            reference = node.get(keyword)
            if isinstance(reference, str) and not reference.startswith("#"):
                raise SchemaError(
                    f"{keyword} {reference[:100]} leads out of the file, and nothing is fetched",
                    "Copy what it refers to into `$defs` and refer to it as `#/$defs/…`.",
                    where,
                )
        if where and ("$id" in node or "$anchor" in node or "$dynamicAnchor" in node):
            raise SchemaError("$id and anchors inside a schema are not supported", "Use `#/$defs/…`.", where)


def hides_secret(keywords: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Tell whether `x-secret` stands below `keywords`, where no field would show it."""
    followed: set[str] = set()
    todo = [keywords]
    while todo:
        for node, _, _ in _schemas(todo.pop()):
            if node is not keywords and node.get("x-secret") is True:
                return True
            pointer = node.get("$ref")
            if isinstance(pointer, str) and pointer not in followed:
                followed.add(pointer)
                found = target(pointer, root, pointer)
                if found.get("x-secret") is True:
                    return True
                todo.append(found)
    return False


def _schemas(root: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, int]]:
    """Yield every schema object in the document with its place; data such as defaults are none."""
    todo: list[tuple[Any, str, int]] = [(root, "", 0)]
    while todo:
        node, where, depth = todo.pop()
        if isinstance(node, list):
            todo.extend((item, f"{where}/{index}", depth + 1) for index, item in enumerate(node))
        if not isinstance(node, Mapping) or depth > _MAX_NESTING + 1:
            continue
        yield node, where, depth
        for keyword, value in node.items():
            if keyword in _NAMED and isinstance(value, Mapping):
                todo.extend((item, f"{where}/{keyword}/{name}", depth + 2) for name, item in value.items())
            elif keyword not in _DATA and not keyword.startswith("x-"):
                todo.append((value, f"{where}/{keyword}", depth + 1))


def _beside_null(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return X of `anyOf: [X, null]`, or None where the node is not of this form."""
    for keyword in ("anyOf", "oneOf"):
        branches = node.get(keyword)
        if not isinstance(branches, list) or len(branches) != 2:
            continue
        nulls = [branch for branch in branches if _is_null(branch)]
        others = [branch for branch in branches if not _is_null(branch)]
        if len(nulls) == 1 and isinstance(others[0], Mapping):
            return others[0]
    return None


def _is_null(branch: Any) -> bool:
    return isinstance(branch, Mapping) and branch.get("type") == "null" and len(branch) == 1
