"""The last-known-good cache read back as rows: what somebody must have stored for what was published.

Laws: a value that `.env` fixes or that is the default belongs to nobody's row, so that both keep their
meaning; where that leads to another config than the published one, all of it is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from config_daemon.core.paths import copied, leaves, put, remove
from config_daemon.core.sealed import Sealed
from config_daemon.errors import CacheError, InvalidConfig
from config_daemon.store.salvage import Kept
from config_daemon.store.stored import parse_stored
from config_daemon.store.transaction import Definitions
from config_daemon.wire import values as portable
from config_daemon.wire.sealing import canonical

Fixed = Mapping[str, Collection[str]]


def rows_of(
    sealed: Mapping[str, Sealed], definitions: Definitions, fixed: Fixed, at: str, by: str
) -> dict[str, Kept]:
    """Return a row for each message of the cache; `fixed` names the keys that `.env` gives each service."""
    return {
        name: Kept(name, one.fingerprint.config_version, _text(name, one, definitions, fixed), at, by)
        for name, one in sealed.items()
    }


def means_the_same(row: Kept, other: Kept, definition: Any, fixed: Collection[str]) -> bool:
    """Tell whether two rows are published alike: what `.env` fixes and what is the default differs in no message."""
    if row.text == other.text:
        return True
    if definition is None or row.text is None or other.text is None:
        return False
    try:
        both = [parse_stored(row.service, text) for text in (row.text, other.text)]
    except InvalidConfig:
        return False
    first, second = (canonical(stored_of(definition.effective(each), definition, fixed)) for each in both)
    return first == second


def _text(name: str, sealed: Sealed, definitions: Definitions, fixed: Fixed) -> str | None:
    if sealed.fingerprint.deleted:
        return None
    content = sealed.read_config()
    if content is None:
        raise CacheError(f"the cache's message of {name} cannot be read any more")
    config = portable.parse(content)
    return canonical(stored_of(config, definitions.get(name), fixed.get(name, ()))).decode()


def stored_of(config: dict[str, Any], definition: Any, fixed: Collection[str]) -> dict[str, Any]:
    """Return what was stored for an effective config; all of it for a service that nothing defines."""
    if definition is None:
        return config
    given = copied(config)
    taken = {key: value for key in fixed if (value := _taken(given, key)) is not None}
    defaults = leaves(definition.effective({}))
    stored: dict[str, Any] = {}
    for key, value in leaves(given).items():
        if key not in defaults or not _is_same(defaults[key], value):
            put(stored, key, value)
    again = copied(stored)
    for key, value in taken.items():
        put(again, key, value[0])
    return stored if canonical(definition.effective(again)) == canonical(config) else given


def _is_same(one: Any, other: Any) -> bool:
    """Tell whether two values are written alike; most are of types that need not be written for that."""
    if type(one) is not type(other):
        return False
    if isinstance(one, str | int | None):
        return bool(one == other)
    return canonical(one) == canonical(other)


def _taken(values: dict[str, Any], key: str) -> tuple[Any] | None:
    """Take a value away and return it; None when there is none."""
    found = values
    for name in key.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    remove(values, key)
    return (found,)
