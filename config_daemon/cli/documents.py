"""Read values of services from JSON and YAML files.

A file holds `{service: {values}}`, or documents `{service, config}` such as `export` writes: one, a list
of them, or a YAML stream.

Laws: nothing is guessed and nothing dropped: an unknown member, a service named twice or a key that
stands twice is an error; what is read is bounded before it is walked, because a few aliases can blow a
short YAML file up to any size.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config_daemon.cli.printing import quoted, visible
from config_daemon.cli.words import flaw
from config_daemon.errors import ErrorContext, InvalidConfig, UsageError
from config_daemon.wire import values as portable

MAX_FILE_BYTES = 64 << 20
MAX_NODES = 2_000_000
_MEMBERS = frozenset({"service", "config", "version"})
_SUFFIXES = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".env": "env"}


@dataclass(frozen=True, slots=True)
class Document:
    """The values that one service shall have, and the file that says so."""

    service: str
    values: dict[str, Any]
    file: str


def format_of(file: str) -> str | None:
    """Return the format that a file's name tells: `json`, `yaml`, `env`, or None."""
    name = Path(file).name
    return "env" if name == ".env" else _SUFFIXES.get(Path(name).suffix.lower())


def read_text(file: str, limit_bytes: int) -> str:
    """Return the text of a file, of standard input for `-`; line endings stay as they are.

    Raises: UsageError when it cannot be read, is longer, or is no UTF-8.
    """
    shown = _shown(file)
    try:
        if file == "-":
            content = sys.stdin.buffer.read(limit_bytes + 1)
        else:
            with Path(file).open("rb") as stream:
                content = stream.read(limit_bytes + 1)
        if len(content) > limit_bytes:
            raise UsageError(
                f"{shown} is longer than {limit_bytes} bytes", suggestion="Split it, or name the right file."
            )
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"{shown} cannot be read: {error.strerror}", suggestion="Name a readable file."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{shown} is not UTF-8 at byte {error.start}", suggestion="Save it as UTF-8."
        ) from error
    except ValueError as error:  # a NUL in the path
        raise UsageError(f"{shown} is no path", suggestion="Name a readable file.") from error


def read_documents(files: Iterable[str], kind: str | None = None) -> list[Document]:
    """Return what the files say, each service once; `kind` is `json` or `yaml`, else the name tells.

    Raises: UsageError; InvalidConfig naming the file, and the line where that is known.
    """
    found: dict[str, Document] = {}
    for file in files:
        text = read_text(file, MAX_FILE_BYTES)
        for document in documents_in(text, kind or format_of(file), file):
            other = found.setdefault(document.service, document)
            if other is not document:
                raise _refusal(file, f"names {document.service} a second time", "Name each service once.")
    if not found:
        raise _refusal(
            ", ".join(map(_shown, files)), "names no service", 'Write {"stt-worker": {"vad_threshold": 0.6}}.'
        )
    problems = [problem for document in found.values() for problem in portable.problems(document.values)]
    if problems:
        headline = problems[0].message if len(problems) == 1 else f"{len(problems)} values are no JSON values"
        raise InvalidConfig(f"{', '.join(map(_shown, files))}: {headline}", contexts=problems)
    return list(found.values())


def documents_in(text: str, kind: str | None, file: str) -> Iterator[Document]:
    """Yield the documents in a text; without a `kind` JSON is tried first, then YAML."""
    for content in contents_of(text, kind, file):
        yield from _documents(content, file)


def contents_of(text: str, kind: str | None, file: str) -> list[Any]:
    """Return what stands in a text of JSON (one value) or YAML (a stream of them).

    Raises: InvalidConfig.
    """
    if kind == "yaml":
        return _yaml(text, file)
    try:
        return [portable.parse(text)]
    except portable.BadJson as error:
        if kind is None:
            return _yaml(text, file)
        raise _refusal(
            file, f"is not JSON{flaw(error)}", "Mend the file, or say what it is with --format."
        ) from error


def _yaml(text: str, file: str) -> list[Any]:
    from config_daemon.cli.yaml_reading import BadYaml, load_all

    try:
        contents = load_all(text)
    except BadYaml as error:
        raise _refusal(file, f"is not YAML: {error}", "Mend the file at that place.") from error
    for content in contents:
        if not _is_bounded(content):
            raise _refusal(file, "is too large once its aliases are written out", "Use fewer aliases.")
    return contents


def _is_bounded(content: Any) -> bool:
    count, todo = 0, [content]
    while todo and count <= MAX_NODES:
        value = todo.pop()
        count += 1
        if isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
    return count <= MAX_NODES


def _documents(content: Any, file: str) -> Iterator[Document]:
    if content is None:
        return
    if isinstance(content, list):
        for item in content:
            if not isinstance(item, dict) or not isinstance(item.get("service"), str):
                raise _refusal(file, "lists something that is no document", "List objects {service, config}.")
            yield _one(item, file)
    elif isinstance(content, dict) and isinstance(content.get("service"), str):
        yield _one(content, file)
    elif isinstance(content, dict):
        for service, values in content.items():
            yield _document(service, values, file)
    else:
        raise _refusal(file, "holds no object", 'Write {"stt-worker": {"vad_threshold": 0.6}}.')


def _one(content: dict[Any, Any], file: str) -> Document:
    service = content["service"]
    unknown = [str(name) for name in content if name not in _MEMBERS]
    if unknown:
        hint = "Files hold set values, as `config-daemon export` writes them: service, config and perhaps version."
        raise _refusal(file, f"gives {quoted(service)} an unknown member {quoted(unknown[0])}", hint)
    return _document(service, content.get("config"), file)


def _document(service: Any, values: Any, file: str) -> Document:
    if not isinstance(service, str):
        raise _refusal(file, f"names a service {quoted(str(service))} that is no text", "Put it in quotes.")
    if not isinstance(values, dict):
        raise _refusal(file, f"gives {quoted(service)} no object of values", "Write {} for no values.")
    return Document(service, values, file)


def _shown(file: str) -> str:
    return "standard input" if file == "-" else visible(file[:200])


def _refusal(file: str, what: str, mend: str) -> InvalidConfig:
    name = _shown(file)
    context = ErrorContext("invalid_config", "BAD_FILE", f"{name} {what}", mend, failed_field=name)
    return InvalidConfig(context.message, suggestion=mend, contexts=[context])
