"""One service's definition: a shape, and the name that makes its errors speak of this service.

Laws: `check` never raises, and its errors come in the order of the fields; what is absent is judged
absent, so that a required value is reported where it belongs; an absent secret is not reported.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from config_daemon.catalog import coercion
from config_daemon.catalog.complaints import locate, tell
from config_daemon.catalog.definition import SEGMENT, Field
from config_daemon.catalog.shape import (
    INVALID_VALUE,
    MISSING_FIELD,
    UNKNOWN_KEY,
    WRONG_TYPE,
    Finding,
    Path,
    Section,
    Shape,
)
from config_daemon.catalog.sound import sift
from config_daemon.errors import ErrorContext

_TOLD: Final = 100  # a person mends no more at once, and each costs a search for what was meant
_MEND_FIRST: Final = "Mend the problems above first."


@dataclass(frozen=True, slots=True)
class ServiceDefinition:
    """A `Definition`; services whose schemas are the same share one shape."""

    service: str
    shape: Shape

    @property
    def title(self) -> str:
        """A short name for people; the service's own name where the schema gives none."""
        return self.shape.title or self.service

    @property
    def description(self) -> str:
        """What the service is."""
        return self.shape.description

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The services that this one needs."""
        return self.shape.dependencies

    @property
    def fields(self) -> Mapping[str, Field]:
        """Every field by its dotted key, in the order of the definition."""
        return self.shape.fields

    @property
    def secrets(self) -> frozenset[str]:
        """The keys of the fields that are secret."""
        return self.shape.secrets

    def schema(self) -> dict[str, Any]:
        """Return a copy of the JSON Schema."""
        return copy.deepcopy(self.shape.schema)

    def effective(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return `values` laid over the defaults, nested, without judging them."""
        return self.shape.root.fill(values)

    def check(self, values: Mapping[str, Any]) -> tuple[ErrorContext, ...]:
        """Return every problem of a complete effective config at once."""
        if not isinstance(values, (dict, Mapping)):
            wrong = Finding(WRONG_TYPE, (), expected="an object")
            return (tell(wrong, self.service, self.shape, values),)
        sound, findings = sift(values)
        set_aside = [finding.path for finding in findings]
        if () not in set_aside:
            findings += _misnamed(self.shape.root, sound) if self.shape.is_open else ()
            findings += _missing_told_once(self.shape.judge(sound), set_aside, self.shape)
        if not findings:
            return ()
        if len(findings) > _TOLD:
            more = f"has {len(findings) - _TOLD} more problems"
            findings = [*findings[:_TOLD], Finding(INVALID_VALUE, (), message=more, suggestion=_MEND_FIRST)]
        told = (tell(finding, self.service, self.shape, values) for finding in findings)
        return tuple(sorted(dict.fromkeys(told), key=self._place))

    def coerce(self, key: str, text: str) -> Any:
        """Return the value that `text` means for `key`.

        Raises: InvalidConfig.
        """
        return coercion.coerce(text, key, self.service, self.shape)

    def _place(self, context: ErrorContext) -> int:
        for place, key in enumerate(self.shape.fields):
            if key == context.failed_field:
                return place
        return len(self.shape.fields)


def _misnamed(section: Section, values: Mapping[str, Any], path: Path = ()) -> Iterator[Finding]:
    """Yield the members that an open section would let pass though no key can name them."""
    for name, value in values.items():
        member = section.members.get(name)
        if isinstance(member, Section) and isinstance(value, Mapping):
            yield from _misnamed(member, value, (*path, name))
        elif member is None and section.is_open and not SEGMENT.fullmatch(name):
            yield Finding(
                UNKNOWN_KEY,
                (*path, name),
                message="cannot be a key",
                suggestion="Use lower-case letters, digits and _, letter first.",
            )


def _missing_told_once(findings: Iterable[Finding], set_aside: list[Path], shape: Shape) -> Iterator[Finding]:
    """Yield findings; a missing section becomes its missing fields, absent secrets and known gaps go."""
    for finding in findings:
        if finding.code != MISSING_FIELD:
            yield finding
            continue
        if finding.path in set_aside:
            continue
        key, field, rest = locate(finding.path, shape)
        if rest or key not in shape.sections:
            if field is None or not field.is_secret or rest:
                yield finding
            continue
        section = shape.sections[key]
        below = list(_required_below(section))
        if section.field is not None or not below:
            yield finding
            continue
        for path, secret in below:
            if not secret:
                yield Finding(MISSING_FIELD, (*finding.path, *path))


def _required_below(section: Section) -> Iterator[tuple[Path, bool]]:
    """Yield the path of each leaf that a given section must have, and whether it is a secret."""
    for name, member in section.members.items():
        if name not in section.needs:
            continue
        if isinstance(member, Section) and member.field is None:
            for path, secret in _required_below(member):
                yield (name, *path), secret
        else:
            yield (name,), isinstance(member, Field) and member.is_secret
