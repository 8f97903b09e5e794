"""What the broker does not hold yet: for every service, what is wanted against what was confirmed.

Laws: a service is behind when the fingerprint of its last seal is not the wanted one (then it is
sealed anew) or when the broker has not confirmed those bytes (then exactly those bytes go again);
nothing is ever wanted that could not be trusted; the cost follows what changed, not how much there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from config_daemon.core.sealed import Fingerprint, Sealed


@dataclass(slots=True)
class Service:
    """One service: `config` holds the wanted bytes until they are sealed, `version` is the row's as last read.

    `held` is the seal before, which the broker confirmed, while the last one is not confirmed yet; `kept` the
    last one that it ever confirmed, whatever became of it there.
    """

    wanted: Fingerprint | None = None
    config: bytes = b""
    version: int = 0
    sealed: Sealed | None = None
    confirmed: bool = False
    held: Sealed | None = None
    kept: Sealed | None = None


@dataclass(slots=True)
class Plan:
    """Every service, and the ones that are behind, in the order in which they fell behind."""

    services: dict[str, Service] = field(default_factory=dict)
    _behind: dict[str, None] = field(default_factory=dict)
    _followers: list[set[str]] = field(default_factory=list)

    def follow(self) -> set[str]:
        """Return a set of all names, to which every service that changes is added; its one reader empties it."""
        self._followers.append(set(self.services))
        return self._followers[-1]

    def want(self, service: str, config: bytes, wanted: Fingerprint) -> None:
        """Name the config that the broker should hold."""
        entry = self.services.setdefault(service, Service())
        if entry.sealed and entry.sealed.fingerprint == wanted:
            wanted = entry.sealed.fingerprint  # one object for both, of which there may be many
        entry.wanted, entry.config, entry.version = wanted, config, wanted.config_version
        self._judge(service, entry)

    def hold_back(self, service: str, version: int) -> None:
        """Want nothing new for a service: its last sealed bytes, if any, stay the ones to hold."""
        entry = self.services.setdefault(service, Service())
        entry.wanted, entry.config, entry.version = None, b"", version
        self._judge(service, entry)

    def forget(self, service: str) -> None:
        """Drop a service of which nothing is known or published any more."""
        self.services.pop(service, None)
        self._judge(service, Service())

    def remember(self, service: str, sealed: Sealed, cached: bool = False) -> None:
        """Record the last seal of a service: just made, or read from the cache; not confirmed yet."""
        entry = self.services.setdefault(service, Service())
        entry.held = entry.sealed if entry.confirmed else entry.held
        entry.sealed, entry.confirmed, entry.kept = sealed, False, sealed if cached else entry.kept
        entry.version = max(entry.version, sealed.fingerprint.config_version)
        self._judge(service, entry)

    def confirm(self, service: str, sequence: int) -> bool:
        """Record that the broker holds the seal with this number; False when it is not the last one."""
        entry = self.services.get(service)
        if entry is None or entry.sealed is None or entry.sealed.sequence != sequence:
            return False
        entry.confirmed, entry.held, entry.kept = True, None, entry.sealed
        self._judge(service, entry)
        return True

    def doubt(self, service: str) -> None:
        """Record that the broker may not hold the last seal any more."""
        entry = self.services.get(service)
        if entry is not None and entry.confirmed:
            entry.confirmed = False
            self._judge(service, entry)

    def doubt_all(self) -> None:
        """Record that the link broke: nothing is known of what the broker holds."""
        for service, entry in self.services.items():
            entry.confirmed = False
            self._judge(service, entry)

    def seal_anew(self, service: str) -> None:
        """Give up the last seal of a service; nothing is wanted until its content is read again."""
        entry = self.services[service]
        entry.sealed = entry.held = entry.wanted = None
        entry.confirmed = False
        self._judge(service, entry)

    def behind(self) -> Iterator[tuple[str, Service]]:
        """Yield the services to send, oldest first; the plan may change while this runs."""
        for service in list(self._behind):
            if service in self._behind:
                yield service, self.services[service]

    def __len__(self) -> int:
        """Return how many services are behind."""
        return len(self._behind)

    def _judge(self, service: str, entry: Service) -> None:
        for names in self._followers:
            names.add(service)
        if is_behind(entry):
            self._behind.setdefault(service)
        else:
            self._behind.pop(service, None)
            entry.config = b""


def is_behind(entry: Service) -> bool:
    """Tell whether the broker lacks what it should hold."""
    return not (entry.confirmed and must_keep(entry)) and (
        entry.wanted is not None or entry.sealed is not None
    )


def must_keep(entry: Service) -> bool:
    """Tell whether the bytes of the last seal are the ones to hold, so that exactly these are sent."""
    return entry.sealed is not None and entry.wanted in (None, entry.sealed.fingerprint)
