"""The daemon's process: take its lock, have it built, wire its signals, and take it down again in order.

Laws: one daemon on one folder; it ends at once when its lock is not its own any more; systemd hears of it from the
loop's own turns only.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config_daemon import failpoints, logs
from config_daemon.daemon.building import Building, unix_ms
from config_daemon.daemon.events import Hint, Stop
from config_daemon.daemon.inbox import Inbox
from config_daemon.daemon.past import migrate_store
from config_daemon.daemon.watch import Watch
from config_daemon.errors import StoreUnavailable
from config_daemon.notify import Notifier
from config_daemon.store import locks
from config_daemon.store.edgeboard import EdgeBoard
from config_daemon.store.files import Files
from config_daemon.store.ground import Ground, load_ground
from config_daemon.store.sqlite import SqliteReader
from config_daemon.store.status import StatusBoard
from config_daemon.wire.messages import timestamp

WATCHDOG_SECONDS, LOCK_SECONDS = 5.0, 0.2
GARBAGE = 10_000  # new objects, before the collector looks for cycles: a daemon makes hardly any
SWITCH_SECONDS = 0.0005  # for how long another thread may keep the loop waiting


def run(folder: Path, environ: Mapping[str, str], flags: Mapping[str, str]) -> int:
    """Run the daemon on a data folder until it is told to stop; return the process's exit code.

    Raises: SettingsError, KeyUnavailable, CacheError, StoreUnavailable when it must not start.
    """
    ground = load_ground(folder, environ, flags)
    failpoints.arm(environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    logs.configure(ground.settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(GARBAGE)
    lock = _take_lock(ground.files)
    try:
        return _run(ground, environ, lock)
    finally:
        os.close(lock)


def _run(ground: Ground, environ: Mapping[str, str], lock: int) -> int:
    log = logs.logger("daemon")
    watch, notifier = Watch(_database_names(ground.files)), Notifier(environ)
    inbox = Inbox(watch)
    board = StatusBoard(ground.files.status)
    if (
        ground.files.status.exists()
    ):  # before anything else: we are alive, and commands believe what stands there
        EdgeBoard(board).reset()
        board.flush()
    trouble = migrate_store(ground, board, timestamp(unix_ms()), log)
    reader = SqliteReader(ground.files.database, ground.keys.row_sealer())
    pulse = _Pulse(notifier, lock, ground.files.daemon_lock)
    building = Building(ground, inbox, board, reader, log, pulse, environ)
    daemon, findings = building.daemon(), building.findings
    if trouble:
        findings.open("upgrade-failed", ground.files.database.name, trouble, timestamp(unix_ms()))
    _wire_signals(inbox)
    trouble = watch.start(_folders(ground))
    if trouble:
        findings.open("watch-degraded", ground.files.folder.name, trouble, timestamp(unix_ms()))
    log.info(
        "daemon_started",
        data=str(ground.files.folder),
        broker=str(ground.settings.mqtt_url),
        key_id=building.identity.key_id,
    )
    gc.freeze()  # what is there now stays, and need not be looked through again
    notifier.send("READY=1")
    try:
        daemon.run()
    finally:
        notifier.send("STOPPING=1")
        watch.close()
        reader.close()
        board.close()
    log.info("daemon_stopped")
    return 0


def _database_names(files: Files) -> tuple[str, str]:
    return files.database.name, f"{files.database.name}-wal"


def _folders(ground: Ground) -> dict[Path, dict[str, str]]:
    files = ground.files
    store = dict.fromkeys(_database_names(files), "store")
    # a Writer lets go of the lock right after its commit: the hint that comes when there is something to see
    ours = {files.store_lock.name: "store", files.environment.name: "env", files.keyring.name: "keyring"}
    folders = {files.folder: {**store, **ours}}
    if files.database.parent != files.folder:
        folders[files.database.parent] = store
    folders[ground.settings.schema_folder or files.schemas] = {"*": "schemas"}
    folders[files.requests] = {"*": "requests"}
    return folders


@dataclass(slots=True)
class _Pulse:
    """Feeds systemd's watchdog from the tick, and not more often than it needs, while the lock is still ours."""

    notifier: Notifier
    lock: int
    lock_file: Path
    looked_at: float = 0.0
    sent_at: float = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.looked_at >= LOCK_SECONDS:
            self.looked_at = now
            if not locks.is_at(self.lock, self.lock_file):
                raise StoreUnavailable(  # ends at once and writes nothing more: another one may run already
                    f"{self.lock_file} was removed or replaced while this daemon ran",
                    suggestion="Start one daemon again, and leave its lock alone.",
                )
        if now - self.sent_at >= WATCHDOG_SECONDS:
            self.notifier.send("WATCHDOG=1")
            self.sent_at = now


def _wire_signals(inbox: Inbox) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: inbox.put(Stop()))
    signal.signal(signal.SIGHUP, lambda *_: inbox.put(Hint(frozenset({"schemas"}))))


def _take_lock(files: Files) -> int:
    lock = locks.take(files.daemon_lock)
    if lock is None:
        raise StoreUnavailable(
            f"another config-daemon runs on {files.folder}",
            suggestion="Stop it first; two daemons on one folder would fight.",
        )
    return lock
