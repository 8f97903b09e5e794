"""A TCP proxy between a client and a broker that breaks the network on demand.

Laws: bytes of one direction never overtake each other; a fault takes effect before the call that asks
for it returns; the port stays the same, and stays ours, while the proxy refuses connections.
Directions: `up` is client → broker, `down` is broker → client.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Literal, Self

from config_daemon.cli.private_broker import reserve_port
from config_daemon.cli.private_broker_files import HOST

Direction = Literal["up", "down", "both"]
CHUNK_BYTES = 65536
_LINGER_NOT = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards 127.0.0.1:`port` to one address; healthy until told otherwise."""

    def __init__(self, port: int, host: str = HOST, *, scheme: str = "mqtt") -> None:
        self.target, self.host = (host, port), HOST
        self._opened = contextlib.ExitStack()
        self.port = reserve_port(self._opened)
        self.url = f"{scheme}://{self.host}:{self.port}"
        self.connections = 0
        self.bytes = {"up": 0, "down": 0}
        self._swallowed: set[str] = set()
        self._delay = {"up": 0.0, "down": 0.0}
        self._drip: dict[str, tuple[int, float]] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        self._call(self._cut())

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, until `heal`."""
        self._call(self._refuse())

    def swallow(self, direction: Direction = "both") -> None:
        """Take bytes of one direction and never deliver them: a half-open network, until `heal`."""
        self._call(self._set(swallowed=_directions(direction)))

    def delay(self, seconds: float, direction: Direction = "both") -> None:
        """Deliver bytes of one direction `seconds` late; the throughput stays."""
        self._call(self._set(delay=dict.fromkeys(_directions(direction), seconds)))

    def drip(self, size_bytes: int, seconds: float, direction: Direction = "both") -> None:
        """Deliver bytes of one direction in slices of `size_bytes`, `seconds` apart, until `heal`."""
        self._call(self._set(drip=dict.fromkeys(_directions(direction), (size_bytes, seconds))))

    def heal(self) -> None:
        """Be a healthy network again; what was swallowed stays lost."""
        self._call(self._heal())

    def close(self) -> None:
        """End every connection and give the port back."""
        if self._thread.is_alive():
            self._call(self._refuse())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=5)

    async def _listen(self) -> None:
        if self._server is None:
            # reuse_address: our own reservation is bound to this port
            self._server = await asyncio.start_server(self._accept, HOST, self.port, reuse_address=True)

    async def _cut(self) -> None:
        writers = list(self._writers)
        for writer in writers:
            end = writer.get_extra_info("socket")
            if end.fileno() >= 0:  # not where the far side has ended it already
                # Lingering for no time makes it a reset, as from a router that forgot the connection.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _set(
        self,
        swallowed: tuple[str, ...] = (),
        delay: dict[str, float] | None = None,
        drip: dict[str, tuple[int, float]] | None = None,
    ) -> None:
        self._swallowed.update(swallowed)
        self._delay.update(delay or {})
        self._drip.update(drip or {})

    async def _heal(self) -> None:
        self._swallowed.clear()
        self._drip.clear()
        self._delay.update(up=0.0, down=0.0)
        await self._listen()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(far_writer)
        for name, source, sink in (("up", reader, far_writer), ("down", far_reader, writer)):
            task = asyncio.ensure_future(self._forward(name, source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, name: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Carry one direction of one connection until either side ends it."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        deliver = asyncio.ensure_future(self._deliver(name, due, sink))
        try:
            while chunk := await source.read(CHUNK_BYTES):
                if name not in self._swallowed:
                    self.bytes[name] += len(chunk)
                    due.put_nowait((self._loop.time() + self._delay[name], chunk))
            due.put_nowait((self._loop.time() + self._delay[name], b""))
            await deliver
        except OSError:
            pass
        finally:
            deliver.cancel()
            sink.close()
            self._writers.discard(sink)

    async def _deliver(
        self, name: str, due: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter
    ) -> None:
        while True:
            at, chunk = await due.get()
            if not chunk:
                return
            if (wait := at - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            while chunk and not sink.is_closing():
                size, pause = self._drip.get(name, (len(chunk), 0.0))
                sink.write(chunk[:size])
                chunk = chunk[size:]
                with contextlib.suppress(OSError):
                    await sink.drain()
                if pause:
                    await asyncio.sleep(pause)


def _directions(direction: Direction) -> tuple[str, ...]:
    return ("up", "down") if direction == "both" else (direction,)
