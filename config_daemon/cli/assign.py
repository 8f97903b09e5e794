"""Assignments on the command line: `KEY=VALUE`, `KEY:=JSON`, `KEY=@FILE`.

Laws: a value is read by its field's type (a string letter by letter, all else as JSON); every bad
assignment of a call is told at once; nothing is altered in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from config_daemon.cli.arguments import check_keys
from config_daemon.cli.printing import quoted
from config_daemon.cli.words import flaw
from config_daemon.errors import ErrorContext, InvalidConfig, UsageError
from config_daemon.wire import values as portable

if TYPE_CHECKING:
    from config_daemon.catalog.definition import Definition

MAX_VALUE_BYTES = 1 << 20  # no message is longer
_FORMS = "Write KEY=VALUE, KEY:=JSON or KEY=@FILE (KEY:='\"@text\"' for text that begins with @)."


def assignments(definition: Definition, words: Iterable[str]) -> tuple[dict[str, Any], list[ErrorContext]]:
    """Return the values by dotted key, and what is wrong with the others.

    Raises: UsageError for a word that assigns nothing or a file that cannot be read; NotFound for
    unknown keys.
    """
    texts = _taken_apart(words)
    check_keys(definition, texts)
    found: dict[str, Any] = {}
    problems: list[ErrorContext] = []
    for key, (text, literal) in texts.items():
        try:
            found[key] = _literal(key, text) if literal else definition.coerce(key, text)
        except InvalidConfig as error:
            problems.extend(_plain(definition.service, text, error.contexts))
    return found, problems


def _plain(service: str, text: str, contexts: Iterable[ErrorContext]) -> Iterator[ErrorContext]:
    """Yield problems with the service named, a wrong type as what is expected and what was given."""
    from config_daemon.store.complaints import of_service

    for one in contexts:
        if one.error_code == "WRONG_TYPE":
            given = one.received_value if "***" in one.received_value else quoted(text)  # masks stay
            one = replace(one, message=f"{one.failed_field} must be {one.expected_type}, not {given}")
        yield of_service(service, one)


def _taken_apart(words: Iterable[str]) -> dict[str, tuple[str, bool]]:
    texts: dict[str, tuple[str, bool]] = {}
    for word in words:
        key, separator, text = word.partition("=")
        if not separator or not key.strip(":"):
            raise UsageError(f"{quoted(word)} assigns nothing", suggestion=_FORMS)
        literal = key.endswith(":")
        key = key.removesuffix(":")
        if key in texts:
            raise UsageError(f"{quoted(key)} is assigned twice", suggestion="Assign each key once.")
        texts[key] = (_content(text[1:]) if text.startswith("@") else text, literal)
    _refuse_overlaps(texts)
    return texts


def _refuse_overlaps(texts: Mapping[str, Any]) -> None:
    for key in texts:
        above = key.rpartition(".")[0]
        while above:
            if above in texts:
                raise UsageError(
                    f"{quoted(above)} and {quoted(key)} in it are both assigned",
                    suggestion="Assign the whole object, or members of it.",
                )
            above = above.rpartition(".")[0]


def _content(name: str) -> str:
    from config_daemon.cli.documents import read_text

    return read_text(name, MAX_VALUE_BYTES).removesuffix("\n")


def _literal(key: str, text: str) -> Any:
    try:
        return portable.parse(text)
    except portable.BadJson as error:
        context = ErrorContext(
            "type_error", "BAD_JSON", f"{key} := {quoted(text)} is not JSON{flaw(error)}",
            'Quote strings for JSON: KEY:=\'"text"\'.', failed_field=key, expected_type="JSON",
        )  # fmt: skip
        raise InvalidConfig(context.message, contexts=[context]) from error
