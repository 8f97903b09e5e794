"""A server on 127.0.0.1 that answers MQTT as a test tells it to: wrongly, halfway, or not at all.

Laws: one connection after the other; the script of each ends with its connection.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

CONNACK = b"\x20\x03\x00\x00\x00"
_RESET = struct.pack("ii", 1, 0)


class Peer:
    """One client's connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(5.0)

    def packet(self) -> tuple[int, bytes]:
        """Read one MQTT packet: its first byte, and all after the length; (0, b"") at the end."""
        first = self._exactly(1)
        if not first:
            return 0, b""
        length, shift = 0, 0
        while True:
            (byte,) = self._exactly(1)
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first[0], self._exactly(length)

    def welcome(self, granted: int = 1) -> None:
        """Take CONNECT, accept it, take SUBSCRIBE, grant each filter `granted`."""
        self.packet()
        self.connection.sendall(CONNACK)
        _, body = self.packet()
        self.connection.sendall(b"\x90\x04" + body[:2] + b"\x00" + bytes([granted]))

    def send(self, data: bytes) -> None:
        """Send any bytes; a client that is gone is no trouble of ours."""
        with contextlib.suppress(OSError):
            self.connection.sendall(data)

    def reset(self) -> None:
        """End the connection as a crashed host does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                chunk = self.connection.recv(count - len(data))
            except OSError:
                chunk = b""
            if not chunk:
                return b""
            data += chunk
        return data


def publish(topic: bytes, payload: bytes, mid: int = 1, qos: int = 1) -> bytes:
    """Return a PUBLISH packet."""
    body = struct.pack(">H", len(topic)) + topic + struct.pack(">H", mid) + b"\x00" + payload
    length, left = b"", len(body)
    while left > 127:
        length, left = length + bytes([left & 127 | 128]), left >> 7
    return bytes([0x30 | qos << 1]) + length + bytes([left]) + body


@contextlib.contextmanager
def fake_broker(script: Callable[[Peer, int], None]) -> Iterator[str]:
    """Serve `script(peer, number)` for each connection, counted from 1; yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, script), daemon=True)
        thread.start()
        try:
            yield f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(6)


def _serve(server: socket.socket, script: Callable[[Peer, int], None]) -> None:
    number = 0
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        number += 1
        with connection:
            script(Peer(connection), number)
