"""The shipped broker as a test runs it: its files in a folder of the test, and everybody's way in."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.broker_conf import user_line
from tests.deploy.permissions import OTHER_SERVICE, OTHER_WORKER, SERVICE, WORKER
from tests.raw_client import RawClient
from tests.real_broker import Broker

SHIPPED = Path(__file__).parents[2] / "mosquitto"
ETC, VAR, PORT = "/etc/mosquitto/config-daemon", "/var/lib/mosquitto/", "listener 8883\n"
# user name, client id
PEOPLE = {
    "daemon": ("config-daemon", "config-daemon-1f"),
    "worker": (SERVICE, WORKER),
    "other worker": (OTHER_SERVICE, OTHER_WORKER),
    "reader": ("reader", "dashboard"),
    "enroll": ("enroll", "new-box"),
}


@dataclass
class Fleet:
    """The broker as shipped, and everybody's way in."""

    broker: Broker
    folder: Path
    ca: Path
    opened: contextlib.ExitStack

    def connect(self, who: str, client_id: str | None = None, **options: Any) -> RawClient:
        user, usual_id = PEOPLE[who]
        url = self.broker.url_for(user, f"secret of {user}")
        return self.opened.enter_context(RawClient(url, client_id or usual_id, ca=self.ca, **options))


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SHIPPED / "ca.sh"), str(folder), *arguments], capture_output=True, text=True, check=False
    )


def shipped_conf(folder: Path, *, require_certificate: bool = False) -> str:
    """The shipped text with its three places replaced, so that it can run anywhere."""
    text = (SHIPPED / "mosquitto.conf").read_text()
    for known, here in ((ETC, str(folder)), (VAR, f"{folder}/"), (PORT, "listener {port} 127.0.0.1\n")):
        assert known in text
        text = text.replace(known, here)
    if require_certificate:
        assert "\n#require_certificate true\n" in text
        text = text.replace("\n#require_certificate true\n", "\nrequire_certificate true\n")
    return text + user_line()
