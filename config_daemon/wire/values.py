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
MAX_VALUES = 30_000
# of what is read: commas, lists and objects; MAX_VALUES empty lists have twice as many, and there is an envelope
MAX_PARTS = 2 * MAX_VALUES + 1000
MAX_MEMBERS = 25_000  # of what is read: a beacon of 1 MiB lists 13 000 services
MAX_DIGITS = 400  # of one number that is read: Python takes the square of their number
_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_NO_PARTS = bytes(set(range(256)) - set(b'[{,:"'))
_LONG_ZERO = b"0" * (MAX_DIGITS + 1)
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
        if "\\u" in string:  # only an escape gets half a pair into UTF-8
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        elif not isinstance(text, bytes):
            text.encode("utf-8")
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


def check_parts(text: bytes, messages: int = 1) -> None:
    """Refuse what takes a parser long: 1 MiB of `[[]],` takes 30 times as long as 1 MiB of text.

    Raises: BadJson.
    """
    if len(text) <= MAX_MEMBERS or (_fits(text, messages) and not _has_long_number(text)):
        return
    # what stands in texts does not count; a backslash can escape a quote only where it is not escaped itself
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    parts = _outside_texts(
        plain.translate(None, _NO_PARTS).replace(b'""', b"")
    )  # most texts are gone before the split
    if not _fits(parts, messages):
        raise BadJson(f"more than {MAX_MEMBERS} members, or {MAX_PARTS} commas, lists and objects")
    if _has_long_number(plain) and _has_long_number(_outside_texts(plain)):
        raise BadJson(f"a number of more than {MAX_DIGITS} digits")


def _fits(text: bytes, messages: int) -> bool:
    parts = text.count(b",") + text.count(b"[") + text.count(b"{")
    return text.count(b":") <= MAX_MEMBERS * messages and parts <= MAX_PARTS * messages


def _has_long_number(text: bytes) -> bool:
    return _LONG_ZERO in text.translate(_TO_ZERO)


def _outside_texts(text: bytes) -> bytes:
    return b" ".join(text.split(b'"')[::2])


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
    for number, (path, depth, value) in enumerate(_walk(values)):
        if number >= MAX_VALUES:
            found.append(
                _problem("", "TOO_MANY_VALUES", f"more than {MAX_VALUES} values", "Split the service in two.")
            )
            break
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
_SCANNER = json.JSONDecoder(parse_int=len, parse_float=len)  # numbers only to be stepped over
