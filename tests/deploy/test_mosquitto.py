"""The shipped ACL, held by the real mosquitto: each permission and each denial."""

from __future__ import annotations

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from config_daemon.cli.private_broker_files import COMMON_CONF
from tests.deploy.permissions import (
    FROM_DAEMON,
    NOT_AUTHORISED,
    OTHER_SERVICE,
    OTHER_WORKER,
    REQUESTS,
    SERVICE,
    TO_WORKER,
    WORKER,
    from_worker,
    readable,
    writable,
)
from tests.deploy.shipped import PEOPLE, SHIPPED, Fleet
from tests.raw_client import RawClient, Refused

FROM_DEMO = from_worker(SERVICE, WORKER)
FROM_OTHER = from_worker(OTHER_SERVICE, OTHER_WORKER)
EVERYBODYS = FROM_DAEMON | FROM_DEMO | FROM_OTHER
MAY_WRITE = {
    # The pattern for requests holds for the daemon too; a request is worth no more than its proof.
    "daemon": FROM_DAEMON | REQUESTS,
    "worker": FROM_DEMO | REQUESTS,
    "other worker": FROM_OTHER | REQUESTS,
    "reader": set[str](),
    "enroll": REQUESTS,
}
MAY_READ = {
    "daemon": (EVERYBODYS, "trust/beacon"),
    "worker": (TO_WORKER, "trust/beacon"),
    "other worker": (
        {topic.replace(SERVICE, OTHER_SERVICE).replace(WORKER, OTHER_WORKER) for topic in TO_WORKER},
        "trust/beacon",
    ),
    "reader": (
        {topic for topic in EVERYBODYS if not topic.startswith(("evidence/", "dry-run/", "enroll/"))},
        "trust/beacon",
    ),
    "enroll": ({"enroll/demo/answer", "enroll/box-2/answer"}, "enroll/demo/answer"),
}


def test_it_has_every_line_that_our_other_brokers_have() -> None:
    lines = (SHIPPED / "mosquitto.conf").read_text().splitlines()
    assert set(COMMON_CONF.splitlines()) <= set(lines)


@pytest.mark.parametrize("who", MAY_WRITE)
def test_each_user_writes_what_it_may_and_nothing_else(fleet: Fleet, who: str) -> None:
    assert writable(fleet.connect(who)) == MAY_WRITE[who]


@pytest.mark.parametrize("who", MAY_READ)
def test_each_user_reads_what_it_may_and_nothing_else(fleet: Fleet, who: str) -> None:
    clients = {name: fleet.connect(name) for name in PEOPLE}
    writers = {
        topic: clients[name]
        for name, topics in (("daemon", FROM_DAEMON), ("worker", FROM_DEMO), ("other worker", FROM_OTHER))
        for topic in topics
    }
    expected, last = MAY_READ[who]
    assert readable(clients[who], writers, last) == expected


def test_a_new_worker_reads_its_answer_and_no_config(fleet: Fleet) -> None:
    daemon, new = fleet.connect("daemon"), fleet.connect("enroll")
    new.subscribe("#", "system/config/global", "system/trust/keyring", "system/enroll/new-box/answer")
    for topic in ("config/global", "trust/keyring", "health/config-daemon"):
        assert daemon.publish(f"system/{topic}", b"x", retain=True) < 0x80
    assert daemon.publish("system/enroll/new-box/answer", b"last") < 0x80
    new.wait_for_topic("system/enroll/new-box/answer")
    assert set(new.topics()) == {"system/enroll/new-box/answer"}


def test_nobody_but_the_daemon_clears_a_retained_config(fleet: Fleet) -> None:
    topic = f"system/config/{SERVICE}"
    assert fleet.connect("daemon").publish(topic, b"kept", retain=True) < 0x80
    for who in ("worker", "other worker", "reader", "enroll"):
        assert fleet.connect(who, f"thief-{len(who)}").publish(topic, b"", retain=True) == NOT_AUTHORISED
    worker = fleet.connect("worker")
    worker.subscribe(topic)
    assert worker.wait_for_topic(topic).payload == b"kept"


def test_an_old_client_is_told_yes_and_denied_all_the_same(fleet: Fleet) -> None:
    daemon = fleet.connect("daemon")
    daemon.subscribe("system/#")
    old = fleet.connect("worker", version=MQTTProtocolVersion.MQTTv311)
    assert old.publish("system/config/stt-worker", b"forged", retain=True) == 0
    assert old.publish("system/presence/demo", b"online") == 0
    daemon.wait_for_topic("system/presence/demo")
    assert daemon.topics() == ["system/presence/demo"]


def test_a_will_is_held_against_the_acl_too(fleet: Fleet) -> None:
    daemon = fleet.connect("daemon")
    daemon.subscribe("system/#")
    fleet.connect("other worker", will=("system/health/config-daemon", b"forged")).drop()
    fleet.connect("worker", will=("system/presence/demo", b"offline")).drop()
    daemon.wait_for_topic("system/presence/demo")
    assert daemon.topics() == ["system/presence/demo"]


def test_a_worker_speaks_as_its_client_id_only(fleet: Fleet) -> None:
    renamed = fleet.connect("worker", "box-9")
    assert renamed.publish("system/presence/box-9", b"online") < 0x80
    for topic in ("presence/demo", f"status/{SERVICE}/demo", "evidence/keyring/demo"):
        assert renamed.publish(f"system/{topic}", b"x") == NOT_AUTHORISED


@pytest.mark.parametrize("client_id", ["+", "#", "demo/#", "%c", "demo/answer", "../demo"])
def test_no_client_id_opens_a_topic_of_somebody_else(fleet: Fleet, client_id: str) -> None:
    for who in ("worker", "enroll", "reader"):
        client = fleet.connect(who, client_id)
        for topic in (f"config/{SERVICE}", "presence/demo", "enroll/demo/answer", f"status/{SERVICE}/demo"):
            assert client.publish(f"system/{topic}", b"x") == NOT_AUTHORISED


def test_the_patterns_leave_a_reader_only_unsigned_hints_about_itself(fleet: Fleet) -> None:
    reader = fleet.connect("reader", WORKER)
    assert writable(reader) == {f"presence/{WORKER}", f"status/global/{WORKER}"}


def test_passwords_are_needed(fleet: Fleet) -> None:
    where = fleet.broker
    for url in (where.url, where.url_for("config-daemon", "guessed"), where.url_for("stranger", "guessed")):
        with pytest.raises(Refused) as refused:
            RawClient(url, ca=fleet.ca)
        assert refused.value.code == NOT_AUTHORISED
