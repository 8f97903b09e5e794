"""The demo worker: follows one service and prints one JSON line per verdict. Base installation only.

Laws: secrets come through the environment, never through arguments.

Environment: CONFIG_SIGNATURE_PUBLIC_KEY (PEM or hex) or CONFIG_KEYRING_FILE, DEMO_MQTT_URL, DEMO_SERVICE,
DEMO_STATE (folder), DEMO_WORKER (id), DEMO_TOPIC_PREFIX, DEMO_FIRST_USE
(`wait` until a fresh beacon lists the first message, or `run`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from config_daemon import failpoints
from config_daemon.catalog.catalog import Catalog
from config_daemon.errors import InvalidConfig
from config_daemon.wire.address import BrokerAddress
from config_daemon.wire.keyring import Keyring, installed_keyring, of_key
from config_daemon.wire.keys import public_key_from_text
from config_daemon.wire.topics import Topics
from config_daemon.worker.client import Link, Subscriber
from config_daemon.worker.follow import Follower
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.report import Report
from config_daemon.worker.trust import Trust


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Follow a service until SIGTERM or SIGINT."""
    failpoints.arm(environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    service = environ.get("DEMO_SERVICE", "stt-worker")
    topics = Topics(environ.get("DEMO_TOPIC_PREFIX", "system"))
    trust = Trust(_anchor(environ), [service], topics)
    worker = environ.get("DEMO_WORKER", "demo")
    lookout = Lookout(trust, [service], topics, worker, lambda topic, raw: client.publish(topic, raw))
    follower = Follower(
        trust,
        Keep(Path(environ["DEMO_STATE"]), trust.anchor),
        [service],
        topics,
        apply=lambda handed: None,
        report=_print,
        lookout=lookout,
        first_use="run" if environ.get("DEMO_FIRST_USE") == "run" else "wait",
        validate={service: _validator(service)},
    )
    link = Link(BrokerAddress.parse(environ["DEMO_MQTT_URL"]), worker)
    client = Subscriber(
        link, [*lookout.filters, topics.config(service)], follower.receive,
        note=lambda text: print(text, file=sys.stderr), tick=follower.tick,
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: client.stop())
    follower.start()
    client.run()
    return 0


def _anchor(environ: Mapping[str, str]) -> Keyring:
    """Return what a person installed: a keyring's file, or one public key."""
    if file := environ.get("CONFIG_KEYRING_FILE"):
        return installed_keyring(
            Path(file).read_bytes().rstrip(b"\n")
        )  # as `keys public --keyring` prints it
    return of_key(public_key_from_text(environ["CONFIG_SIGNATURE_PUBLIC_KEY"]))


def _validator(service: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return the check of a shipped service's own model; a service that is not shipped passes."""
    definition = Catalog.load().get(service)

    def check(values: Mapping[str, Any]) -> Any:
        problems = definition.check(values) if definition else ()
        if problems:
            raise InvalidConfig(problems[0].message, contexts=problems)
        return values

    return check


def _print(report: Report) -> None:
    print(json.dumps(asdict(report)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
