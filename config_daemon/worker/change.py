"""A change, as the program sees it: what was, what is, and which keys are others. Pure.

Laws: values are compared as JSON tells them apart, so that 1, 1.0 and true are three; a key is dotted, and
lists are compared whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from config_daemon.wire.status import Source


@dataclass(frozen=True, slots=True)
class Update:
    """The message that brought a config, and whence it came: the broker, or the worker's own copy."""

    generation: int
    sequence: int
    config_version: int
    source: Source


@dataclass(frozen=True, slots=True)
class Change:
    """What a program is asked to apply.

    `old` and `new` are whole configs, as the service's model made them, else plain dictionaries; `old` is
    None before the first one. `keys` are the dotted keys whose values differ.
    """

    service: str
    old: Any
    new: Any
    keys: tuple[str, ...]
    update: Update


def changed_keys(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the dotted keys that were added, removed, or have another value; sorted."""
    before, after = dict(_leaves(old or {})), dict(_leaves(new))
    return tuple(sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key)))


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield above + name, json.dumps(value, sort_keys=True)
