"""The text that an editor gets: a service's set values as YAML, everything else as comments.

Laws: read back unedited it gives exactly the set values; a line `#key: default` sets that default when
its `#` is removed, for which a dotted key counts as a path.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from config_daemon.catalog.definition import MISSING
from config_daemon.core.paths import put
from config_daemon.errors import InvalidConfig
from config_daemon.yaml_writing import flow, lines_of

if TYPE_CHECKING:
    from config_daemon.catalog.definition import Definition, Field

_WIDTH = 100


def editable(definition: Definition, values: Mapping[str, Any], version: int) -> str:
    """Return the text for a service's set values."""
    state = f"version {version}" if version else "it has no config yet"
    head = [
        f"# {definition.service}: {definition.title}, {state}",
        "# Lines without # are the values that are set; delete one, and its default holds again.",
        "# Leave the editor without a change to store nothing.",
    ]
    return "\n".join([*head, *_body(definition, values)]) + "\n"


def _body(definition: Definition, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields in the definition's order, then what the definition does not know."""
    tops: dict[str, list[Field]] = {}
    for key, field in definition.fields.items():
        tops.setdefault(key.partition(".")[0], []).append(field)
    for name, fields in tops.items():
        yield ""
        for field in fields:
            yield from _told(field)
        if name in values:
            yield from lines_of({name: values[name]})
    unknown = {name: value for name, value in values.items() if name not in tops}
    if unknown:
        yield ""
        yield from lines_of(unknown)


def _told(field: Field) -> Iterator[str]:
    """Yield a field's description, and a line that would set it to its default."""
    from config_daemon.catalog.complaints import expectation

    words = f"{field.description} {field.help_text}".strip() or field.key
    for line in textwrap.wrap(
        f"{words} [{expectation(field)}]", _WIDTH, break_long_words=False, break_on_hyphens=False
    ):
        yield f"# {line}"
    if field.is_secret:
        yield f"# {field.key} is a secret and cannot be set here"
    else:
        yield f"#{field.key}:{'' if field.default is MISSING else f' {flow(field.default)}'}"


def unfolded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was written in an editor with its dotted keys as nested objects.

    Raises: InvalidConfig when a key is written in both ways.
    """
    found = {name: value for name, value in values.items() if not _is_path(name)}
    for name, value in values.items():
        if not _is_path(name):
            continue
        place: Any = found
        for part in name.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        if place is not None:
            raise InvalidConfig(f"{name} is set twice", suggestion="Keep one of the two lines.")
        put(found, name, value)
    return found


def _is_path(name: Any) -> bool:
    return isinstance(name, str) and "." in name.strip(".")
