"""The form that every definition is brought into: a tree of sections and fields, and a judge of values.

Laws:
- a shape says nothing about the service that uses it, so services with the same schema share one;
- a section is an object whose members are known; an object whose members are free is one field;
- a section that may be absent is filled with defaults only where that alone makes it complete.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from config_daemon.catalog.definition import MISSING, Field, env_part

MISSING_FIELD: Final = "MISSING_FIELD"
WRONG_TYPE: Final = "WRONG_TYPE"
OUT_OF_RANGE: Final = "OUT_OF_RANGE"
NOT_ALLOWED_VALUE: Final = "NOT_ALLOWED_VALUE"
BAD_PATTERN: Final = "BAD_PATTERN"
UNKNOWN_KEY: Final = "UNKNOWN_KEY"
INVALID_VALUE: Final = "INVALID_VALUE"

Path = tuple[str | int, ...]


class SchemaError(ValueError):
    """A schema that cannot define a service: why, where in it, and how to mend it."""

    def __init__(self, message: str, suggestion: str, where: str = "") -> None:
        super().__init__(message)
        self.message, self.suggestion, self.where = message, suggestion, where


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a judge holds against values, before it is told to a person.

    `path` leads to the value, or to where it is missing. `expected` and `message` are empty where the
    field itself says enough.
    """

    code: str
    path: Path
    expected: str = ""
    message: str = ""
    suggestion: str = ""


Judge = Callable[[Mapping[str, Any]], list[Finding]]
"""Values of JSON types within the limits of `sound` in, everything against them out."""


@dataclass(frozen=True, slots=True)
class Section:
    """An object whose members are known; the root of a config has the key ''.

    `needs` names the members that a given section must have, `required` tells whether the section
    itself must be given. `field` is set when it may be null. `is_open` allows members that are not known.
    """

    key: str
    members: Mapping[str, Field | Section]
    needs: frozenset[str] = frozenset()
    required: bool = True
    field: Field | None = None
    default: Any = MISSING
    is_open: bool = False

    def leaves(self) -> Iterator[Field]:
        """Yield the fields below, in order; a section that is also a field comes before its members."""
        for member in self.members.values():
            if isinstance(member, Section):
                if member.field:
                    yield member.field
                yield from member.leaves()
            else:
                yield member

    def sections(self) -> Iterator[Section]:
        """Yield this section and all below it."""
        yield self
        for member in self.members.values():
            if isinstance(member, Section):
                yield from member.sections()

    def fill(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return `given` laid over the defaults; members that are not known follow at the end."""
        filled: dict[str, Any] = {}
        for name, member in self.members.items():
            value = given.get(name, MISSING)
            if isinstance(member, Section):
                value = member.default_value() if value is MISSING else value
                if isinstance(value, Mapping):
                    value = member.fill(value)
            elif value is MISSING and not member.is_secret:
                value = _fresh(member.default)
            if value is not MISSING:
                filled[name] = value
        filled.update((name, value) for name, value in given.items() if name not in self.members)
        return filled

    def default_value(self) -> Any:
        """Return what stands for this section when nothing is given: an object, null, or `MISSING`."""
        if self.default is not MISSING:
            return _fresh(self.default)
        if self.field is not None:
            return MISSING
        if self.required:
            return {}
        filled = self.fill({})
        return {} if filled and self._is_complete(filled) else MISSING

    def _is_complete(self, filled: Mapping[str, Any]) -> bool:
        for name in self.needs:
            member = self.members.get(name)
            if isinstance(member, Section):
                inner = filled.get(name, MISSING)
                if inner is MISSING or (isinstance(inner, Mapping) and not member._is_complete(inner)):
                    return False
            elif name not in filled and not (member and member.is_secret):
                return False
        return True


@dataclass(frozen=True, eq=False)
class Shape:
    """A compiled definition without its service's name.

    `schema` is the JSON Schema as published; nobody may change it. `items` holds the type of the
    items of those lists whose items are no strings.
    """

    title: str
    description: str
    dependencies: tuple[str, ...]
    schema: dict[str, Any]
    root: Section
    judge: Judge
    items: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """Every field by its dotted key, in order."""
        return MappingProxyType({leaf.key: leaf for leaf in self.root.leaves()})

    @cached_property
    def secrets(self) -> frozenset[str]:
        """The keys of the fields that are secret."""
        return frozenset(key for key, leaf in self.fields.items() if leaf.is_secret)

    @cached_property
    def sections(self) -> Mapping[str, Section]:
        """Every section but the root by its dotted key."""
        return {section.key: section for section in self.root.sections() if section.key}

    @cached_property
    def is_open(self) -> bool:
        """Tell whether members that are not known are allowed anywhere."""
        return any(section.is_open for section in self.root.sections())

    @cached_property
    def suffixes(self) -> Mapping[str, str]:
        """The part of a `.env` name after the service → the key."""
        return {env_part(key): key for key in self.fields}

    @cached_property
    def aliases(self) -> tuple[tuple[str, str], ...]:
        """Every alias with its key."""
        return tuple((alias, leaf.key) for leaf in self.fields.values() for alias in leaf.aliases)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the schema in canonical JSON, as 64 hex."""
        text = json.dumps(self.schema, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _fresh(default: Any) -> Any:
    """Return a default that nobody else can change."""
    return copy.deepcopy(default) if isinstance(default, (dict, list)) else default
