"""Rows 21, 22 and 26 to 28: the broker refuses topics, reading, the certificate, the password, the size."""

from __future__ import annotations

import datetime
from pathlib import Path

import trustme

from tests.broker_conf import Conf, Tls, password_line
from tools.faults.hands import OPEN_ACL, allow
from tools.faults.run import fault
from tools.faults.stage import Stage

LONG_AGO = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
HOST = "127.0.0.1"


@fault(21, "one-topic-denied", conf=lambda _: Conf(acl=OPEN_ACL), rate=0, options={"patience": 15})
def one_topic_denied(stage: Stage) -> None:
    """The daemon may not write one service: that one is named, the others go on."""
    denied, other = stage.services[:2]
    allow(stage, f"topic deny system/config/{denied}\ntopic readwrite system/#")
    stage.wrong()
    writer = stage.writer()
    writer.write(denied)
    stage.see(condition="publish-denied", ok=False, event="publish-denied")
    version = writer.write(other)
    stage.until(lambda: stage.in_force({other: version}), "the other service")
    allow(stage)
    stage.right()
    stage.broker.stop()
    stage.broker.start()  # what was refused is tried again after a minute, or with the next connection


@fault(22, "no-read-back", conf=lambda _: Conf(acl=OPEN_ACL), rate=10, options={"patience": 15})
def no_read_back(stage: Stage) -> None:
    """The daemon may not read what is retained: it says so, and goes on by the broker's answers alone."""
    allow(stage, "topic write system/#")
    stage.broker.stop()
    stage.broker.start()
    stage.see(within=12, condition="readback-unavailable", ok=False, event="readback-unavailable")
    stage.wrong()
    before = stage.stored_versions()
    stage.until(lambda: stage.in_force(before), "what is published meanwhile")
    allow(stage)
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
    bad = [
        ca.issue_cert(HOST, not_after=LONG_AGO),
        ca.issue_cert("elsewhere.example"),
        trustme.CA().issue_cert(HOST),
    ]
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
