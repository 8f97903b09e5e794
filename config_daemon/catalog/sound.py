"""Set aside what no judge should have to see: values that are no JSON, or that parsers disagree about.

Laws: nothing here raises or recurses without bound, whatever the values hold; what is set aside is
told once, and the rest is judged as if it were not there.

Source: the limits and their codes are those of `wire.values`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from config_daemon.catalog.shape import Finding, Path
from config_daemon.wire.values import MAX_DEPTH, MAX_INTEGER, MAX_KEYS, MAX_VALUES

TOO_LARGE: Final = "INTEGER_TOO_LARGE"
_MAX_ITEMS: Final = MAX_VALUES
_PLAIN_KEYS, _PLAIN_DEPTH = 20, 3  # together at most 20 ** 3 keys, which is below the limit


def sift(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Finding]]:
    """Return the sound part of `values` and what is wrong with the rest.

    A path ends at the innermost object member: a list with one unsound item is set aside whole.
    """
    if type(values) is dict and _is_plain(values):
        return values, []
    found: list[Finding] = []
    keys = items = 0
    todo: list[tuple[Path, bool, int, Any]] = [((), False, 1, values)]
    while todo:
        path, in_list, depth, value = todo.pop()
        if depth > MAX_DEPTH:
            message = f"is nested deeper than {MAX_DEPTH} levels"
            found.append(Finding("TOO_DEEP", path, message=message, suggestion="Flatten the value."))
        elif isinstance(value, dict) or not path:
            keys += len(value)
            if keys > MAX_KEYS:
                message = f"has more than {MAX_KEYS} keys"
                return {}, [Finding("TOO_MANY_KEYS", (), message=message, suggestion="Split the service.")]
            for name, inner in value.items():
                place = path if in_list else (*path, name)
                if isinstance(name, str) and _is_text(name):
                    todo.append((place, in_list, depth + 1, inner))
                else:
                    found.append(_bad_name(place))
        elif isinstance(value, list):
            items += len(value)
            if items > _MAX_ITEMS:
                message = f"has more than {_MAX_ITEMS} list items"
                return {}, [Finding("TOO_MANY_ITEMS", (), message=message, suggestion="Split the service.")]
            todo.extend((path, True, depth + 1, inner) for inner in value)
        else:
            problem = _unsound(path, value)
            if problem:
                found.append(problem)
    if not found:
        return values, []
    unique = {finding.path: finding for finding in reversed(found)}
    return _without(values, (), frozenset(unique)), list(unique.values())


def _is_plain(values: dict[Any, Any], depth: int = 1) -> bool:
    """Tell whether nothing can be wrong: a few nested objects of plain values. Nearly every config is such."""
    if len(values) > _PLAIN_KEYS or depth > _PLAIN_DEPTH:
        return False
    for name, value in values.items():
        kind = type(value)
        if type(name) is not str or not name.isascii():
            return False
        if kind is str:
            plain = value.isascii()
        elif kind is int:
            plain = -MAX_INTEGER <= value <= MAX_INTEGER
        elif kind is float:
            plain = math.isfinite(value)
        elif kind is dict:
            plain = _is_plain(value, depth + 1)
        else:
            plain = kind is bool or value is None
        if not plain:
            return False
    return True


def _unsound(path: Path, value: Any) -> Finding | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        if _is_text(value):
            return None
        message = "holds a lone surrogate and is no Unicode text"
        return Finding("LONE_SURROGATE", path, message=message, suggestion="Remove the broken character.")
    if isinstance(value, int):
        if -MAX_INTEGER <= value <= MAX_INTEGER:
            return None
        message = f"is outside ±(2^53-1) = ±{MAX_INTEGER}, where programs lose digits"
        return Finding(TOO_LARGE, path, message=message, suggestion="Use a smaller number.")
    if isinstance(value, float):
        if math.isfinite(value):
            return None
        message = "is not a finite number"
        return Finding("NOT_FINITE", path, message=message, suggestion="Use a finite number.")
    message = f"is a Python {type(value).__name__}, which is no JSON type"
    return Finding("NOT_JSON", path, message=message, suggestion="Use JSON values only.")


def _bad_name(path: Path) -> Finding:
    message = "has a name that is no Unicode text"
    return Finding("NOT_JSON", path, message=message, suggestion="Name it with text.")


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without(value: Any, path: Path, bad: frozenset[Path]) -> Any:
    """Return a copy of an object without the members at `bad` paths, which include all that is too deep."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: _without(inner, (*path, name), bad) for name, inner in value.items() if (*path, name) not in bad
    }
