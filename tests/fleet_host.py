"""One host of the simulator: a data folder, and the daemon's process as `Building` makes it.

Laws: every part is the product's own, wired by the product's own builder; what a process has beside
its files is lost when it dies; a death happens at the product's own failpoints or between two ticks.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw

from config_daemon import failpoints
from config_daemon.catalog import catalog, registered
from config_daemon.catalog.service import ServiceDefinition
from config_daemon.cli.init import make
from config_daemon.cli.session import Session
from config_daemon.core.health import CONDITIONS, Findings
from config_daemon.daemon import building
from config_daemon.daemon.ears import Ears
from config_daemon.daemon.events import Dialed, Event, Hint, Stop
from config_daemon.daemon.inbox import Inbox, Sockets
from config_daemon.daemon.inspection import Inspector
from config_daemon.daemon.keeper import CacheKeeper
from config_daemon.daemon.loop import Daemon
from config_daemon.daemon.parts import Parts
from config_daemon.daemon.watch import Watch
from config_daemon.store import cache as cache_file
from config_daemon.store import files, marks
from config_daemon.store.ground import Ground, load_ground
from config_daemon.store.sqlite import SqliteReader
from config_daemon.store.status import StatusBoard
from tests.fakes import FakeBroker, FakeClock, FakeServer

RESERVE = 10  # numbers at a time, so that a full disk is felt soon


class Died(BaseException):
    """The process ended at a failpoint."""


@cache
def template() -> Path:
    """Return a data folder as `init` makes it, for copying."""
    place = Path(tempfile.mkdtemp(prefix="fleet-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    make(Session(data=str(place / "data")))
    return place / "data"


@cache
def _shipped(service: str) -> ServiceDefinition:
    """Return a definition that every daemon of this process shares: none changes, and each takes long to make."""
    return registered.shipped(service)


class FakeInbox(Inbox):
    """The real inbox, except that waiting costs no time but the clock's."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(Watch(), clock.monotonic)
        self._fake = clock

    def wait(self, timeout_seconds: float, sockets: Sockets) -> list[Event]:
        """Let the whole timeout pass, then tell what there is."""
        self._fake.advance(max(0.0, timeout_seconds))
        return super().wait(0.0, sockets)


@dataclass
class _Later:
    """Work of a thread, done when the test says so; `join` is what a clean stop does."""

    work: Callable[[], None] | None

    def join(self, timeout: float | None = None) -> None:
        work, self.work = self.work, None
        if work is not None:
            work()


class _Quiet:
    """A log that nobody reads."""

    def __getattr__(self, _level: str) -> Callable[..., None]:
        return lambda *_args, **_facts: None


@dataclass
class Process:
    """A running daemon, and what the simulator looks at in it."""

    daemon: Daemon
    parts: Parts
    broker: FakeBroker
    inbox: FakeInbox
    reader: SqliteReader
    board: StatusBoard
    findings: Findings
    threads: list[_Later] = field(default_factory=list)

    def end(self) -> None:
        """Free what the kernel frees."""
        self.broker.die()
        self.parts.edge.close()
        self.reader.close()
        self.board.close()
        self.inbox.close()


Seen = Callable[["Host", str, bytes], None]


class _WatchedBroker(FakeBroker):
    """Shows everything that the daemon signs, at the moment when it leaves."""

    def __init__(self, host: Host, seen: Seen, put: Callable[[Dialed], None]) -> None:
        super().__init__(host.server, put, host.name)
        self._host, self._seen = host, seen

    def open(self, will: tuple[str, bytes]) -> None:
        self._seen(self._host, *will)
        super().open(will)

    def send(self, topic: str, raw: bytes, number: int, now: float) -> None:
        self._seen(self._host, topic, raw)
        super().send(topic, raw, number, now)


class Host:
    """A data folder and its daemon; `name` is the daemon's client id."""

    def __init__(
        self, folder: Path, server: FakeServer, clock: FakeClock, seen: Seen, name: str = "daemon"
    ) -> None:
        if not folder.exists():
            shutil.copytree(template(), folder)
        self.name, self.folder, self.server, self.clock = name, folder, server, clock
        self._seen = seen
        self.ground: Ground = load_ground(folder, {}, {})
        self.files = self.ground.files
        self.process: Process | None = None
        self.disk_full = False
        self._die_at: str | None = None
        self._met: list[tuple[Any, str, Any]] = [
            (failpoints, "reached", self._reached),
            (marks, "RESERVE", RESERVE),
            (marks, "replace_durably", self._writing(files.replace_durably)),
            (cache_file, "create_beside", self._writing(files.create_beside)),
            (catalog, "shipped", _shipped),
        ]

    def start(self) -> None:
        """Start the daemon on the folder; the clock is read once."""
        ground = load_ground(self.folder, {}, {})
        inbox, board = FakeInbox(self.clock), StatusBoard(self.files.status)
        reader = SqliteReader(self.files.database, ground.keys.row_sealer())
        threads: list[_Later] = []
        brokers: list[FakeBroker] = []
        parts: list[Parts] = []

        def start(work: Callable[[], None]) -> _Later:
            threads.append(_Later(work))
            return threads[-1]

        def broker(_dial: Any) -> FakeBroker:
            brokers.append(_WatchedBroker(self, self._seen, inbox.put))
            return brokers[-1]

        def ears(_dial: Any) -> Ears:
            def listens(dialed: Dialed) -> None:
                inbox.put(dialed._replace(listens=True))

            return Ears(lambda: self.server.dial(f"{self.name}-ears", None, listens))

        def keep(**made: Any) -> Parts:
            parts.append(Parts(**made, clock=self.clock.monotonic, jitter=lambda: 0.5))
            return parts[-1]

        world: dict[str, Any] = {
            "Broker": broker, "Ears": ears, "Parts": keep, "CacheKeeper": partial(CacheKeeper, start=start),
            "Inspector": partial(Inspector, start=start),
            "unix_ms": self.clock.unix_ms,
        }  # fmt: skip
        with patch.multiple(building, **world):
            made = building.Building(ground, inbox, board, reader, _Quiet(), lambda: None, {})
            daemon, findings = made.daemon(), made.findings
        self.process = Process(daemon, parts[0], brokers[0], inbox, reader, board, findings, threads)

    def tick(self, seconds: float) -> bool:
        """Let time pass and the daemon tick once; False when it is not running, or died of it."""
        process = self.process
        if process is None:
            self.clock.advance(seconds)
            return False
        try:
            with self._world():
                for thread in list(process.threads):
                    thread.join()
                process.threads.clear()
                process.daemon.tick(process.inbox.wait(seconds, process.broker.sockets()))
        except Died:
            self.crash()
            return False
        return True

    def hint(self, near: str) -> None:
        """Have the daemon told, as by its watch, that something near its files has changed."""
        if self.process is not None:
            self.process.inbox.put(Hint(frozenset({near})))

    def crash(self) -> None:
        """End the process without a word."""
        self._die_at = None
        process, self.process = self.process, None
        if process is not None:
            process.end()

    def die_at(self, failpoint: str) -> None:
        """Have the process die when it next reaches a failpoint."""
        assert failpoint in failpoints.NAMES
        self._die_at = failpoint

    def spare(self) -> None:
        """Have the process not die at any failpoint."""
        self._die_at = None

    def stop(self) -> None:
        """Stop the daemon as SIGTERM does."""
        process = self.process
        assert process is not None
        process.inbox.put(Stop())
        try:
            with self._world():
                process.daemon.run()
        except Died:
            pass
        self.crash()

    @property
    def held(self) -> set[str]:
        """Return the conditions that stop publishing now."""
        found = self.process.findings if self.process else ()
        return {c.name for c in found if CONDITIONS[c.name].holds}

    @property
    def listed(self) -> frozenset[str]:
        """Return the keys that may sign configs, as the keyring in force says."""
        if self.process is None:
            return frozenset()
        identity = self.process.parts.identity
        key = self.process.parts.sealer.numbers.marks.key  # while the keyring that marks name is missing
        return frozenset({key}) if identity._missing and key else identity.keyring.config_ids

    @contextlib.contextmanager
    def _world(self) -> Iterator[None]:
        """Have the process meet its failpoint, its full disk, and definitions that were made already."""
        before = [(module, name, getattr(module, name)) for module, name, _ in self._met]
        for module, name, ours in self._met:  # at every tick: `patch` would cost more than some ticks do
            setattr(module, name, ours)
        try:
            yield
        finally:
            for module, name, theirs in before:
                setattr(module, name, theirs)

    def _reached(self, name: str) -> None:
        if name == self._die_at:
            raise Died(name)

    def _writing(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            if self.disk_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(*arguments, **options)

        return guarded


def by_hand(path: Path, *statements: str) -> None:
    """Run SQL on a database as somebody with the `sqlite3` shell does."""
    connection = apsw.Connection(str(path))
    try:
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close(True)
