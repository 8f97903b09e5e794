"""Build the daemon's parts, wire its signals, and take them down again in order.

Laws: nothing is created here that `init` should have made; what cannot be trusted stops the start with
the remedy; secrets come from files and never from the command line.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from config_daemon import failpoints, logs
from config_daemon.catalog.catalog import Catalog
from config_daemon.core.health import Findings
from config_daemon.core.plan import Plan
from config_daemon.daemon.auditor import Auditor
from config_daemon.daemon.beacons import Beacons
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.client_name import ClientName
from config_daemon.daemon.descriptors import Descriptors
from config_daemon.daemon.dial import Credentials, dial
from config_daemon.daemon.ears import LARGEST_PACKET_BYTES, Ears
from config_daemon.daemon.edge import make_edge, recent_beacons
from config_daemon.daemon.events import Hint, Stop
from config_daemon.daemon.identity import Identity
from config_daemon.daemon.inbox import Inbox
from config_daemon.daemon.inspection import Inspector
from config_daemon.daemon.judge import Judge, tell_cached
from config_daemon.daemon.keeper import CacheKeeper
from config_daemon.daemon.keyrings import Keyrings
from config_daemon.daemon.loop import Daemon
from config_daemon.daemon.mirror import Mirror
from config_daemon.daemon.models import Models
from config_daemon.daemon.parts import Parts
from config_daemon.daemon.past import load_past, migrate_store
from config_daemon.daemon.purge import Purge
from config_daemon.daemon.recovery import Recovery
from config_daemon.daemon.report import Reporter
from config_daemon.daemon.requests import Requests
from config_daemon.daemon.sealer import Sealer
from config_daemon.daemon.sight import Sight
from config_daemon.daemon.surroundings import Surroundings, keep_touched, touched_services
from config_daemon.daemon.watch import Watch
from config_daemon.errors import StoreUnavailable
from config_daemon.notify import Notifier
from config_daemon.settings import Settings
from config_daemon.store import locks
from config_daemon.store.connection import inspect
from config_daemon.store.files import Files
from config_daemon.store.ground import Ground, load_ground
from config_daemon.store.overrides import fixed_lately
from config_daemon.store.sqlite import SqliteReader
from config_daemon.store.status import StatusBoard
from config_daemon.store.writer import SqliteWriter
from config_daemon.wire.messages import timestamp
from config_daemon.wire.topics import Topics

RECORD_BUSY_MS = 20  # the loop waits so long for another writer; it comes back soon
WATCHDOG_SECONDS, LOCK_SECONDS = 5.0, 0.2
SWITCH_SECONDS = 0.0005  # for how long another thread may keep the loop waiting


def run(folder: Path, environ: Mapping[str, str], flags: Mapping[str, str]) -> int:
    """Run the daemon on a data folder until it is told to stop; return the process's exit code.

    Raises: SettingsError, KeyUnavailable, CacheError, StoreUnavailable when it must not start.
    """
    ground = load_ground(folder, environ, flags)
    failpoints.arm(environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    logs.configure(ground.settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
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
    trouble = migrate_store(ground, board, timestamp(_unix_ms()), log)
    reader = SqliteReader(ground.files.database, ground.keys.row_sealer())
    pulse = _Pulse(notifier, lock, ground.files.daemon_lock)
    daemon, findings, identity = _build(ground, inbox, board, reader, log, pulse, environ)
    if trouble:
        findings.open("upgrade-failed", ground.files.database.name, trouble, timestamp(_unix_ms()))
    _wire_signals(inbox)
    trouble = watch.start(_folders(ground))
    if trouble:
        findings.open("watch-degraded", ground.files.folder.name, trouble, timestamp(_unix_ms()))
    log.info(
        "daemon_started",
        data=str(ground.files.folder),
        broker=str(ground.settings.mqtt_url),
        key_id=identity.key_id,
    )
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


def _build(
    ground: Ground,
    inbox: Inbox,
    board: StatusBoard,
    reader: SqliteReader,
    log: logs.Logger,
    alive: Callable[[], None],
    environ: Mapping[str, str],
) -> tuple[Daemon, Findings, Identity]:
    settings, files = ground.settings, ground.files
    findings, plan, topics = Findings(), Plan(), Topics(settings.topic_prefix)
    past = load_past(ground, environ, findings, _unix_ms, log)
    numbers, identity = past.numbers, past.identity
    for service, sealed in past.sealed.items():
        plan.remember(service, sealed, cached=True)
    sealer = Sealer(identity, numbers, findings, _unix_ms)
    if held := numbers.marks.held:
        findings.open(*held, sealer.now())  # a restart ends no hold
    catalog = Catalog.load(settings.schema_folder or files.schemas)
    name = ClientName(settings.name, findings, sealer.now)
    dialing = partial(_dial, settings, _credentials(ground), name, inbox)
    broker = Broker(dialing)
    surroundings = Surroundings(
        files.environment,
        catalog,
        findings,
        board,
        touched_services(files.epoch),
        sealer.now,
        partial(keep_touched, files.epoch),
        fixed_lately(files.epoch),
    )
    judge = Judge(
        catalog, plan, findings, board, lambda: identity.signs, sealer.now, settings.max_message_bytes
    )
    sight = Sight(
        reader, judge, findings, sealer.now, past.places, past.facts,
        inspector=Inspector(partial(inspect, files.database), inbox.put),
        insist=numbers.insist, happened=lambda event: reporter.happened(event),
        expect=lambda workers: edge.expect(workers),
    )  # fmt: skip
    started_at = sealer.now()

    def tell_all() -> None:
        _introduce(board, ground, identity, started_at)
        surroundings.tell()
        models.tell()
        edge.tell_again()

    keeper = CacheKeeper(
        files.cache,
        lambda: identity.hmac[1],
        plan,
        inbox.put,
        past.cached,
        lambda service: parts.give_up(service),
    )
    if past.is_rekeyed:
        keeper.abandon()
    reporter = Reporter(
        sealer, broker, findings, board, ground, log, plan, sight, keeper,
        env_services=lambda: surroundings.overrides.keys() | surroundings.orphaned,
        env_fixed=lambda: surroundings.fixed, event=past.event, tell_all=tell_all,
    )  # fmt: skip
    models = Models(
        judge, sight, catalog, findings, board,
        SqliteWriter(
            files.database, ground.keys.row_sealer(), catalog, lock=files.store_lock, now=sealer.now,
            lock_seconds=0.0, busy_ms=RECORD_BUSY_MS,
        ),
        reporter.upgraded, sealer.now,
    )  # fmt: skip
    mirror = Mirror(
        broker, plan, findings, topics, lambda: identity.keyring.config_keys, reporter.topic,
        standing=lambda: sealer.standing(sight.known.epoch), raise_to=numbers.raise_to,
        keep_hold=numbers.hold, now_text=sealer.now,
        has_past=bool(past.places), log=log, ground=sight,
    )  # fmt: skip
    auditor = Auditor(files.database, numbers, findings, sealer.now, lambda: sight.readable)
    beacons = Beacons(sealer, broker, plan, topics, identity, auditor, recent_beacons(files.status))
    edge = make_edge(
        files.status, board, topics, plan, sealer, broker, findings, Ears(partial(dialing, None)), catalog,
        lambda: sight.status == "healthy", lambda: beacons.current,
    )  # fmt: skip
    keyrings = Keyrings(identity, broker, past.rings, topics, findings, sealer.now)
    recovery = Recovery(
        files=files, row_sealer=ground.keys.row_sealer(), catalog=catalog, sealer=sealer, sight=sight, mirror=mirror,
        keeper=keeper, auditor=auditor, reporter=reporter, findings=findings, plan=plan, log=log,
        hmac_keys=lambda: (identity.hmac[1], *ground.keys.hmac_keys()), fixed=lambda: surroundings.fixed,
        close_reader=reader.close, alive=alive, by_itself=settings.auto_rebuild,
    )  # fmt: skip
    purge = Purge(
        numbers, judge, sight, plan, mirror, keeper, broker, topics, findings,
        may_send=lambda: broker.connected and mirror.ready and not findings.holding, accepted=reporter.accepted,
        log=log,
    )  # fmt: skip
    descriptors = Descriptors(findings, sealer.now)
    carry = {
        **dict.fromkeys(("adopt", "rebuild", "restore"), recovery.carry),
        "dry-run": recovery.preview,
        "purge": purge.carry,
        "activate-key": lambda request: {"key_id": identity.activate(request.arguments.get("key_id"))},
    }
    requests = Requests(files.requests, board, carry, sealer.now, time.time)
    board.reset()
    board.daemon(health=None)
    tell_all()
    board.flush()
    tell_cached(board, plan, sealer.now())
    parts = Parts(
        inbox=inbox, broker=broker, surroundings=surroundings, judge=judge, sight=sight, models=models, plan=plan,
        mirror=mirror, sealer=sealer, beacons=beacons, edge=edge, identity=identity, keyrings=keyrings, keeper=keeper,
        recovery=recovery, purge=purge, name=name, descriptors=descriptors,
        requests=requests, reporter=reporter, findings=findings, topics=topics, log=log,
        poll_seconds=settings.poll_seconds, alive=alive,
    )  # fmt: skip
    return Daemon(parts), findings, identity


def _introduce(board: StatusBoard, ground: Ground, identity: Identity, started_at: str) -> None:
    """Say in status.db who this daemon is, and whom it takes for its keys."""
    settings, ring = ground.settings, identity.keyring
    public = next((one.key for one in ring.keys if one.key_id == identity.key_id), None)
    board.daemon(
        pid=os.getpid(), started_at=started_at, public_key=bytes(public).hex() if public else "",
        keyring={"number": ring.number, "generation": ring.generation, "signs": identity.key_id},
        broker=str(settings.mqtt_url), name=settings.name, topic_prefix=settings.topic_prefix,
    )  # fmt: skip


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


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _dial(
    settings: Settings,
    credentials: Credentials,
    name: ClientName,
    inbox: Inbox,
    will: tuple[str, bytes] | None,
) -> None:
    """Dial for configs, or without a will for statuses: another client, which takes no long packet."""
    if will is not None:
        dial(settings.mqtt_url, credentials, name.current, settings.keepalive_seconds, will, inbox.put)
        return
    dial(
        settings.mqtt_url, credentials, f"{name.current}-ears", settings.keepalive_seconds, None,
        lambda dialed: inbox.put(dialed._replace(listens=True)), LARGEST_PACKET_BYTES,
    )  # fmt: skip


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
    signal.signal(signal.SIGHUP, lambda *_: inbox.put(Hint(frozenset({"schemas"}))))


def _take_lock(files: Files) -> int:
    lock = locks.take(files.daemon_lock)
    if lock is None:
        raise StoreUnavailable(
            f"another config-daemon runs on {files.folder}",
            suggestion="Stop it first; two daemons on one folder would fight.",
        )
    return lock
