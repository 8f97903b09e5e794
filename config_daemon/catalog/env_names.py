"""Every name that sets a service's value in `.env`, and the guard that no name means two things.

Laws: prefixed names are found by taking them apart, so ten thousand services need no table; only
aliases are written down. One name never means two keys: who comes second is told which name it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from config_daemon.catalog.definition import env_name, env_part
from config_daemon.catalog.service import ServiceDefinition

Place = tuple[str, str]


class EnvNames(Mapping[str, Place]):
    """Name in `.env` → (service, key), for the services that `lookup` knows at the moment."""

    __slots__ = ("_aliases", "_lookup", "_services")

    def __init__(
        self,
        lookup: Callable[[str], ServiceDefinition | None],
        services: Callable[[], list[str]],
        aliases: dict[str, Place],
    ) -> None:
        self._lookup, self._services, self._aliases = lookup, services, aliases

    def __getitem__(self, name: str) -> Place:
        if name in self._aliases:
            return self._aliases[name]
        for place in self.prefixed(name):
            return place
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        for service in self._services():
            definition = self._lookup(service)
            if definition is not None:
                yield from (env_name(service, key) for key in definition.fields)
        yield from self._aliases

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def prefixed(self, name: str) -> Iterator[Place]:
        """Yield what a prefixed name can mean; more than one only where names hold `--` or `__`."""
        cut = name.find("__")
        while cut > 0:
            service = name[:cut].lower().replace("_", "-")
            definition = self._lookup(service) if env_part(service) == name[:cut] else None
            key = definition.shape.suffixes.get(name[cut + 2 :]) if definition else None
            if key is not None:
                yield service, key
            cut = name.find("__", cut + 1)

    def conflicts(self, definition: ServiceDefinition) -> Iterator[str]:
        """Yield, for people, each name that this definition and another one would share.

        The definition may be known to `lookup` already or not; its own places are no conflict.
        """
        service, shape = definition.service, definition.shape
        for alias, key in shape.aliases:
            here = (service, key)
            for other in (self._aliases.get(alias), *self.prefixed(alias)):
                if other is not None and other != here:
                    yield f"{alias} would set both {other[0]} {other[1]} and {service} {key}"
        start = env_part(service) + "__"
        for alias, other in self._aliases.items():
            meant = shape.suffixes.get(alias[len(start) :]) if alias.startswith(start) else None
            if meant is not None and other != (service, meant):
                yield f"{alias} would set both {other[0]} {other[1]} and {service} {meant}"
        for suffix, key in shape.suffixes.items():
            if "__" in suffix or "__" in start[:-2]:
                for other in self.prefixed(start + suffix):
                    if other != (service, key):
                        yield f"{start}{suffix} would set both {other[0]} {other[1]} and {service} {key}"
