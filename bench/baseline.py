"""The baseline: one long-lived paho publisher, unsigned, MQTT 5, QoS 1, retained, TCP_NODELAY.

Laws: its messages have the size of ours and go to as many topics of the same depth; the clock starts
before the first `publish`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from bench.receiver import connected
from bench.scene import BASELINE_PREFIX

FILTER = f"{BASELINE_PREFIX}/config/+"
# Without a limit paho is fastest here (7 000 messages a second; 5 000 with 100, 4 000 with its default of 20),
# and the fastest baseline is the hardest one.
IN_FLIGHT = 0


class Publisher:
    """A connected paho client with its network thread."""

    def __init__(self, url: str) -> None:
        self._client = connected(url, "bench-plain-publisher", IN_FLIGHT)
        self._client.loop_start()

    def publish(self, services: Sequence[str], payload: bytes) -> int:
        """Publish one message for each service; return when that began (monotonic, ns)."""
        topics = [f"{BASELINE_PREFIX}/config/{service}" for service in services]
        began = time.monotonic_ns()
        for topic in topics:
            self._client.publish(topic, payload, qos=1, retain=True)
        return began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
