"""The daemon as docs/deploy.md installs it: TLS, the shipped ACL, keys as credentials, told to systemd."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dotenv import dotenv_values

from tests.deploy.permissions import SERVICE
from tests.deploy.shipped import PEOPLE, Fleet
from tests.raw_client import Message

SECONDS = 20.0
CREDENTIALS = {
    "signing-key": "CONFIG_SIGNATURE_PRIVATE_KEY",
    "master-key": "CONFIG_MASTER_KEY_BASE64",
    "lkg-hmac-key": "LKG_HMAC_KEY_BASE64",
}


@dataclass
class Installed:
    """A data folder without the signing key, and the environment of the unit."""

    data: Path
    environment: dict[str, str]
    notices: socket.socket

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, check=False
        )

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "config_daemon.cli.main", *words]

    def notice(self, wanted: str) -> str:
        """Return the first state that begins with `wanted`, as systemd would get it."""
        while not (got := self.notices.recv(4096).decode()).startswith(wanted):
            pass
        return got


@pytest.fixture
def installed(fleet: Fleet, tmp_path: Path) -> Iterator[Installed]:
    data, credentials = tmp_path / "data", tmp_path / "credentials"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(SECONDS)
        kept = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("CONFIG_", "MQTT_", "LKG_"))
        }
        made = Installed(data, kept | {"CONFIG_DAEMON_DATA": str(data)}, notices)
        done = made.run("init")
        assert done.returncode == 0, done.stderr
        keys = dotenv_values(data / ".env")
        secrets = {name: keys[key] for name, key in CREDENTIALS.items()} | {"broker-password": password()}
        credentials.mkdir(mode=0o700)
        for name, text in secrets.items():
            (credentials / name).write_text(f"{text}\n")
            (credentials / name).chmod(0o400)
        without_signing_key(data / ".env")
        made.environment |= {
            "CREDENTIALS_DIRECTORY": str(credentials),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "ENVIRONMENT": "production",
            "MQTT_URL": f"mqtts://{PEOPLE['daemon'][0]}@127.0.0.1:{fleet.broker.port}",
            "CONFIG_DAEMON_MQTT_CA_FILE": str(fleet.ca),
        }
        yield made


def password() -> str:
    return f"secret of {PEOPLE['daemon'][0]}"


def is_well(message: Message) -> bool:
    return message.topic == "system/health/config-daemon" and json.loads(message.payload)["ok"] is True


def without_signing_key(env: Path) -> None:
    lines = env.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("CONFIG_SIGNATURE_PRIVATE_KEY=")]
    assert len(kept) == len(lines) - 1 and "PRIVATE KEY" not in "".join(kept)
    env.write_text("".join(kept))


def test_a_change_reaches_a_worker_over_tls_under_the_shipped_acl(installed: Installed, fleet: Fleet) -> None:
    worker, watcher = fleet.connect("worker"), fleet.connect("reader")
    worker.subscribe(f"system/config/{SERVICE}")
    watcher.subscribe("system/#")
    with subprocess.Popen(
        installed.command("run"),
        env=installed.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as daemon:
        try:
            installed.notice("READY=1")
            changed = installed.run("set", SERVICE, "vad_threshold=0.6")
            assert changed.returncode == 0, changed.stderr
            message = worker.wait_for_topic(f"system/config/{SERVICE}", SECONDS)
            assert b'"vad_threshold":0.6' in message.payload
            watcher.wait_for(lambda got: any(is_well(message) for message in got), SECONDS)
            installed.notice("WATCHDOG=1")
        finally:
            daemon.terminate()
            assert daemon.stdout is not None
            said = daemon.stdout.read()
            print(said)  # pytest shows it when the test fails
    assert daemon.returncode == 0, said
    assert password() not in said and "PRIVATE KEY" not in said


def test_without_its_signing_key_it_refuses_in_a_way_that_systemd_does_not_repeat(
    installed: Installed,
) -> None:
    (Path(installed.environment["CREDENTIALS_DIRECTORY"]) / "signing-key").unlink()
    refused = installed.run("run")
    assert refused.returncode == 78
    assert "CONFIG_SIGNATURE_PRIVATE_KEY" in refused.stderr


def test_in_production_an_open_connection_is_refused(installed: Installed) -> None:
    installed.environment["MQTT_URL"] = installed.environment["MQTT_URL"].replace("mqtts:", "mqtt:")
    refused = installed.run("run")
    assert refused.returncode == 78
    assert "mqtts://" in refused.stderr
