"""One body of tests over every way to reach a broker: the client does the same over all of them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from config_daemon.worker import client
from tests.broker_conf import Tls
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.real_broker import Broker
from tests.worker.scene import Program, Source
from tests.worker.speaking import told

LARGE = {"number": 1, "text": "x" * 12_000}  # Mosquitto sends 4 KiB each 0.1 s over websockets


@dataclass
class Way:
    """A broker, how the client reaches it, and how the test does."""

    broker: Broker
    url: str
    options: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)


def plain(make: BrokerFactory, _folder: Path) -> Way:
    broker = make()
    return Way(broker, broker.url)


def mqtt_3_1_1(make: BrokerFactory, _folder: Path) -> Way:
    broker = make()
    return Way(broker, broker.url, {"protocol": "3.1.1"})


def websockets(make: BrokerFactory, _folder: Path) -> Way:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    broker = make(extra_conf=f"listener {port} 127.0.0.1\nprotocol websockets")
    return Way(broker, f"ws://127.0.0.1:{port}")


def certificates(make: BrokerFactory, folder: Path) -> Way:
    ca = trustme.CA()
    files = {name: folder / f"{name}.pem" for name in ("ca", "server", "server-key", "edge", "edge-key")}
    ca.cert_pem.write_to_path(str(files["ca"]))
    for name, issued in (("server", ca.issue_cert("127.0.0.1")), ("edge", ca.issue_cert("edge"))):
        issued.cert_chain_pems[0].write_to_path(str(files[name]))
        issued.private_key_pem.write_to_path(str(files[f"{name}-key"]))
    broker = make(tls=Tls(files["ca"], files["server"], files["server-key"], require_certificate=True))
    options = {"ca_file": files["ca"], "certificate_file": files["edge"], "key_file": files["edge-key"]}
    ours = {"ca": files["ca"], "certificate": (files["edge"], files["edge-key"])}
    return Way(broker, broker.url, options, ours)


@pytest.fixture(params=[plain, mqtt_3_1_1, websockets, certificates], ids=lambda way: way.__name__)
def way(request: pytest.FixtureRequest, broker_factory: BrokerFactory, tmp_path: Path) -> Way:
    make: Callable[[BrokerFactory, Path], Way] = request.param
    return make(broker_factory, tmp_path)


def test_a_client_applies_says_so_comes_back_and_leaves(
    way: Way, raw_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RETRY_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(client, "RETRY_LAST_SECONDS", 0.1)
    source = Source(raw_client(way.broker, **way.ours))
    first = source.config(LARGE)
    with Program(tmp_path / "state", way.url, **way.options) as edge:
        assert edge.next().new == LARGE
        source.wait_for_presence("edge", b"online")
        before = source.status(tmp_path / "state", lambda status: status.last_attempt is not None)
        assert told(before) == (first, first, "applied", None)

        way.broker.kill()
        edge.note("broke")
        way.broker.start()
        source = Source(raw_client(way.broker, **way.ours), after=source)
        second = source.config({"number": 2})
        assert edge.next().new == {"number": 2}
        status = source.status(
            tmp_path / "state", lambda status: status.running and status.running.sequence == second
        )
        assert status.order > before.order
    source.wait_for_last_presence("edge", b"offline")


def test_what_it_could_not_take_is_delivered_again(
    way: Way, raw_client: ClientFactory, tmp_path: Path
) -> None:
    """A message that waits for its keyring, or for a disk, comes again over the same connection."""
    source = Source(raw_client(way.broker, **way.ours))
    edge = Program(tmp_path / "state", way.url, **way.options)
    kept, failing = edge.client._follower._keep.save, iter([True])

    def save(*what: Any) -> None:
        if next(failing, False):
            raise OSError(28, "No space left on device")
        kept(*what)

    edge.client._follower._keep.save = save  # type: ignore[method-assign]
    source.config({"number": 1})
    with edge:
        assert edge.next().new == {"number": 1}
        assert edge.notes.empty()
