"""What is on its way to the broker, and how much more may follow.

Laws: one message in flight per topic, so that none overtakes another; a window over all, so that one
turn of the loop stays short; one message per 50 ms and topic after the first, the last one wins.
"""

from __future__ import annotations

WINDOW = 200
PACE_SECONDS = 0.05
PUBACK_SECONDS, SLOWEST_BYTES_PER_SECOND = 10.0, 4096.0
LONG_SECONDS = 60.0


class Traffic:
    """The messages of one connection that wait for their PUBACK, and the topics that were sent to just now."""

    def __init__(self) -> None:
        self._in_flight: dict[int, tuple[str, int, float, int]] = {}
        self._bytes = 0
        self._busy: set[str] = set()
        self._recent: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many messages are in flight."""
        return len(self._in_flight)

    @property
    def has_window(self) -> bool:
        """Tell whether any message may follow."""
        return len(self._in_flight) < WINDOW

    def free(self, topic: str) -> bool:
        """Tell whether nothing is in flight on the topic, whatever the pace."""
        return self.has_window and topic not in self._busy

    def room(self, topic: str, now: float) -> bool:
        """Tell whether a message to the topic may follow right now."""
        self._forget(now)
        return self.free(topic) and topic not in self._recent

    def next_room(self, now: float) -> float:
        """Return in how many seconds the pace lets the next topic go; a long time when it holds none back."""
        self._forget(now)
        oldest = next(iter(self._recent.values()), None)
        return LONG_SECONDS if oldest is None else max(0.0, oldest + PACE_SECONDS - now)

    def _forget(self, now: float) -> None:
        while self._recent and now - (oldest := next(iter(self._recent.items())))[1] >= PACE_SECONDS:
            del self._recent[oldest[0]]

    def is_overdue(self, now: float) -> bool:
        """Tell whether the oldest message waits for longer than even a slow line explains."""
        oldest = next(iter(self._in_flight.values()), None)
        return (
            oldest is not None and now - oldest[2] > PUBACK_SECONDS + self._bytes / SLOWEST_BYTES_PER_SECOND
        )

    def sent(self, request: int, topic: str, number: int, now: float, size_bytes: int) -> None:
        """Note that a message left; `request` is how its PUBACK will call it."""
        self._in_flight[request] = (topic, number, now, size_bytes)
        self._bytes += size_bytes
        self._busy.add(topic)
        self._recent.pop(topic, None)  # the order of insertion is the order of time
        self._recent[topic] = now

    def acked(self, request: int) -> tuple[str, int]:
        """Note a PUBACK; return the topic and number that it is for."""
        topic, number, _, size_bytes = self._in_flight.pop(request, ("", 0, 0.0, 0))
        self._bytes -= size_bytes
        self._busy.discard(topic)
        return topic, number
