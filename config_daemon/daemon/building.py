"""Build the daemon's parts: who gets what. Each part is made when it is first asked for.

Laws: nothing is created here that `init` should have made; what cannot be trusted stops the start with the
remedy; secrets come from files and never from the command line; a part that needs a later one gets a function.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial

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
from config_daemon.daemon.edge import Edge, make_edge, recent_beacons
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
from config_daemon.daemon.past import Past, load_past
from config_daemon.daemon.purge import Purge
from config_daemon.daemon.recovery import Recovery
from config_daemon.daemon.report import Reporter
from config_daemon.daemon.requests import Requests
from config_daemon.daemon.sealer import Sealer
from config_daemon.daemon.sight import Sight
from config_daemon.daemon.surroundings import Surroundings, keep_touched, touched_services
from config_daemon.logs import Logger
from config_daemon.store.connection import inspect
from config_daemon.store.edgeboard import EdgeBoard
from config_daemon.store.ground import Ground
from config_daemon.store.marks import Numbers
from config_daemon.store.overrides import fixed_lately
from config_daemon.store.sqlite import SqliteReader
from config_daemon.store.status import StatusBoard
from config_daemon.store.writer import SqliteWriter
from config_daemon.wire.topics import Topics

RECORD_BUSY_MS = 20  # the loop waits so long for another writer; it comes back soon


class Building:
    """All parts of one daemon; what is given is what the process has made before."""

    def __init__(
        self,
        ground: Ground,
        inbox: Inbox,
        board: StatusBoard,
        reader: SqliteReader,
        log: Logger,
        alive: Callable[[], None],
        environ: Mapping[str, str],
    ) -> None:
        self.ground, self.settings, self.files = ground, ground.settings, ground.files
        self.inbox, self.board, self.reader, self.log, self.alive = inbox, board, reader, log, alive
        self.findings, self.plan, self.topics = Findings(), Plan(), Topics(self.settings.topic_prefix)
        self.past: Past = load_past(ground, environ, self.findings, unix_ms, log)
        self.numbers: Numbers = self.past.numbers
        self.identity: Identity = self.past.identity
        for service, sealed in self.past.sealed.items():
            self.plan.remember(service, sealed, cached=True)
        self.sealer = Sealer(self.identity, self.numbers, self.findings, unix_ms)
        self.started_at = self.sealer.now()
        self._credentials = _credentials(ground)
        if held := self.numbers.marks.held:
            self.findings.open(*held, self.started_at)  # a restart ends no hold

    def daemon(self) -> Daemon:
        """Return the daemon; what is known at its start is told already."""
        self.board.reset()
        EdgeBoard(self.board).reset()
        self.board.daemon(health=None)
        self._tell_all()
        self.board.flush()
        tell_cached(self.board, self.plan, self.sealer.now())
        return Daemon(self._parts)

    @cached_property
    def _parts(self) -> Parts:
        return Parts(
            inbox=self.inbox, broker=self._broker, surroundings=self._surroundings, judge=self._judge,
            sight=self._sight, models=self._models, plan=self.plan, mirror=self._mirror, sealer=self.sealer,
            beacons=self._beacons, edge=self._edge, identity=self.identity, keyrings=self._keyrings,
            keeper=self._keeper, recovery=self._recovery, purge=self._purge, name=self._name,
            descriptors=Descriptors(self.findings, self.sealer.now), requests=self._requests, reporter=self._reporter,
            findings=self.findings, topics=self.topics, log=self.log,
            poll_seconds=self.settings.poll_seconds, alive=self.alive,
        )  # fmt: skip

    # what is wanted -------------------------------------------------------------------------------

    @cached_property
    def _catalog(self) -> Catalog:
        return Catalog.load(self.settings.schema_folder or self.files.schemas)

    @cached_property
    def _surroundings(self) -> Surroundings:
        epoch = self.files.epoch
        return Surroundings(
            self.files.environment, self._catalog, self.findings, self.board, touched_services(epoch), self.sealer.now,
            partial(keep_touched, epoch), fixed_lately(epoch),
        )  # fmt: skip

    @cached_property
    def _judge(self) -> Judge:
        return Judge(
            self._catalog, self.plan, self.findings, self.board, lambda: self.identity.signs, self.sealer.now,
            self.settings.max_message_bytes,
        )  # fmt: skip

    @cached_property
    def _sight(self) -> Sight:
        return Sight(
            self.reader, self._judge, self.findings, self.sealer.now, self.past.places, self.past.facts,
            inspector=Inspector(partial(inspect, self.files.database), self.inbox.put),
            insist=self.numbers.insist, happened=lambda event: self._reporter.happened(event),
            expect=lambda workers: self._edge.expect(workers),
        )  # fmt: skip

    @cached_property
    def _models(self) -> Models:
        writer = SqliteWriter(
            self.files.database, self.ground.keys.row_sealer(), self._catalog, lock=self.files.store_lock,
            now=self.sealer.now, lock_seconds=0.0, busy_ms=RECORD_BUSY_MS,
        )  # fmt: skip
        return Models(
            self._judge, self._sight, self._catalog, self.findings, self.board, writer, self._reporter.upgraded,
            self.sealer.now,
        )  # fmt: skip

    # the broker -----------------------------------------------------------------------------------

    @cached_property
    def _name(self) -> ClientName:
        return ClientName(self.settings.name, self.findings, self.sealer.now)

    @cached_property
    def _broker(self) -> Broker:
        return Broker(self._dial)

    @cached_property
    def _mirror(self) -> Mirror:
        return Mirror(
            self._broker, self.plan, self.findings, self.topics, lambda: self.identity.keyring.config_keys,
            self._reporter.topic, standing=lambda: self.sealer.standing(self._sight.known.epoch),
            raise_to=self.numbers.raise_to, keep_hold=self.numbers.hold, now_text=self.sealer.now,
            has_past=bool(self.past.places), log=self.log, ground=self._sight,
        )  # fmt: skip

    @cached_property
    def _auditor(self) -> Auditor:
        return Auditor(
            self.files.database, self.numbers, self.findings, self.sealer.now, lambda: self._sight.readable
        )

    @cached_property
    def _beacons(self) -> Beacons:
        return Beacons(
            self.sealer, self._broker, self.plan, self.topics, self.identity, self._auditor,
            recent_beacons(self.files.status),
        )  # fmt: skip

    @cached_property
    def _keyrings(self) -> Keyrings:
        return Keyrings(
            self.identity, self._broker, self.past.rings, self.topics, self.findings, self.sealer.now
        )

    @cached_property
    def _edge(self) -> Edge:
        return make_edge(
            self.files.status, self.board, self.topics, self.plan, self.sealer, self._broker, self.findings,
            Ears(self._dial_ears), self._catalog, lambda: self._sight.status == "healthy",
            lambda: self._beacons.current,
        )  # fmt: skip

    # what is told, and what is left as a request ------------------------------------------------------

    @cached_property
    def _keeper(self) -> CacheKeeper:
        keeper = CacheKeeper(
            self.files.cache, lambda: self.identity.hmac[1], self.plan, self.inbox.put, self.past.cached,
            lambda service: self._parts.give_up(service),
        )  # fmt: skip
        if self.past.is_rekeyed:
            keeper.abandon()
        return keeper

    @cached_property
    def _reporter(self) -> Reporter:
        surroundings = self._surroundings
        return Reporter(
            self.sealer, self._broker, self.findings, self.board, self.ground, self.log, self.plan, self._sight,
            self._keeper, env_services=lambda: surroundings.overrides.keys() | surroundings.orphaned,
            env_fixed=lambda: surroundings.fixed, event=self.past.event, tell_all=self._tell_all,
        )  # fmt: skip

    @cached_property
    def _recovery(self) -> Recovery:
        keys = self.ground.keys
        return Recovery(
            files=self.files, row_sealer=keys.row_sealer(), catalog=self._catalog, sealer=self.sealer,
            sight=self._sight, mirror=self._mirror, keeper=self._keeper, auditor=self._auditor, reporter=self._reporter,
            findings=self.findings, plan=self.plan, log=self.log,
            hmac_keys=lambda: (self.identity.hmac[1], *keys.hmac_keys()), fixed=lambda: self._surroundings.fixed,
            close_reader=self.reader.close, alive=self.alive, by_itself=self.settings.auto_rebuild,
        )  # fmt: skip

    @cached_property
    def _purge(self) -> Purge:
        return Purge(
            self.numbers, self._judge, self._sight, self.plan, self._mirror, self._keeper, self._broker, self.topics,
            self.findings, may_send=self._may_send, accepted=self._reporter.accepted, log=self.log,
        )  # fmt: skip

    @cached_property
    def _requests(self) -> Requests:
        activate = self.identity.activate
        carry = {
            **dict.fromkeys(("adopt", "rebuild", "restore"), self._recovery.carry),
            "dry-run": self._recovery.preview,
            "purge": self._purge.carry,
            "activate-key": lambda request: {"key_id": activate(request.arguments.get("key_id"))},
        }
        return Requests(self.files.requests, self.board, carry, self.sealer.now, time.time)

    def _may_send(self) -> bool:
        return self._broker.connected and self._mirror.ready and not self.findings.holding

    def _tell_all(self) -> None:
        """Say in status.db what is told once: who this daemon is, and what surrounds it."""
        settings, ring, key_id = self.settings, self.identity.keyring, self.identity.key_id
        public = next((one.key for one in ring.keys if one.key_id == key_id), None)
        self.board.daemon(
            pid=os.getpid(), started_at=self.started_at, public_key=bytes(public).hex() if public else "",
            keyring={"number": ring.number, "generation": ring.generation, "signs": key_id},
            broker=str(settings.mqtt_url), name=settings.name, topic_prefix=settings.topic_prefix,
        )  # fmt: skip
        self._surroundings.tell()
        self._models.tell()
        self._edge.tell_again()

    # connections ----------------------------------------------------------------------------------------

    def _dial(self, will: tuple[str, bytes]) -> None:
        seconds = self.settings.keepalive_seconds
        dial(self.settings.mqtt_url, self._credentials, self._name.current, seconds, will, self.inbox.put)

    def _dial_ears(self) -> None:
        """Dial for statuses: another client, which takes no long packet and leaves no will."""
        dial(
            self.settings.mqtt_url, self._credentials, f"{self._name.current}-ears", self.settings.keepalive_seconds,
            None, lambda dialed: self.inbox.put(dialed._replace(listens=True)), LARGEST_PACKET_BYTES,
        )  # fmt: skip


def _credentials(ground: Ground) -> Credentials:
    settings = ground.settings
    return Credentials(
        settings.mqtt_ca_file, settings.mqtt_certificate_file, settings.mqtt_key_file,
        ground.keys.find("CONFIG_DAEMON_BROKER_PASSWORD"),
    )  # fmt: skip


def unix_ms() -> int:
    """Return this machine's idea of the time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
