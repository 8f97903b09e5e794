"""What a broker may make a worker keep in memory: one packet, what waits for the program, what it must acknowledge.

Laws: a packet that is longer than any of ours ends the connection before it is read; of what waits while the
program is at work, the newest of each topic counts, and all together is bounded; one turn takes a bounded number
of bytes off the connection, in few reads, and acknowledges all that it took in one go: several at once, so that
the broker sends more meanwhile, one that came alone in the next turn, because to send is half of what it costs.
"""

from __future__ import annotations

import io
import select
import struct
import time
from typing import Any, NoReturn

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MessageType, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from config_daemon.wire.tail import MAX_MESSAGE_BYTES

MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + (64 << 10)  # the longest topic, and numbers
MAX_WAITING_BYTES = 8 * MAX_PACKET_BYTES
MAX_TURN_BYTES = 64 << 10  # a longer packet takes several turns
CARE_SECONDS = 1.0
MAX_QUEUED = 1000  # messages of ours that the broker has not acknowledged
_READ_BYTES = 64 << 10  # at once: of messages of usual length dozens
_QOS, _QOS_1 = 0x06, 0x02  # in a packet's first byte
_TOO_LONG = f"it sends more than {MAX_PACKET_BYTES} bytes at once"
_PUBACK = struct.Struct("!BBH")  # of a success: no reason, no properties
_EACH_BYTES = 500  # what a message takes beside its content


def connect_properties() -> Properties:
    """Return what tells an MQTT 5 broker how long a packet may be."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    return properties


class BoundedClient(Client):
    """A client that leaves a broker which sends more than any message of ours has, or more than we asked for.

    It is moved by `move` and by nothing else of paho's loops.
    """

    refusal = ""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._ahead, self._ahead_bytes, self._left_bytes = io.BytesIO(), 0, 0
        self._acknowledged: list[int] = []
        self._cared_at = 0.0

    def move(self, seconds: float) -> MQTTErrorCode:
        """Wait for packets, read what has come up to a bound, and send what is to be sent."""
        is_due = bool(self._acknowledged)
        is_readable = self._wait(0.0 if is_due else seconds)
        result = MQTTErrorCode.MQTT_ERR_SUCCESS
        self._left_bytes = MAX_TURN_BYTES
        while result == MQTTErrorCode.MQTT_ERR_SUCCESS and is_readable:
            result = self.loop_read()
            is_readable = self._ahead_bytes > 0 and self._left_bytes > 0
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS and (is_due or len(self._acknowledged) > 1):
            result = self._acknowledge()
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS and self.want_write():
            result = self.loop_write()
        return self._care() if result == MQTTErrorCode.MQTT_ERR_SUCCESS else result

    def _care(self) -> MQTTErrorCode:
        """Have paho mind its keepalive; while something waits to be handled, only now and then."""
        now = time.monotonic()
        if self._acknowledged and now - self._cared_at < CARE_SECONDS:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        self._cared_at = now
        return self.loop_misc()

    def _wait(self, seconds: float) -> bool:
        """Wait until there is something to read (True) or until what waits can be written."""
        socket: Any = self.socket()
        # whoever reads where there is no socket any more is told so; TLS keeps bytes that no socket shows
        if socket is None or self._ahead_bytes > 0 or (hasattr(socket, "pending") and socket.pending() > 0):
            return True
        writing = (socket,) if self.want_write() else ()
        return bool(select.select((socket,), writing, (), seconds)[0])

    def _sock_recv(self, bufsize: int) -> bytes:
        # the one place through which all of a packet comes
        if bufsize > MAX_PACKET_BYTES:
            self._refuse(_TOO_LONG)
        if self._left_bytes <= 0:
            raise BlockingIOError
        if self._ahead_bytes == 0:
            self._read_ahead()
        taken = self._ahead.read(bufsize)
        self._ahead_bytes -= len(taken)
        self._left_bytes -= len(taken)
        return taken

    def _read_ahead(self) -> None:
        # websockets gather a whole frame before it
        if len(getattr(self._sock, "_readbuffer", b"")) > MAX_PACKET_BYTES:
            self._refuse(_TOO_LONG)
        data = super()._sock_recv(_READ_BYTES)
        self._ahead, self._ahead_bytes = io.BytesIO(data), len(data)

    def _refuse(self, why: str) -> NoReturn:
        self.refusal = why
        raise ConnectionAbortedError(why)

    def _handle_publish(self) -> MQTTErrorCode:
        # half of paho's own work on an ordinary message is a table of all properties, of which it has none, and
        # a search for callbacks by topic, which nobody here sets
        packet = self._in_packet["packet"]
        topic_end = 2 + int.from_bytes(packet[:2])
        properties_at = topic_end + 2
        if (
            self._protocol != MQTTProtocolVersion.MQTTv5
            or self._in_packet["command"] & _QOS != _QOS_1
            or packet[properties_at : properties_at + 1] != b"\0"
        ):
            return super()._handle_publish()
        message = MQTTMessage(int.from_bytes(packet[topic_end:properties_at]), bytes(packet[2:topic_end]))
        message.payload = bytes(packet[properties_at + 1 :])
        assert self.on_message is not None
        self.on_message(self, self._userdata, message)
        return self._send_puback(message.mid)

    def _send_pubrec(self, mid: int) -> MQTTErrorCode:
        # paho keeps such a message until the broker says more, as many as there are numbers; we ask for QoS 1
        self._refuse("it sends at QoS 2, which nobody asked for")

    def _send_puback(self, mid: int) -> MQTTErrorCode:
        self._acknowledged.append(mid)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _acknowledge(self) -> MQTTErrorCode:
        mids, self._acknowledged = self._acknowledged, []
        packets = b"".join([_PUBACK.pack(MessageType.PUBACK, 2, mid) for mid in mids])
        return self._packet_queue(MessageType.PUBACK, packets, mids[-1], 1)


class Inbound:
    """Messages that arrived, in the order in which they are to be handled."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, bytes]] = []
        self._topics: set[str] = set()
        self._bytes = 0

    def add(self, topic: str, raw: bytes, *, newest_only: bool = False) -> bool:
        """Take a message, perhaps in the place of earlier ones of its topic; False when there is no room."""
        if newest_only and topic in self._topics:
            for one in [one for one in self._messages if one[0] == topic]:
                self._messages.remove(one)
                self._bytes -= _size(*one)
        if self._bytes + _size(topic, raw) > MAX_WAITING_BYTES:
            return False
        self._messages.append((topic, raw))
        self._topics.add(topic)
        self._bytes += _size(topic, raw)
        return True

    def take(self) -> list[tuple[str, bytes]]:
        """Return all, and keep none."""
        messages, self._messages, self._bytes = self._messages, [], 0
        self._topics.clear()
        return messages


def _size(topic: str, raw: bytes) -> int:
    return len(topic) + len(raw) + _EACH_BYTES
