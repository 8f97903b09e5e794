"""Build the daemon's parts, wire its signals, and take them down again in order.

Laws: nothing is created here that `init` should have made; what cannot be trusted stops the start with
the remedy; secrets come from files and never from the command line.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from config_daemon import failpoints, logs
from config_daemon.catalog.catalog import Catalog
from config_daemon.core.health import Findings
from config_daemon.core.plan import Plan
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.dial import Credentials, dial
from config_daemon.daemon.inbox import Inbox, Stop
from config_daemon.daemon.loop import Daemon, Parts
from config_daemon.daemon.notify import Notifier
from config_daemon.daemon.report import Reporter
from config_daemon.daemon.sealer import Sealer
from config_daemon.daemon.sight import Sight
from config_daemon.daemon.watch import Watch
from config_daemon.errors import SettingsError, StoreUnavailable
from config_daemon.settings import Settings
from config_daemon.store import locks, marks
from config_daemon.store.files import Files
from config_daemon.store.ground import Ground, load_ground
from config_daemon.store.sqlite import SqliteReader
from config_daemon.store.status import StatusBoard
from config_daemon.wire.topics import Topics

WATCHDOG_SECONDS = 5.0


def run(folder: Path, environ: Mapping[str, str], flags: Mapping[str, str]) -> int:
    """Run the daemon on a data folder until it is told to stop; return the process's exit code.

    Raises: SettingsError, KeyUnavailable, CacheError, StoreUnavailable when it must not start.
    """
    ground = load_ground(folder, environ, flags)
    failpoints.arm(environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    logs.configure(ground.settings.log_level)
    lock = _take_lock(ground.files)
    try:
        return _run(ground, environ)
    finally:
        os.close(lock)


def _run(ground: Ground, environ: Mapping[str, str]) -> int:
    settings, files = ground.settings, ground.files
    log = logs.logger("daemon")
    signer, (_, hmac_key) = ground.keys.signer(), ground.keys.hmac_key()
    known = marks.load(files.marks, (hmac_key,))
    _refuse_empty_folder(files, known)
    reader = SqliteReader(files.database, ground.keys.row_sealer())
    start = known or marks.Marks(generation=1, reserved=0, epoch="", feed=None)
    numbers = marks.Numbers(files.marks, hmac_key, start, last=max(start.reserved, _unix_ms()))
    sealer = Sealer(signer, numbers, _unix_ms)
    inbox, plan, findings, board = Inbox(), Plan(), Findings(), StatusBoard(files.status)
    topics = Topics(settings.topic_prefix)
    catalog = Catalog.load(settings.schema_folder or files.schemas)
    dialing = partial(
        _dial, settings, _credentials(ground), f"{settings.name}-{uuid.uuid4().hex[:12]}", inbox
    )
    broker = Broker(dialing)
    sight = Sight(reader, catalog, plan, findings, board, sealer.identity, sealer.now, start.feed)
    reporter = Reporter(
        sealer,
        broker,
        findings,
        board,
        files,
        topics.health(settings.name),
        settings.health_seconds,
        ground.created_at,
    )
    notifier = Notifier(environ)
    daemon = Daemon(
        Parts(
            inbox, broker, sight, sealer, reporter, plan, findings, board, topics, log, settings.poll_seconds,
            alive=_Pulse(notifier),
        ),
        event="started" if known else "initialised",
    )  # fmt: skip
    board.reset()
    board.daemon(
        pid=os.getpid(), started_at=sealer.now(), public_key=bytes(signer.verify_key).hex(),
        broker=str(settings.mqtt_url), name=settings.name, topic_prefix=settings.topic_prefix,
    )  # fmt: skip
    board.flush()
    _wire_signals(inbox)
    watch = Watch(inbox.hint)
    trouble = watch.start({files.folder: (files.database.name, f"{files.database.name}-wal", ".env")})
    if trouble:
        findings.open("watch-degraded", str(files.folder.name), trouble, sealer.now())
    log.info("daemon_started", data=str(files.folder), broker=str(settings.mqtt_url), key_id=signer.key_id)
    notifier.send("READY=1")
    try:
        daemon.run()
    finally:
        notifier.send("STOPPING=1")
        watch.stop()
        reader.close()
        board.close()
    log.info("daemon_stopped")
    return 0


@dataclass(slots=True)
class _Pulse:
    """Feeds systemd's watchdog from the tick, and not more often than it needs."""

    notifier: Notifier
    sent_at: float = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.sent_at >= WATCHDOG_SECONDS:
            self.notifier.send("WATCHDOG=1")
            self.sent_at = now


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _dial(
    settings: Settings,
    credentials: Credentials,
    client_id: str,
    inbox: Inbox,
    will: tuple[str, bytes],
    prepare: Callable[[Any], None],
) -> None:
    dial(settings.mqtt_url, credentials, client_id, settings.keepalive_seconds, will, prepare, inbox.put)


def _credentials(ground: Ground) -> Credentials:
    settings = ground.settings
    return Credentials(
        settings.mqtt_ca_file,
        settings.mqtt_certificate_file,
        settings.mqtt_key_file,
        ground.keys.find("CONFIG_DAEMON_BROKER_PASSWORD"),
    )


def _wire_signals(inbox: Inbox) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: inbox.put(Stop()))
    signal.signal(signal.SIGHUP, lambda *_: inbox.hint())


def _take_lock(files: Files) -> int:
    lock = locks.take(files.daemon_lock)
    if lock is None:
        raise StoreUnavailable(
            f"another config-daemon runs on {files.folder}",
            suggestion="Stop it first; two daemons on one folder would fight.",
        )
    return lock


def _refuse_empty_folder(files: Files, known: marks.Marks | None) -> None:
    if known is None and not files.database.exists() and not files.cache.exists():
        raise SettingsError(
            f"there is no store in {files.folder}",
            suggestion=f"Run `config-daemon init --data {files.folder}`, or name the right folder with --data.",
        )
