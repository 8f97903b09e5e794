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
# paho's own limit; measured on this machine: unlimited is no faster with a stock mosquitto, and 20 (the
# default) is what a user of paho gets who sets nothing
IN_FLIGHT = 100


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
