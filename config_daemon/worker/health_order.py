"""Which health message is the daemon's last word: what a reader believes of all that a broker shows. Pure.

Laws: messages are ordered by generation and number, never by when they arrive; a will, which was sealed when
its connection began, counts for that session alone and only while nothing newer was said.

Source: docs/protocol.md "Health".
"""

from __future__ import annotations

from config_daemon.wire.messages import Health

OFFLINE = "offline"


class HealthOrder:
    """Follows the verified health messages of one daemon; `current` is its last word."""

    def __init__(self) -> None:
        self.current: Health | None = None
        self._highest = (0, 0)
        self._session = ""

    def take(self, health: Health) -> bool:
        """Take a verified message; True when it is the last word from now on."""
        place = (health.generation, health.sequence)
        if health.event == OFFLINE and self.current is not None:
            counts = health.session == self._session
        else:
            counts = place > self._highest
        if counts:
            self.current = health
        if place > self._highest:
            self._highest, self._session = place, health.session
        return counts
