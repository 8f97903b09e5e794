"""A subscriber in a thread of its own, as a program's main thread would run it.

Laws: what the subscriber hands over, says, or dies of arrives in queues; nothing waits without a bound.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from config_daemon.wire.address import BrokerAddress
from config_daemon.worker.client import Link, Subscriber

SECONDS = 5.0


class Following:
    """Runs until the block ends; then `run` must have returned, whatever state it was in."""

    def __init__(
        self,
        url: str,
        filters: Sequence[str] = ("t/#",),
        receive: Callable[[str, bytes], bool] | None = None,
        *,
        ca_file: Path | None = None,
        client_id: str = "edge",
    ) -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.notes: queue.Queue[str] = queue.Queue()
        self.death: Exception | None = None
        link = Link(BrokerAddress.parse(url), client_id, ca_file=ca_file)
        self.subscriber = Subscriber(link, filters, receive or self._keep, note=self.notes.put)
        self.thread = threading.Thread(target=self._run, name="following", daemon=True)

    def next(self, seconds: float = SECONDS) -> tuple[str, bytes]:
        """Return the next message, as (topic, payload)."""
        return self.messages.get(timeout=seconds)

    def note(self, word: str, seconds: float = SECONDS) -> str:
        """Return the next note that has this word in it."""
        while word not in (note := self.notes.get(timeout=seconds)):
            pass
        return note

    def ended(self, seconds: float) -> bool:
        """Tell whether `run` returns within this time."""
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.subscriber.stop()
        assert self.ended(SECONDS + 1), "stop() did not end it"

    def _keep(self, topic: str, raw: bytes) -> bool:
        self.messages.put((topic, raw))
        return True

    def _run(self) -> None:
        try:
            self.subscriber.run()
        except Exception as error:
            self.death = error
