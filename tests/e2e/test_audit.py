"""The heads of the audit chains on the real beacon, and what is told when a chain was rewritten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.broker_fixtures import ClientFactory
from tests.e2e.house import House, until
from tests.e2e.test_weather import conditions
from tests.fleet_host import by_hand
from tests.raw_client import Message, RawClient

BEACON = "system/trust/beacon"


def beacon_with(client: RawClient, service: str) -> dict[str, Any]:
    """Wait until a beacon lists a service; return it."""

    def look(messages: Sequence[Message]) -> dict[str, Any] | None:
        shown = [json.loads(message.payload) for message in messages if message.topic == BEACON]
        return shown[-1] if shown and service in shown[-1]["services"] else None

    return client.wait_for(look)  # type: ignore[return-value]


def test_the_beacon_carries_the_heads_until_a_chain_is_rewritten(
    house: House, raw_client: ClientFactory
) -> None:
    house.daemon()
    client = raw_client(house.broker_url)
    client.subscribe(BEACON)
    house.set("stt-worker", vad_threshold=0.1)
    first = beacon_with(client, "stt-worker")
    verified = json.loads(house.cli("audit", "verify", "--json")[1])
    assert first["audit"]["history"] == [verified["history"]["count"], verified["history"]["head"]]
    by_hand(
        house.files.database, "DELETE FROM config_history WHERE id = (SELECT max(id) FROM config_history)"
    )
    house.set("router", router_llm_tts_stream=False)
    assert "audit" not in beacon_with(client, "router")
    until(lambda: "history-rewritten" in conditions(house), "the condition")
