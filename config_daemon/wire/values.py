"""What may be inside a config, so that every parser of JSON reads the same meaning.

Laws: checked when values are written, by whoever writes; strict when signed bytes are read.

Source: RFC 8259 §4, §6 and §8.2 (what implementations are known to disagree about), RFC 7493 (I-JSON).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from config_daemon.errors import ErrorContext

MAX_INTEGER = (1 << 53) - 1
MAX_DEPTH = 32
MAX_KEYS = 10_000
_NO_TEXT = object()  # stands for a key that is no text


class BadJson(ValueError):
    """Bytes that are not the strict JSON we accept; the message says why."""


def parse(text: bytes | str) -> Any:
    """Parse strict JSON: UTF-8, no duplicate keys, no NaN or infinities, no lone surrogates.

    Raises: BadJson.
    """
    try:
        string = text.decode("utf-8") if isinstance(text, bytes) else text
        value = _DECODER.decode(string)
        if "\\u" in string or not isinstance(text, bytes):  # only an escape gets half a pair into UTF-8
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8 at byte {error.start}") from error
    except UnicodeEncodeError as error:
        raise BadJson("a text holds a lone surrogate and is no Unicode") from error
    except BadJson:
        raise
    except RecursionError as error:
        raise BadJson("nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, and integers of more digits than Python converts
        raise BadJson(str(error)) from error


def end_of_value(text: str) -> int | None:
    """Return where the JSON value that begins at index 0 ends, or None when none begins there."""
    try:
        return _SCANNER.raw_decode(text)[1]
    except (ValueError, RecursionError):
        return None


def problems(values: Any) -> tuple[ErrorContext, ...]:
    """Return everything in `values` that two JSON parsers could read differently; empty when fine."""
    found: list[ErrorContext] = []
    keys = 0
    for path, depth, value in _walk(values):
        if depth > MAX_DEPTH:
            found.append(
                _problem(path, "TOO_DEEP", f"nested deeper than {MAX_DEPTH} levels", "Flatten the values.")
            )
            break
        if isinstance(value, dict):
            keys += len(value)
        if keys > MAX_KEYS:
            found.append(
                _problem(path, "TOO_MANY_KEYS", f"more than {MAX_KEYS} keys", "Split the service in two.")
            )
            break
        problem = _scalar_problem(path, value)
        if problem:
            found.append(problem)
    return tuple(found)


def _walk(root: Any) -> Iterator[tuple[str, int, Any]]:
    todo: list[tuple[str, int, Any]] = [("", 1, root)]
    while todo:
        path, depth, value = todo.pop()
        yield path, depth, value
        if depth > MAX_DEPTH:
            continue
        if isinstance(value, dict):
            for key, item in value.items():
                problem_key = key if isinstance(key, str) else repr(key)
                if not isinstance(key, str):
                    yield f"{path}.{problem_key}" if path else problem_key, depth, _NO_TEXT
                elif _has_surrogate(key):
                    yield f"{path}.{problem_key!a}", depth, "\ud800"
                todo.append((f"{path}.{problem_key}" if path else problem_key, depth + 1, item))
        elif isinstance(value, list | tuple):
            todo.extend((f"{path}[{i}]", depth + 1, item) for i, item in enumerate(value))


def _scalar_problem(path: str, value: Any) -> ErrorContext | None:
    if value is None or isinstance(value, bool | dict | list | tuple):
        return None
    if value is _NO_TEXT:
        return _problem(path, "NOT_JSON", "the key is no text", "Put the key in quotes.")
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            return _problem(
                path,
                "INTEGER_TOO_LARGE",
                f"the integer is outside ±(2^53−1) = ±{MAX_INTEGER}",
                "Use a smaller number, or a string.",
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            return _problem(path, "NOT_FINITE", "the number is NaN or infinite", "Use a finite number.")
    elif isinstance(value, str):
        if _has_surrogate(value):
            return _problem(
                path,
                "LONE_SURROGATE",
                "the text holds a lone surrogate and is no Unicode",
                "Remove the broken character.",
            )
    else:
        return _problem(path, "NOT_JSON", f"{type(value).__name__} is no JSON type", "Use JSON values only.")
    return None


def _has_surrogate(text: str) -> bool:
    if text.isascii():
        return False
    return any("\ud800" <= character <= "\udfff" for character in text)


def _problem(path: str, code: str, message: str, suggestion: str) -> ErrorContext:
    field = path.encode("utf-8", "backslashreplace").decode()
    return ErrorContext(
        "invalid_config", code, f"{field or 'the config'}: {message}", suggestion, failed_field=field
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJson(f"the key {twice!r} stands twice")
    return members


def _no_constant(text: str) -> Any:
    raise BadJson(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadJson(f"the number {text[:40]} is too large")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
_SCANNER = json.JSONDecoder()
