"""`watch`: verified messages, live."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.arguments import Service, unknown_service
from config_daemon.cli.session import Session, standard
from config_daemon.errors import KeyUnavailable, RejectedUpdate, StoreError

if TYPE_CHECKING:
    from config_daemon.wire.keyring import Keyring
    from config_daemon.wire.messages import Health
    from config_daemon.wire.topics import Topics
    from config_daemon.worker.health_order import HealthOrder


@click.command()
@click.argument("service", required=False, type=Service())
@click.option(
    "--broker", metavar="URL", help="Where to listen (else CONFIG_DAEMON_WATCH_URL, dev's reader, MQTT_URL)."
)
@standard
@click.pass_obj
def command(session: Session, service: str | None, broker: str | None) -> None:
    """Show messages as they arrive, each verified against the keyring; Ctrl-C ends.

    OLD is said of a good health message, or a last will, that somebody played again: what came before it is newer.
    With --json: one object a line, with "current": false for these.
    """
    import uuid

    from config_daemon.wire.topics import Topics
    from config_daemon.worker.client import Link, Subscriber

    if service is not None:
        _check(session, service)
    topics = Topics(session.ground.settings.topic_prefix)
    filters = [topics.config(service)] if service else [topics.every_config, topics.every_health]
    rings, orders = Rings(session), Orders()

    def receive(topic: str, raw: bytes) -> bool:
        facts = judged(topic, raw, topics, rings.newest(), orders)
        session.show(facts, lambda: line(facts))
        return True

    link = Link(_address(session, broker), f"watch-{uuid.uuid4().hex[:12]}")
    subscriber = Subscriber(link, filters, receive, note=session.say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: subscriber.stop())
    unread = threading.Event()

    def leave() -> None:
        unread.set()
        subscriber.stop()

    _once_unread(leave)
    session.say(f"watching {', '.join(filters)} at {link.address}")
    if broker is None and session.ground.settings.watch_url is None and not session.daemon_alive:
        session.say(f"note: no daemon runs on {session.folder}; start one with `config-daemon dev` or `run`")
    subscriber.run()
    if unread.is_set():
        raise BrokenPipeError


def _check(session: Session, service: str) -> None:
    """Refuse a service that nothing knows; where the store cannot be read, that is only said.

    Raises: NotFound.
    """
    if session.catalog.get(service) is not None:
        return
    try:
        known = session.reports.row(service) is not None
    except (StoreError, KeyUnavailable) as error:
        session.say(f"note: nothing here defines {service}, and the store cannot be read: {error.message}")
        return
    if not known:
        raise unknown_service(session, service)


def _once_unread(act: Callable[[], None]) -> None:
    """Act once nobody reads stdout any more: the next message, at which writing fails, may be days away."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a stdout that is no file, or none
        number = sys.stdout.fileno()
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            return
        pipe = select.poll()
        pipe.register(number, 0)  # no event is asked for: errors come all the same

        def wait() -> None:
            pipe.poll()
            act()

        threading.Thread(target=wait, name="stdout-watch", daemon=True).start()


class Rings:
    """The keyring of the folder, which may change while we watch.

    Raises: KeyUnavailable when there is none to begin with.
    """

    def __init__(self, session: Session) -> None:
        self._session, self._held = session, session.ground.keyring()

    def newest(self) -> Keyring:
        """Return the newest keyring; the one before while it cannot be read."""
        with contextlib.suppress(KeyUnavailable):
            self._held = self._session.ground.keyring()
        return self._held


class Orders:
    """What each daemon said last, by topic."""

    def __init__(self) -> None:
        self._orders: dict[str, HealthOrder] = {}

    def is_current(self, topic: str, health: Health) -> bool:
        """Take a verified health message; False when it was said before what is known already."""
        from config_daemon.worker.health_order import HealthOrder

        order = self._orders.setdefault(topic, HealthOrder())
        known = order.current
        return order.take(health) or health == known  # delivered again, as after a reconnect


def judged(topic: str, raw: bytes, topics: Topics, keyring: Keyring, orders: Orders) -> dict[str, Any]:
    """Return what there is to say about one message."""
    from config_daemon.wire.messages import HEALTH, parse_health
    from config_daemon.wire.sealing import unseal
    from config_daemon.worker.trust import Trust

    service = topics.service_of(topic)
    try:
        if service is None:
            message: Any = parse_health(unseal(raw, HEALTH, keyring.config_keys)[0])
        else:
            message, _ = Trust(keyring, [service], topics).verify(topic, raw)
    except RejectedUpdate as rejection:
        return {"topic": topic, "verdict": "rejected", "step": rejection.step, "reason": rejection.reason,
                "detail": rejection.detail}  # fmt: skip
    return {
        "topic": topic,
        "verdict": "good",
        **({} if service is not None or orders.is_current(topic, message) else {"current": False}),
        **message.model_dump(mode="json", exclude_none=service is not None),
    }


def line(facts: dict[str, Any]) -> str:
    """Return one message as one line of text."""
    if facts["verdict"] != "good":
        return f"{facts['topic']}  REJECTED at step {facts['step']}: {facts['reason']} ({facts['detail']})"
    when = facts["issued_at"]
    if "config" not in facts:
        words = ["ok" if facts["ok"] else "NOT OK", facts["operational_mode"], str(facts["event"])]
        mark = "" if facts.get("current", True) else "OLD  "
        return f"{when}  {facts['topic']}  {mark}{'  '.join(words)}  behind {facts['behind']}"
    body = "deleted" if facts.get("deleted") else json.dumps(facts["config"], ensure_ascii=False)
    return f"{when}  {facts['topic']}  version {facts['config_version']}  number {facts['sequence']}  {body}"


def _address(session: Session, broker: str | None) -> Any:
    from config_daemon.wire.address import BrokerAddress

    if broker:
        return BrokerAddress.parse(broker)
    settings = session.ground.settings
    if settings.watch_url is not None:
        return settings.watch_url
    reader = session.folder / "dev.json"
    if reader.is_file():
        return BrokerAddress.parse(json.loads(reader.read_text())["mqtt_url"])
    return settings.mqtt_url
