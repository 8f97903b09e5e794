"""Messages that nobody verified: anybody may send them, as many as they like.

Laws: of one reason a line a minute is logged, with how many there were; what is kept in memory does not grow
with their number.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable

TELL_SECONDS = 60.0


class Refusals:
    """Counts what is refused, by its kind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at: dict[Hashable, float] = {}
        self._counts: Counter[Hashable] = Counter()

    def count(self, kind: Hashable) -> int:
        """Count one more; return how many there were since some were told, 0 while it is too early to tell again."""
        self._counts[kind] += 1
        now = self._clock()
        if now < self._told_at.get(kind, float("-inf")) + TELL_SECONDS:
            return 0
        self._told_at[kind] = now
        return self._counts.pop(kind)
