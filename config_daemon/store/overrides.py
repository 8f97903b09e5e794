"""Which service values `.env` fixes.

Laws: only names that a definition knows are taken; the process's own environment has no say; of two
names for one key in the file, the file is refused with both lines named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from config_daemon.catalog.definition import Definition, env_name
from config_daemon.core.definition import Override
from config_daemon.errors import ErrorContext, SettingsError
from config_daemon.store.dotenv import EnvFile


def overrides_of(env_file: EnvFile, names: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, Override]]:
    """Return the overrides by service and key; `names` maps every known name to its (service, key).

    Raises: SettingsError when two names in the file give one key different values.
    """
    found: dict[str, dict[str, Override]] = {}
    for name, entry in env_file.entries.items():
        target = names.get(name)
        if target is None:
            continue
        service, key = target
        known = found.setdefault(service, {}).get(key)
        if known is not None and known.text != entry.value:
            raise _both(name, entry.line, known.line, service, key)
        found[service][key] = Override(entry.value, entry.line)
    return found


def overrides_for(env_file: EnvFile, definition: Definition) -> dict[str, Override]:
    """Return the overrides of one service by key, without a look at any other definition.

    Raises: SettingsError as `overrides_of`.
    """
    names = {env_name(definition.service, key): (definition.service, key) for key in definition.fields}
    for field in definition.fields.values():
        names.update((alias, (definition.service, field.key)) for alias in field.aliases)
    return overrides_of(env_file, names).get(definition.service, {})


def fixed_lately(epoch_file: Path) -> dict[str, list[str]]:
    """Return the keys that `.env` fixed, by service, at some time since the cache was last written."""
    try:
        found = json.loads(epoch_file.read_text())["env_fixed"]
        return {service: [key for key in keys if isinstance(key, str)] for service, keys in found.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}


def united(one: Mapping[str, Iterable[str]], other: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return the keys that either names, by service."""
    return {name: sorted({*one.get(name, ()), *other.get(name, ())}) for name in sorted({*one, *other})}


def _both(name: str, line: int, other_line: int, service: str, key: str) -> SettingsError:
    context = ErrorContext(
        "invalid_config", "ENV_INVALID", f"lines {other_line} and {line} give {service} {key} two values",
        f"Keep one of the two lines; {name} is one of them.", failed_field=name,
    )  # fmt: skip
    return SettingsError(context.message, suggestion=context.suggestion, contexts=[context])
