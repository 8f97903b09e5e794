"""Values of services as lines of a `.env` file, and back.

Laws: a line is read as the daemon reads one in `.env`, by the field's type; what would not read back
exactly is refused and never written differently; names that mean nothing are told, all at once.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config_daemon.catalog.definition import env_name
from config_daemon.cli.documents import Document
from config_daemon.core.paths import leaves, put
from config_daemon.errors import ErrorContext, InvalidConfig, SettingsError
from config_daemon.settings import SECRET_NAMES, names

if TYPE_CHECKING:
    from config_daemon.catalog.catalog import Catalog
    from config_daemon.catalog.definition import Definition
    from config_daemon.store.dotenv import EnvFile

_OTHER_FORMATS = "Export as json or yaml, which can hold it."


def env_lines(definition: Definition, values: Mapping[str, Any]) -> list[str]:
    """Return a service's set values as assignments.

    Raises: InvalidConfig naming every value that no line can hold.
    """
    from config_daemon.store.dotenv_new import quote

    lines: list[str] = []
    back: dict[str, Any] = {}
    for key, text in _texts(definition, values):
        try:
            line, value = f"{env_name(definition.service, key)}={quote(text)}", definition.coerce(key, text)
        except (SettingsError, InvalidConfig):
            continue
        lines.append(line)
        put(back, key, value)
    wanted, found = leaves(values), leaves(back)
    lost = [key for key in wanted if key not in found or not _same(wanted[key], found[key])]
    if lost:
        contexts = [_unsayable(definition.service, key) for key in lost]
        raise InvalidConfig(contexts[0].message, suggestion=_OTHER_FORMATS, contexts=contexts)
    return lines


def documents_from(env: EnvFile, catalog: Catalog) -> tuple[list[Document], list[str]]:
    """Return the services that a `.env` gives values to, and the names in it that are the daemon's own.

    Raises: InvalidConfig with every name or value that means nothing.
    """
    known, ours = catalog.env_names(), names()
    found: dict[str, dict[str, Any]] = {}
    passed_over: list[str] = []
    problems: list[ErrorContext] = []
    for entry in env.entries.values():
        place = known.get(entry.name)
        if place is None:
            if entry.name in ours or entry.name in SECRET_NAMES or entry.name.startswith("CONFIG_DAEMON_"):
                passed_over.append(entry.name)
            else:
                problems.append(_unknown(entry.name, entry.line, env.path, known))
            continue
        definition = catalog.get(place[0])
        assert definition is not None
        try:
            put(found.setdefault(place[0], {}), place[1], definition.coerce(place[1], entry.value))
        except InvalidConfig as error:
            problems.extend(error.contexts)
    if problems:
        headline = (
            problems[0].message
            if len(problems) == 1
            else f"{len(problems)} lines of {env.path} are not valid"
        )
        raise InvalidConfig(headline, contexts=problems)
    return [Document(service, values, str(env.path)) for service, values in found.items()], passed_over


def _texts(definition: Definition, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield key and text of every field that has a value; a section with members is told by its members."""
    for key, field in definition.fields.items():
        value: Any = values
        for name in key.split("."):
            if not isinstance(value, Mapping) or name not in value:
                break
            value = value[name]
        else:
            section = any(other.startswith(f"{key}.") for other in definition.fields)
            if not (section and isinstance(value, Mapping) and value):
                literal = isinstance(value, str) and field.type != "list" and field.type != "object"
                yield key, value if literal else json.dumps(value, ensure_ascii=False)


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _unsayable(service: str, key: str) -> ErrorContext:
    message = f"{service} {key} has a value that no line of a .env file can hold"
    return ErrorContext("invalid_config", "NOT_IN_ENV", message, _OTHER_FORMATS, failed_field=key)


def _unknown(name: str, line: int, path: Path, known: Mapping[str, Any]) -> ErrorContext:
    near = difflib.get_close_matches(name[:100], known, 1)
    hint = f"Did you mean {near[0]}?" if near else "Names look like STT_WORKER__VAD_THRESHOLD."
    message = f"line {line} of {path}: this name sets no value of a service"
    return ErrorContext("invalid_config", "UNKNOWN_NAME", message, hint, failed_field=f"{path.name}:{line}")
