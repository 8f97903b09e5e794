"""What a stranger on the wire sees of a daemon: every message as it came, health parsed from its bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.e2e.house import SECONDS
from tests.raw_client import RawClient

CONFIG, HEALTH = "system/config/", "system/health/config-daemon"
SERVICES = ("stt-worker", "tts-worker")


class Said(NamedTuple):
    """The five members of a health message that tell a state of the decision table."""

    database_status: str
    operational_mode: str
    ok: bool
    lkg_cache_valid: bool
    event: str


class Wire:
    """Subscribed to everything; `connect` makes one more client."""

    def __init__(self, connect: Callable[[], RawClient]) -> None:
        self._connect = connect
        self.client = connect()
        self.client.subscribe("system/#")

    @property
    def healths(self) -> list[dict[str, Any]]:
        """Return every health message so far, wills and farewells too."""
        return [json.loads(m.payload) for m in list(self.client.messages) if m.topic == HEALTH and m.payload]

    @property
    def said(self) -> list[Said]:
        """Return what health said so far, each change once."""
        told = [Said(**{name: health[name] for name in Said._fields}) for health in self.healths]
        return [one for index, one in enumerate(told) if index == 0 or told[index - 1] != one]

    def until_says(self, expected: Said, since: int = 0, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait for a change to this state; return the message, which is the one that the broker retains."""

        def look(_messages: object) -> dict[str, Any] | None:
            told = self.said
            return self.healths[-1] if len(told) > since and told[-1] == expected else None

        try:
            health: dict[str, Any] | None = self.client.wait_for(look, seconds)
        except AssertionError as error:
            raise AssertionError(f"health never said {expected}; it said {self.said[since:]}") from error
        assert health is not None
        kept = json.loads(self.retained(HEALTH))
        assert kept["session"] == health["session"] and kept["sequence"] >= health["sequence"]
        assert Said(**{name: kept[name] for name in Said._fields}) == expected, "what the broker retains"
        return health

    def configs(self, service: str) -> list[bytes]:
        """Return every config of a service that was seen, the retained one at first, each change once."""
        seen = [m.payload for m in list(self.client.messages) if m.topic == CONFIG + service]
        return [raw for index, raw in enumerate(seen) if index == 0 or seen[index - 1] != raw]

    def retained(self, topic: str) -> bytes:
        """Return what the broker retains on a topic now."""
        client = self._connect()
        try:
            client.subscribe(topic)
            return bytes(client.wait_for_topic(topic).payload)
        finally:
            client.close()

    def all_retained(self, but: tuple[str, ...] = (HEALTH,)) -> dict[str, bytes]:
        """Return everything that the broker retains now, by topic; its end is a message of our own."""
        client = self._connect()
        try:
            client.subscribe("system/#", "end")
            client.publish("end", b"x")
            client.wait_for_topic("end")
            return {m.topic: m.payload for m in client.messages if m.retain and m.topic not in but}
        finally:
            client.close()

    def put(self, retained: dict[str, bytes]) -> None:
        """Have the broker retain these messages."""
        for topic, raw in retained.items():
            self.client.publish(topic, raw, retain=True)
