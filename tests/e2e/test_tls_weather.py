"""A running daemon whose broker comes back with something else than the certificate that it trusts."""

from __future__ import annotations

import contextlib
import datetime
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from config_daemon.cli.private_broker import reserve_port
from config_daemon.store.status import StatusView
from tests.broker_conf import Tls
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.e2e.house import House, until
from tests.e2e.test_weather import TOPIC, conditions, confirmed, retained
from tests.real_broker import HOST, OwnBroker

LONG_AGO = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
RECOVER_SECONDS = 60.0  # what was tried in vain doubles the wait for the next attempt
FIRST_BYTE_OF_TLS = b"\x16"  # a handshake record; MQTT's CONNECT begins with 0x10


class Secured:
    """A house at a broker with TLS and, for an observer who trusts anybody, a second door in plain text."""

    def __init__(self, make: BrokerFactory, folder: Path, side: int) -> None:
        self.ca, self.folder, self.side = trustme.CA(), folder, f"mqtt://{HOST}:{side}"
        tls = Tls(folder / "ca.crt", folder / "server.crt", folder / "server.key")
        folder.mkdir()
        self.ca.cert_pem.write_to_path(tls.ca)
        self.tls, self.good = tls, self.ca.issue_cert(HOST)
        self._put(self.good)
        broker = make(tls=tls, folder=folder, extra_conf=f"listener {side} {HOST}\n")
        assert isinstance(broker, OwnBroker)
        self.broker, self._conf = broker, broker.conf_file.read_text()
        self.house = House(folder / "data", broker.url)

    def start_daemon(self) -> None:
        self.house.daemon(CONFIG_DAEMON_MQTT_CA_FILE=str(self.tls.ca))

    def come_back(self, certificate: trustme.LeafCert | None) -> None:
        """Restart the broker with another certificate, or with none."""
        self.broker.stop()
        words = ("cafile", "certfile", "keyfile", "require_certificate")
        lines = self._conf.splitlines(keepends=True)
        if certificate is not None:
            self._put(certificate)
        else:
            lines = [line for line in lines if not line.startswith(words)]
        self.broker.conf_file.write_text("".join(lines))
        self.broker.start()

    def told(self, pattern: str) -> str:
        """Wait until a condition, as `name: detail`, matches; return it."""
        seen: set[str] = set()

        def look() -> str:
            found = {f"{row[0]}: {row[4]}" for row in StatusView(self.house.files.status).conditions()}
            seen.update(found)
            return next((said for said in found if re.search(pattern, said)), "")

        try:
            return until(look, f"a condition like {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; seen: {seen}") from None

    def _put(self, certificate: trustme.LeafCert) -> None:
        for path in (self.tls.certificate, self.tls.key):
            path.unlink(missing_ok=True)
        certificate.private_key_pem.write_to_path(self.tls.key)
        certificate.cert_chain_pems[0].write_to_path(self.tls.certificate)


@pytest.fixture
def secured(
    broker_factory: BrokerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Secured]:
    """A house whose daemon and worker trust one CA, and the broker that has a certificate of it."""
    with contextlib.ExitStack() as opened:
        made = Secured(broker_factory, tmp_path / "secured", reserve_port(opened))
        monkeypatch.setenv("SSL_CERT_FILE", str(made.tls.ca))  # how a demo worker is told its CA
        yield made
        made.house.close()


@pytest.mark.parametrize(
    ("weather", "words"),
    [
        ("expired", "broker-tls: .*certificate has expired"),
        ("other-host", "broker-tls: .*certificate is not valid for"),
        ("stranger", "broker-tls: .*unable to get local issuer certificate"),
        ("plain", "broker-tls: .*(does it speak TLS|no TLS with)"),
    ],
)
def test_nothing_is_told_to_a_broker_that_cannot_be_trusted(
    secured: Secured, raw_client: ClientFactory, weather: str, words: str
) -> None:
    wrong = {
        "expired": secured.ca.issue_cert(
            HOST, not_before=LONG_AGO, not_after=LONG_AGO + datetime.timedelta(1)
        ),
        "other-host": secured.ca.issue_cert("broker.example"),
        "stranger": trustme.CA().issue_cert(HOST),
        "plain": None,
    }
    house = secured.house
    secured.start_daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    before = retained(raw_client(secured.side))
    secured.come_back(wrong[weather])
    assert secured.broker.url in secured.told(words), "which broker"
    observer = raw_client(secured.side)
    observer.subscribe("system/#")
    version = house.set("stt-worker", vad_threshold=0.2)
    until(
        lambda: StatusView(house.files.status).service("stt-worker").state == "in-flight", "the change seen"
    )
    assert retained(raw_client(secured.side)) == before
    assert not [message for message in observer.messages if not message.retain]
    secured.come_back(secured.good)
    worker.wait_for(version, RECOVER_SECONDS)
    confirmed(house, version)
    until(lambda: not conditions(house) & {"broker-down", "broker-tls"}, "the conditions are over")
    assert not [report for report in worker.reports if report["state"] == "rejected"]
    assert retained(raw_client(secured.side), TOPIC) != before


def test_what_does_not_speak_tls_hears_handshakes_only(secured: Secured) -> None:
    """Somebody took the broker's port: whatever he answers, the daemon says nothing in plain text."""
    secured.start_daemon()
    confirmed(secured.house, secured.house.set("stt-worker", vad_threshold=0.1))
    secured.broker.stop()
    heard: list[bytes] = []
    with socket.socket() as taken:
        taken.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # the test's own reservation is bound to it
        taken.bind((HOST, secured.broker.port))
        taken.listen()

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    visitor, _ = taken.accept()
                    with visitor:
                        heard.append(visitor.recv(4096))
                        visitor.sendall(b"\x20\x03\x00\x00\x00")  # the CONNACK of somebody who takes anything

        threading.Thread(target=answer, daemon=True).start()
        until(lambda: len(heard) >= 2, "two attempts", 30)
        secured.told("broker-tls: no TLS with")
        taken.shutdown(socket.SHUT_RDWR)
    assert {said[:1] for said in heard} == {FIRST_BYTE_OF_TLS}
    secured.broker.start()
    until(lambda: "broker-tls" not in conditions(secured.house), "trusted again", RECOVER_SECONDS)
