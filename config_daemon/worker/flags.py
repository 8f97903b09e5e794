"""What a person should know about how each service is served, and whether it was told already.

Laws: a flag stops nothing; one that comes or goes is told, also when no message arrives.

Source: docs/protocol.md "Fresh, stale, frozen".
"""

from __future__ import annotations

from collections.abc import Callable

from config_daemon.worker.trust import RETIRED, REVOKED

Now = Callable[[str], tuple[str, ...]]


class Flags:
    """Flags that last, by service; `now` adds those that follow from the time."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._lasting: dict[str, tuple[str, ...]] = {}
        self._said: dict[str, tuple[str, ...]] = {}

    def begin(self, service: str, *, has_floor: bool, is_lost: bool) -> None:
        """Set the flags of a start; they are told with the first message."""
        unconfirmed = () if has_floor else ("unconfirmed",)
        self._lasting[service] = (*unconfirmed, "floor-lost") if is_lost else unconfirmed
        self._said[service] = self._lasting[service]

    def signer(self, service: str, flag: str | None) -> None:
        """Say of what runs how its signer would be judged today."""
        others = (one for one in self._lasting[service] if one not in (RETIRED, REVOKED))
        self._lasting[service] = (*others, flag) if flag else tuple(others)

    def confirmed(self, service: str) -> None:
        """Take back that nobody knows whether something newer exists."""
        self._lasting[service] = tuple(flag for flag in self._lasting[service] if flag != "unconfirmed")

    def all(self, service: str) -> tuple[str, ...]:
        """Return all flags of a service as they are now."""
        return tuple(dict.fromkeys((*self._lasting.get(service, ()), *self._now(service))))

    def say(self, service: str) -> tuple[str, ...]:
        """Return them for a report."""
        self._said[service] = self.all(service)
        return self._said[service]

    def is_news(self, service: str) -> bool:
        """Tell whether they are others than those of the last report."""
        return service in self._lasting and self.all(service) != self._said[service]
