"""Assignments on the command line: `KEY=VALUE`, `KEY:=JSON`, `KEY=@FILE`.

Laws: a value is read by its field's type (a string letter by letter, all else as JSON); every bad
assignment of a call is told at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from config_daemon.catalog.definition import Definition
from config_daemon.errors import ErrorContext, InvalidConfig, NotFound, UsageError
from config_daemon.wire import values as portable


def assignments(definition: Definition, words: Iterable[str]) -> dict[str, Any]:
    """Return the values by dotted key.

    Raises: UsageError for a word that assigns nothing; NotFound for an unknown key; InvalidConfig.
    """
    found: dict[str, Any] = {}
    problems: list[ErrorContext] = []
    for word in words:
        key, separator, text = word.partition("=")
        if not separator or not key.strip(":"):
            raise UsageError(
                f"{word!r} assigns nothing", suggestion="Write KEY=VALUE, KEY:=JSON or KEY=@FILE."
            )
        literal = key.endswith(":")
        key = key.removesuffix(":")
        check_key(definition, key)
        try:
            found[key] = _value(definition, key, _text(text), literal)
        except InvalidConfig as error:
            problems.extend(error.contexts)
    if problems:
        headline = (
            problems[0].message
            if len(problems) == 1
            else f"{len(problems)} values are not valid; nothing was stored"
        )
        raise InvalidConfig(headline, contexts=problems)
    return found


def check_key(definition: Definition, key: str) -> None:
    """Refuse a key that the service does not have.

    Raises: NotFound with the key that was probably meant.
    """
    known = definition.fields
    if key in known or any(key.startswith(f"{name}.") and known[name].type == "object" for name in known):
        return
    if any(name.startswith(f"{key}.") for name in known):
        return
    near = difflib.get_close_matches(key, known, 1)
    raise NotFound(
        f"{definition.service} has no key {key!r}",
        suggestion=f"Did you mean {near[0]!r}?" if near else f"Its keys: {', '.join(list(known)[:20])}.",
    )


def _text(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{text[1:]} cannot be read: {error}", suggestion="Name a readable text file after '@'."
        ) from error


def _value(definition: Definition, key: str, text: str, literal: bool) -> Any:
    if key in definition.fields and not literal:
        return definition.coerce(key, text)
    try:
        return portable.parse(text)
    except portable.BadJson as error:
        context = ErrorContext(
            "type_error", "BAD_JSON", f"{key}: {text[:60]!r} is not JSON: {error}",
            'Quote strings for JSON: KEY:=\'"text"\'.', failed_field=key, expected_type="JSON",
        )  # fmt: skip
        raise InvalidConfig(context.message, contexts=[context]) from error
