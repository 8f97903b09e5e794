"""A paho client that moves its bytes in pieces of a fair size: paho itself asks for one byte, then for one more.

Laws: what is said stays in its order; at most a piece is kept back, and only while its owner gathers; nothing that
was read ahead is forgotten, since no selector would tell of it.
"""

from __future__ import annotations

import contextlib
from typing import Literal

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

PIECE_BYTES = 16384
_MID_BYTES = 2  # MQTT 5.0 §3.4.2: a PUBACK of a success may hold nothing else
_SUCCESS = ReasonCode(PacketTypes.PUBACK)
_NO_PROPERTIES = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]


class BatchingClient(Client):
    """Reads ahead; writes at once, or together what is written while `gathers`."""

    gathers = False
    _ahead, _place = b"", 0
    _gathered = b""

    @property
    def has_ahead(self) -> bool:
        """Tell whether bytes were read that no packet has been made of yet."""
        return self._place < len(self._ahead)

    def want_write(self) -> bool:
        """Tell whether anything waits to be written."""
        return bool(self._gathered) or super().want_write()

    def loop_write(self) -> MQTTErrorCode:
        """Write what waits, as far as the other side takes it; what is gathered waits for its owner."""
        if not self.gathers:
            self.flush()
        return super().loop_write()

    def flush(self) -> None:
        """Write what was gathered, as far as the other side takes it; that a connection broke shows when it is read."""
        with contextlib.suppress(OSError):
            self._flush()

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self.has_ahead:
            if bufsize >= PIECE_BYTES:
                return super()._sock_recv(bufsize)
            self._ahead, self._place = super()._sock_recv(PIECE_BYTES), 0
        piece = self._ahead[self._place : self._place + bufsize]
        self._place += len(piece)
        return piece

    def _sock_send(self, buf: bytes | bytearray) -> int:
        if not self.gathers or len(self._gathered) >= PIECE_BYTES:
            self._flush()
        if not self.gathers:
            return super()._sock_send(buf)
        self._gathered += buf
        return len(buf)

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        # paho makes a table of all properties and looks the reason up by its name, of which an ordinary one has none
        packet = self._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) != _MID_BYTES:
            return super()._handle_pubackcomp(cmd)
        mid = int.from_bytes(packet)
        with self._out_message_mutex:
            if mid in self._out_messages:
                return self._do_on_publish(mid, _SUCCESS, _NO_PROPERTIES)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _flush(self) -> None:
        while self._gathered:
            sent = super()._sock_send(self._gathered)
            if not sent:  # a frame of a websocket counts when all of it is gone
                raise BlockingIOError
            self._gathered = self._gathered[sent:]

    def _sock_close(self) -> None:
        self.flush()  # a good-bye may be among it
        super()._sock_close()
