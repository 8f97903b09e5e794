"""Pytest fixtures: a real broker per test, clients that see what it sends, a network that breaks.

Which broker is chosen by CONFIG_DAEMON_TEST_BROKER: `auto` (Docker when its engine answers, else a
local mosquitto, else a failure), `docker`, `local`, or the URL of an empty broker of your own.

Laws: nothing is skipped for want of a broker; a broker listens on 127.0.0.1, on a random port that
stays its own while it is down; a killed test run leaves no local broker behind.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest

from config_daemon.cli.private_broker_files import mosquitto_programs
from tests.broker_conf import Conf, Tls
from tests.broker_proxy import Proxy
from tests.raw_client import RawClient
from tests.real_broker import Broker, DockerBroker, ExternalBroker, LocalBroker

VARIABLE = "CONFIG_DAEMON_TEST_BROKER"
DOCKER_SOCKET = Path("/var/run/docker.sock")


class BrokerFactory(Protocol):
    """Starts one more broker."""

    def __call__(
        self,
        *,
        extra_conf: str = "",
        acl: str | None = None,
        users: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        conf: str | None = None,
        folder: Path | None = None,
    ) -> Broker:
        """Return a running broker.

        `extra_conf` wins over our own lines; `users` (name → password) ends anonymous access; `conf`
        is a whole file in which `{port}` and `{folder}` are filled in; files that it names belong
        below `folder`.
        """


class ClientFactory(Protocol):
    """Connects one more client."""

    def __call__(self, where: Broker | Proxy | str, client_id: str = "", **options: Any) -> RawClient:
        """Return a connected client; the options are RawClient's."""


@cache
def chosen() -> tuple[str, str]:
    """Return which kind of broker the tests use, and that in words; the kind is empty when there is none."""
    wish = os.environ.get(VARIABLE, "auto")
    programs, engine = mosquitto_programs(), None
    if wish in ("auto", "docker"):
        engine = _docker_version()
    if "://" in wish:
        return "external", "your own"  # the URL may hold a password
    if engine:
        return "docker", f"eclipse-mosquitto in Docker {engine}"
    if wish in ("auto", "local") and programs:
        return "local", f"local {programs[0]}"
    wanted = {
        "docker": "no Docker engine answers, or testcontainers is not installed",
        "local": "mosquitto is not installed: `apt-get install mosquitto`",
        "auto": "neither a Docker engine nor mosquitto is there: `apt-get install mosquitto`",
    }
    return "", wanted.get(wish, f"{VARIABLE} is auto, docker, local or an mqtt:// URL, not {wish!r}")


def _docker_version() -> str | None:
    if "DOCKER_HOST" not in os.environ and not DOCKER_SOCKET.exists():
        return None
    try:
        docker: Any = importlib.import_module("docker")
        importlib.import_module("testcontainers.core.container")
    except ImportError:
        return None
    try:
        with contextlib.closing(docker.from_env(timeout=3)) as client:
            return str(client.version()["Version"])
    except (docker.errors.DockerException, OSError):
        return None


def pytest_report_header() -> str:
    """Print which broker the tests use."""
    return f"test broker: {chosen()[1]}"


@contextlib.contextmanager
def brokers(base: Path) -> Iterator[BrokerFactory]:
    """Start brokers below a folder, for as long as the context lasts."""
    kind, words = chosen()
    if not kind:
        pytest.fail(f"no broker to test with: {words}", pytrace=False)
    with contextlib.ExitStack() as opened:
        count = iter(range(1000))

        def make(*, conf: str | None = None, folder: Path | None = None, **options: Any) -> Broker:
            wanted = Conf(text=conf, **options)
            place = folder or base / f"broker-{next(count)}"
            made: Broker
            if kind == "external":
                if wanted != Conf():
                    pytest.fail("this test configures its broker: run it with " + VARIABLE + "=local", False)
                made = ExternalBroker(os.environ[VARIABLE])
            elif kind == "docker":
                made = DockerBroker(place, wanted)
            else:
                programs = mosquitto_programs()
                assert programs is not None
                made = LocalBroker(programs[0], place, wanted)
            opened.callback(made.close)
            return made

        yield make


@pytest.fixture
def broker_factory(tmp_path: Path) -> Iterator[BrokerFactory]:
    """Start brokers that end with the test."""
    with brokers(tmp_path) as make:
        yield make


@pytest.fixture
def broker(broker_factory: BrokerFactory) -> Broker:
    """Run one broker, open to everybody on this machine, configured as ours are."""
    return broker_factory()


@pytest.fixture
def raw_client() -> Iterator[ClientFactory]:
    """Connect clients that leave with the test."""
    with contextlib.ExitStack() as opened:

        def connect(where: Broker | Proxy | str, client_id: str = "", **options: Any) -> RawClient:
            url = where if isinstance(where, str) else where.url
            return opened.enter_context(RawClient(url, client_id, **options))

        yield connect


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    """Stand a breakable network in front of `broker`."""
    with Proxy(broker.port, broker.host, scheme=broker.scheme) as made:
        yield made
