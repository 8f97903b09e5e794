"""Rows 13 to 31: the broker dies, forgets, freezes, refuses or lies; the network; many services, many writes."""

from __future__ import annotations

import datetime
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import trustme

from tests.broker_conf import Conf, Tls, password_line
from tests.raw_client import RawClient
from tools.faults.hands import client, live, published, retained
from tools.faults.run import fault
from tools.faults.stage import Stage

FORGETFUL = Conf(extra_conf="persistence false\nautosave_on_changes false\nautosave_interval 1800")
SELDOM = Conf(extra_conf="autosave_on_changes false\nautosave_interval 1800")
LONG_AGO = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
HOST = "127.0.0.1"


# death and forgetting -----------------------------------------------------------------------------


@fault(13, "broker-killed-forgetful", conf=lambda _: FORGETFUL, rate=50)
def broker_killed_forgetful(stage: Stage) -> None:
    """kill -9 of a broker that keeps nothing: everything is told again, byte for byte."""
    _down(stage, stage.broker.kill, stage.scaled(0.3, 10))


@fault(14, "broker-restarted", rate=0)
def broker_restarted(stage: Stage) -> None:
    """A broker that kept everything comes back: only what differs is sent."""
    stage.until(stage.confirmed, "the broker's word")
    stage.broker.stop()
    writer = stage.writer()
    changed, *rest = stage.services
    version = writer.write(changed)
    stage.broker.start()
    with client(stage) as listener:
        stage.until(lambda: stage.in_force({changed: version}), "the change", 30)
        stage.until(stage.confirmed, "the broker's word")
        for service in rest:
            stage.must(not live(listener, service), f"nothing is sent for {service}, which did not change")


@fault(15, "broker-wiped", rate=50)
def broker_wiped(stage: Stage) -> None:
    """The broker's folder is emptied."""
    stage.expect(within=15, wire=False, condition="broker-down")
    stage.broker.wipe()
    stage.pass_time(0.5)


@fault(16, "broker-down-for-long", rate=0, services=8, options={"patience": 100})
def broker_down_for_long(stage: Stage) -> None:
    """Many writes while the broker is away: afterwards one message a service, the newest."""
    stage.until(stage.confirmed, "the broker's word")
    stage.broker.stop()
    writer, end = stage.writer(), time.monotonic() + stage.scaled(0.5, 600)
    written = 0
    while written < stage.scaled(60, 500) or time.monotonic() < end:
        writer.write(stage.rng.choice(stage.services))
        written += 1
        stage.pass_time(stage.scaled(0.005, 1.2))
    versions = stage.stored_versions()
    stage.broker.start()
    with client(stage) as listener:
        stage.until(lambda: stage.in_force(versions), "everything in force", stage.scaled(20, 100))
        for service in stage.services:
            sent = live(listener, service)
            stage.must(len(sent) == (versions[service] > 1), f"{service}: one message, not {len(sent)}")


def _down(stage: Stage, end: Callable[[], None], seconds: float) -> None:
    end()
    stage.expect(within=10, wire=False, condition="broker-down")
    stage.pass_time(seconds)
    stage.broker.start()


# hanging ------------------------------------------------------------------------------------------


@fault(17, "broker-frozen", rate=20, options={"patience": 90})
def broker_frozen(stage: Stage) -> None:
    """SIGSTOP of the broker is noticed within two keepalives; writers never wait for it."""
    stage.broker.suspend()
    stage.expect(within=2 * 2 + 1, wire=False, condition="broker-down")
    stage.pass_time(stage.scaled(5, 300))
    stage.broker.resume()


@fault(18, "half-open", rate=20, options={"through_proxy": True, "patience": 90})
def half_open(stage: Stage) -> None:
    """The network takes all bytes and delivers none."""
    stage.proxy.swallow()
    stage.expect(within=2 * 2 + 1, wire=False, condition="broker-down")
    stage.pass_time(stage.scaled(5, 300))
    stage.proxy.heal()


@fault(19, "answers-swallowed", rate=50, options={"through_proxy": True, "patience": 30})
def answers_swallowed(stage: Stage) -> None:
    """The broker gets everything and its answers are lost; then the connection breaks."""
    for _ in range(int(stage.scaled(2, 50))):
        stage.proxy.swallow("down")
        stage.pass_time(stage.rng.uniform(0.2, 0.8))
        stage.proxy.cut()
        stage.proxy.heal()
        stage.until(stage.connected, "the daemon again", 30)


@fault(20, "thief-of-a-name", rate=10, options={"patience": 60})
def thief_of_a_name(stage: Stage) -> None:
    """Somebody connects under the daemon's name, and a worker's, again and again."""
    assert stage.daemon is not None
    words = (stage.folder / "broker" / "broker.log").read_text().split()
    name = next(word for word in words if word.startswith("config-daemon-"))
    before = os.times()
    for _ in range(int(stage.scaled(3, 30))):
        for stolen in (name, "edge-1"):
            with RawClient(stage.url("edge", direct=True), stolen):
                stage.pass_time(0.2)
    stage.until(stage.connected, "the daemon again", 60)
    spent = os.times()
    stage.figures["cpu_seconds"] = round(spent.children_user - before.children_user, 3)


# refusing -----------------------------------------------------------------------------------------

_ALL = "".join(f"user {user}\ntopic readwrite #\n" for user in ("edge", "ear"))


def _acl(stage: Stage, daemon: str) -> None:
    """Change what the daemon may do, as an operator does: the file, and the signal to read it."""
    (stage.folder / "broker" / "acl").write_text(f"user daemon\n{daemon}\n{_ALL}")
    os.kill(stage.broker.pid, signal.SIGHUP)


@fault(21, "one-topic-denied", conf=lambda _: Conf(acl=f"user daemon\ntopic readwrite #\n{_ALL}"), rate=0,
       options={"patience": 15})
def one_topic_denied(stage: Stage) -> None:
    """The daemon may not write one service: that one is named, the others go on."""
    denied, other = stage.services[:2]
    _acl(stage, f"topic deny system/config/{denied}\ntopic readwrite system/#")
    stage.pass_time(0.1)  # the broker has no answer to a signal
    stage.wrong()
    writer = stage.writer()
    writer.write(denied)
    stage.see(condition="publish-denied", ok=False, event="publish-denied")
    version = writer.write(other)
    stage.until(lambda: stage.in_force({other: version}), "the other service")
    _acl(stage, "topic readwrite #")
    stage.right()
    stage.broker.stop()
    stage.broker.start()  # what was refused is tried again after a minute, or with the next connection


@fault(22, "no-read-back", conf=lambda _: Conf(acl=f"user daemon\ntopic readwrite #\n{_ALL}"), rate=10,
       options={"patience": 15})
def no_read_back(stage: Stage) -> None:
    """The daemon may not read what is retained: it says so, and goes on by the broker's answers alone."""
    _acl(stage, "topic write system/#")
    stage.broker.stop()
    stage.broker.start()
    stage.see(within=12, condition="readback-unavailable", ok=False, event="readback-unavailable")
    stage.wrong()
    before = stage.stored_versions()
    stage.until(lambda: stage.in_force(before), "what is published meanwhile")
    _acl(stage, "topic readwrite #")
    stage.right()
    stage.broker.stop()
    stage.broker.start()


def _tls(folder: Path) -> Conf:
    """Make a CA and a good certificate; the CA is kept for the fault to make bad ones."""
    place = folder / "tls"
    place.mkdir(parents=True)
    ca = trustme.CA()
    ca.cert_pem.write_to_path(place / "ca.crt")
    ca.private_key_pem.write_to_path(place / "ca.key")
    _put(place, ca.issue_cert(HOST))
    return Conf(tls=Tls(place / "ca.crt", place / "server.crt", place / "server.key"))


def _put(place: Path, certificate: trustme.LeafCert) -> None:
    (place / "server.crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(place / "server.key")


@fault(26, "bad-certificate", conf=_tls, rate=5, options={"patience": 90})
def bad_certificate(stage: Stage) -> None:
    """The certificate is expired, for another host, of another CA: no connection, and never in plain text."""
    place = stage.folder / "tls"
    ca = trustme.CA.from_pem((place / "ca.crt").read_bytes(), (place / "ca.key").read_bytes())
    bad = [ca.issue_cert(HOST, not_after=LONG_AGO), ca.issue_cert("elsewhere.example"), trustme.CA().issue_cert(HOST)]
    for certificate in bad if stage.full else [stage.rng.choice(bad)]:
        stage.broker.stop()
        _put(place, certificate)
        stage.broker.start()
        stage.until(lambda: "broker-tls" in stage.conditions, "the condition broker-tls", 30)
    stage.broker.stop()
    _put(place, ca.issue_cert(HOST))
    stage.broker.start()
    stage.until(stage.connected, "a connection without a restart", 90)


@fault(27, "password-rotated", rate=5, options={"patience": 90})
def password_rotated(stage: Stage) -> None:
    """The broker knows another password: the daemon says so and keeps trying."""
    passwords = stage.folder / "broker" / "passwords"
    good = passwords.read_text()
    others = "".join(line for line in good.splitlines(keepends=True) if not line.startswith("daemon:"))
    stage.broker.stop()
    passwords.write_text(others + password_line("daemon", "another"))
    stage.broker.start()
    stage.until(lambda: "broker-auth" in stage.conditions, "the condition broker-auth")
    stage.broker.stop()
    passwords.write_text(good)
    stage.broker.start()
    stage.until(stage.connected, "a connection without a restart", 90)


@fault(28, "too-large-for-the-broker", conf=lambda _: Conf(extra_conf="max_packet_size 4000"), rate=0)
def too_large_for_the_broker(stage: Stage) -> None:
    """A config is larger than the broker takes: that service is named, the others go on, the connection stays."""
    large, other = stage.services[:2]
    writer = stage.writer()
    writer.write(large, padding="x" * 5000)
    stage.see(condition="too-large")
    version = writer.write(other)
    stage.until(lambda: stage.in_force({other: version}), "the other service")
    stage.must("broker-down" not in stage.conditions, "the connection stays")
    writer.write(large, padding="")


# lying --------------------------------------------------------------------------------------------


@fault(23, "topics-overwritten", rate=0)
def topics_overwritten(stage: Stage) -> None:
    """Somebody writes garbage, an older message, another service's, nothing: put right within five seconds."""
    mine, other = stage.services[:2]
    topic, writer = f"system/config/{mine}", stage.writer()
    old = retained(stage)
    version = writer.write(mine)
    stage.until(lambda: stage.in_force({mine: version}), "the second version")
    stage.until(stage.confirmed, "the broker's word")
    new = retained(stage)[topic]
    with client(stage) as attacker:
        attacks = [b"garbage", old[topic], old[f"system/config/{other}"], b""]
        for raw in attacks if stage.full else stage.rng.sample(attacks, 2):
            attacker.clear()
            attacker.publish(topic, stage.theirs(raw), retain=True)
            newest = attacker.wait_for(lambda found, raw=raw: [m for m in found if m.topic == topic and m.payload != raw])
            stage.must(newest[-1].payload == new, "the very bytes, or none")
    stage.until(lambda: "foreign-write" in stage.conditions, "the condition foreign-write")


@fault(23, "older-message-put-back", rate=0)
def older_message_put_back(stage: Stage) -> None:
    """Somebody puts the message before the newest back: no worker takes it."""
    topic = f"system/config/{stage.services[0]}"
    old = retained(stage)[topic]
    version = stage.writer().write(stage.services[0])
    stage.until(lambda: stage.in_force({stage.services[0]: version}), "the second version")
    with client(stage) as attacker:
        attacker.publish(topic, stage.theirs(old), retain=True)
        stage.pass_time(0.5)  # a worker that takes it does so at once


@fault(24, "yesterday-put-back", rate=0)
def yesterday_put_back(stage: Stage) -> None:
    """The whole state of yesterday is put back: nobody goes back, the daemon says what is today."""
    yesterday = retained(stage)
    with stage.traffic(100):
        stage.pass_time(0.3)
    stage.until(lambda: stage.in_force(stage.stored_versions()), "today")
    stage.until(stage.confirmed, "the broker's word")
    with client(stage) as attacker:
        for topic, raw in yesterday.items():
            attacker.publish(topic, stage.theirs(raw), retain=True)
        stage.until(lambda: "foreign-write" in stage.conditions, "the condition foreign-write")


@fault(25, "one-topic-withheld", conf=lambda _: Conf(acl=f"user daemon\ntopic readwrite #\n{_ALL}"), rate=0,
       options={"patience": 30})
def one_topic_withheld(stage: Stage) -> None:
    """The broker keeps one service from the workers: two beacons later they say `frozen`."""
    hidden = stage.services[0]
    allowed = "".join(f"topic read system/config/{name}\n" for name in stage.services[1:])
    rest = "topic read system/trust/#\ntopic write system/evidence/#\n"
    acl = stage.folder / "broker" / "acl"
    acl.write_text(f"user daemon\ntopic readwrite #\nuser ear\ntopic readwrite #\nuser edge\n{allowed}{rest}")
    os.kill(stage.broker.pid, signal.SIGHUP)
    stage.pass_time(0.1)
    writer = stage.writer()
    writer.write(hidden)
    stage.until(stage.confirmed, "the broker's word")
    extra = [f"more-{number}" for number in range(6)]
    stage.define(extra)
    began, writer = time.monotonic(), stage.writer()
    for name in extra:  # each of them is a reason for a beacon, which is due in half a minute else
        stage.until(lambda name=name: writer.write(name), "a service that was defined just now")
        stage.pass_time(0.4)
    stage.until(
        lambda: any("frozen" in one.get("flags", ()) for one in stage.reports("edge-1")), "the flag frozen", 90
    )
    stage.figures["frozen_after_seconds"] = round(time.monotonic() - began, 3)
    _acl(stage, "topic readwrite #")
    stage.broker.stop()
    stage.broker.start()


# many ---------------------------------------------------------------------------------------------


@fault(30, "cold-start-of-many", conf=lambda _: SELDOM, rate=0, options={"patience": 60})
def cold_start_of_many(stage: Stage) -> None:
    """A daemon starts with thousands of services that nobody was told of."""
    stage.kill_daemon()
    names = [f"many-{number}" for number in range(int(stage.scaled(300, 10_000)))]
    stage.define(names)
    stage.writer().write_all(names, padding="x" * 900)
    began = time.monotonic()
    stage.start_daemon()
    stage.until(lambda: stage.connected() and stage.confirmed() and len(stage.view.services()) > len(names),
                "everything confirmed", stage.scaled(30, 120))  # fmt: skip
    stage.figures["cold_start_seconds"] = round(time.monotonic() - began, 3)


@fault(31, "flood-of-one", rate=0)
def flood_of_one(stage: Stage) -> None:
    """A thousand writes a second to one service: at most twenty messages a second, and the last one."""
    service, seconds = stage.services[0], stage.scaled(1, 60)
    with client(stage) as listener:
        writer, end = stage.writer(), time.monotonic() + seconds
        while time.monotonic() < end:
            writer.write(service)
        stage.until(lambda: stage.in_force(stage.stored_versions()), "the last one")
        sent = published(listener, service)
    stage.figures |= {"writes": stage.stored_versions()[service], "messages": sent}
    stage.must(sent <= 20 * seconds + 5, f"at most 20 messages a second, not {sent} in {seconds} s")
