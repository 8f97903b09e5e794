"""A fleet's broker with the shipped configuration, certificates of the shipped script, and users."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.broker_conf import password_line
from tests.broker_fixtures import BrokerFactory
from tests.deploy.permissions import WORKER
from tests.deploy.shipped import PEOPLE, SHIPPED, Fleet, make, shipped_conf


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    for arguments in (("server", "127.0.0.1", "localhost"), ("client", WORKER)):
        done = make(folder, *arguments)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def deploy(
    broker_factory: BrokerFactory, certificates: Path, tmp_path: Path
) -> Iterator[Callable[..., Fleet]]:
    opened = contextlib.ExitStack()

    def start(**changes: bool) -> Fleet:
        folder = tmp_path / "etc"
        shutil.copytree(certificates, folder)
        shutil.copy(SHIPPED / "acl", folder / "acl")
        users = {user for user, _ in PEOPLE.values()}
        (folder / "passwords").write_text("".join(password_line(user, f"secret of {user}") for user in users))
        broker = broker_factory(conf=shipped_conf(folder, **changes), folder=folder)
        return Fleet(broker, folder, folder / "ca.crt", opened)

    with opened:
        yield start


@pytest.fixture
def fleet(deploy: Callable[..., Fleet]) -> Fleet:
    return deploy()
