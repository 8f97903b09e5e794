"""Short work beside the loop, for what would keep it waiting.

Laws: such work touches nothing of the loop's and ends in one `inbox.put`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol


class Work(Protocol):
    """Work that was started."""

    def join(self, timeout: float | None = None) -> None: ...  # noqa: D102


def in_thread(work: Callable[[], None]) -> Work:
    """Start work in a thread of its own."""
    thread = threading.Thread(target=work, name="work", daemon=True)
    thread.start()
    return thread
