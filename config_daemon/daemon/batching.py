"""A paho client that moves its bytes in pieces of a fair size: paho itself asks for one byte, then for one more.

Laws: what is said stays in its order; at most a piece is kept back, and only while its owner gathers; nothing that
was read ahead is forgotten, since no selector would tell of it.
"""

from __future__ import annotations

import contextlib

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

PIECE_BYTES = 16384


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
        """Write what waits, as far as the other side takes it."""
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

    def _flush(self) -> None:
        while self._gathered:
            sent = super()._sock_send(self._gathered)
            if not sent:  # a frame of a websocket counts when all of it is gone
                raise BlockingIOError
            self._gathered = self._gathered[sent:]

    def _sock_close(self) -> None:
        self.flush()  # a good-bye may be among it
        super()._sock_close()
