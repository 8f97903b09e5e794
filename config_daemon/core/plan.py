"""What the broker does not hold yet: for every service, what is wanted against what was confirmed.

Laws: a service is behind when the fingerprint of its last seal is not the wanted one (then it is
sealed anew) or when the broker has not confirmed those bytes (then exactly those bytes go again);
nothing is ever wanted that could not be trusted; the cost follows what changed, not how much there is.

Numbers, signatures and sockets are somebody else's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from config_daemon.wire.sealing import TAIL_BYTES


class Fingerprint(NamedTuple):
    """What makes two seals of one service the same message: all but number and time."""

    config_sha256: bytes
    config_version: int
    epoch: str
    generation: int
    key_id: str
    deleted: bool


class Sealed(NamedTuple):
    """The last message sealed for a service: its exact bytes."""

    raw: bytes
    sequence: int
    fingerprint: Fingerprint

    @property
    def body_sha256(self) -> str:
        """Return the digest of the body, by which a worker's floor names this message."""
        return hashlib.sha256(self.raw[:-TAIL_BYTES] + b"}").hexdigest()


@dataclass(slots=True)
class Service:
    """One service: `config` holds the wanted bytes until they are sealed, `state` says why it is held back."""

    wanted: Fingerprint | None = None
    config: bytes = b""
    sealed: Sealed | None = None
    confirmed: bool = False
    state: str = ""


@dataclass(slots=True)
class Plan:
    """Every service, and the ones that are behind, in the order in which they fell behind."""

    services: dict[str, Service] = field(default_factory=dict)
    _behind: dict[str, None] = field(default_factory=dict)

    def want(
        self,
        service: str,
        config: bytes,
        version: int,
        epoch: str,
        signer: tuple[int, str],
        deleted: bool = False,
    ) -> None:
        """Name the config that the broker should hold; `signer` is (generation, key id)."""
        entry = self.services.setdefault(service, Service())
        entry.wanted = Fingerprint(hashlib.sha256(config).digest(), version, epoch, *signer, deleted)
        entry.config, entry.state = config, ""
        self._judge(service, entry)

    def hold_back(self, service: str, state: str) -> None:
        """Stop wanting anything for a service: the broker keeps what it holds; `state` says why."""
        entry = self.services.setdefault(service, Service())
        entry.wanted, entry.config, entry.state = None, b"", state
        self._judge(service, entry)

    def forget(self, service: str) -> None:
        """Drop a service of which nothing is known or published any more."""
        self.services.pop(service, None)
        self._behind.pop(service, None)

    def remember(self, service: str, sealed: Sealed, confirmed: bool = False) -> None:
        """Record the last seal of a service: just made, or read back from the cache."""
        entry = self.services.setdefault(service, Service())
        entry.sealed, entry.confirmed = sealed, confirmed
        self._judge(service, entry)

    def confirm(self, service: str, sequence: int) -> bool:
        """Record that the broker holds the seal with this number; False when it is no longer the last."""
        entry = self.services.get(service)
        if entry is None or entry.sealed is None or entry.sealed.sequence != sequence:
            return False
        entry.confirmed, entry.state = True, "" if entry.state in ("denied", "too-large") else entry.state
        self._judge(service, entry)
        return True

    def doubt(self, service: str, state: str = "") -> None:
        """Record that the broker may not hold the last seal: it was denied, replaced, or the link broke."""
        entry = self.services.get(service)
        if entry is not None:
            entry.confirmed, entry.state = False, state or entry.state
            self._judge(service, entry)

    def seal_anew(self, service: str) -> None:
        """Give up the last seal of a service; it wants nothing until its content is read again."""
        entry = self.services[service]
        entry.sealed, entry.confirmed, entry.wanted = None, False, None
        self._judge(service, entry)

    def behind(self) -> Iterator[tuple[str, Service]]:
        """Yield the services to send, oldest first; the plan may change while this runs."""
        for service in list(self._behind):
            entry = self.services.get(service)
            if entry is not None and service in self._behind:
                yield service, entry

    def __len__(self) -> int:
        """Return how many services are behind."""
        return len(self._behind)

    def _judge(self, service: str, entry: Service) -> None:
        if is_behind(entry):
            self._behind.setdefault(service)
        else:
            self._behind.pop(service, None)
            entry.config = b""


def is_behind(entry: Service) -> bool:
    """Tell whether the broker lacks what is wanted."""
    return entry.wanted is not None and not (must_keep(entry) and entry.confirmed)


def must_keep(entry: Service) -> bool:
    """Tell whether the last seal still says what is wanted, so that its own bytes are the ones to send."""
    return entry.sealed is not None and entry.sealed.fingerprint == entry.wanted
