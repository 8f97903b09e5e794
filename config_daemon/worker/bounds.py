"""What a broker may make a worker keep in memory: one packet, what waits for the program, what it must acknowledge.

Laws: a packet that is longer than any of ours ends the connection before it is read; of what waits while the
program is at work, the newest of each topic counts, and all together is bounded.
"""

from __future__ import annotations

from paho.mqtt.client import Client
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from config_daemon.wire.tail import MAX_MESSAGE_BYTES

MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + (64 << 10)  # the longest topic, and numbers
MAX_WAITING_BYTES = 8 * MAX_PACKET_BYTES
MAX_QUEUED = 1000  # messages of ours that the broker has not acknowledged
_EACH_BYTES = 500  # what a message takes beside its content


def connect_properties() -> Properties:
    """Return what tells an MQTT 5 broker how long a packet may be."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    return properties


class BoundedClient(Client):
    """A client that leaves a broker which begins to send more than any message of ours has."""

    refusal = ""

    def _sock_recv(self, bufsize: int) -> bytes:
        # the one place through which all of a packet comes; websockets gather a whole frame before it
        frame = len(getattr(self._sock, "_readbuffer", b""))
        if max(bufsize, frame) > MAX_PACKET_BYTES:
            self.refusal = f"it sends more than {MAX_PACKET_BYTES} bytes at once"
            raise ConnectionAbortedError(self.refusal)
        return super()._sock_recv(bufsize)


class Inbound:
    """Messages that arrived, in the order in which they are to be handled."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, bytes]] = []
        self._bytes = 0

    def add(self, topic: str, raw: bytes, *, newest_only: bool = False) -> bool:
        """Take a message, perhaps in the place of earlier ones of its topic; False when there is no room."""
        if newest_only:
            for one in [one for one in self._messages if one[0] == topic]:
                self._messages.remove(one)
                self._bytes -= _size(*one)
        if self._bytes + _size(topic, raw) > MAX_WAITING_BYTES:
            return False
        self._messages.append((topic, raw))
        self._bytes += _size(topic, raw)
        return True

    def take(self) -> list[tuple[str, bytes]]:
        """Return all, and keep none."""
        messages, self._messages, self._bytes = self._messages, [], 0
        return messages


def _size(topic: str, raw: bytes) -> int:
    return len(topic) + len(raw) + _EACH_BYTES
