"""Dotted keys: a config is nested objects, people name its values by the path to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ABSENT = object()


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values that are no objects, by dotted key; an empty object counts as a value."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value at a dotted key in place, making the objects on its way."""
    *path, last = key.split(".")
    for name in path:
        inner = values.get(name)
        if not isinstance(inner, dict):
            inner = values[name] = {}
        values = inner
    values[last] = value


def remove(values: dict[str, Any], key: str) -> bool:
    """Take the value at a dotted key away, in place; False when there is none."""
    *path, last = key.split(".")
    for name in path:
        inner = values.get(name)
        if not isinstance(inner, dict):
            return False
        values = inner
    return values.pop(last, _ABSENT) is not _ABSENT


def copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy whose objects may be changed."""
    return {name: copied(value) if isinstance(value, dict) else value for name, value in values.items()}
