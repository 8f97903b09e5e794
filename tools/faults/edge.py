"""The campaign's worker: a program that follows services with the product's client and writes down what it is given.

Laws: a line says what was given before the report says how that ended; a line is out before the next step.

Environment: EDGE_URL, EDGE_KEY (public, PEM or hex), EDGE_NAME, EDGE_STATE (folder), EDGE_SERVICES (comma separated),
EDGE_LINES (a file), EDGE_FIRST_USE, EDGE_CA,
EDGE_REFUSES (a padding that the program does not know); CONFIG_DAEMON_FAILPOINT as everywhere.
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
from config_daemon.errors import InvalidConfig
from config_daemon.wire.address import BrokerAddress
from config_daemon.wire.keyring import of_key
from config_daemon.wire.keys import public_key_from_text
from config_daemon.wire.topics import Topics
from config_daemon.worker.client import Link, Subscriber
from config_daemon.worker.follow import Follower
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.trust import Trust


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Follow until SIGTERM."""
    failpoints.arm(environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    services, topics = environ["EDGE_SERVICES"].split(","), Topics("system")
    ca = environ.get("EDGE_CA")
    out = os.open(environ["EDGE_LINES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(members: Mapping[str, Any]) -> None:
        os.write(out, json.dumps(members).encode() + b"\n")

    say({"start": os.getpid()})
    trust = Trust(of_key(public_key_from_text(environ["EDGE_KEY"])), services, topics)
    lookout = Lookout(
        trust, services, topics, environ["EDGE_NAME"], lambda topic, raw: client.publish(topic, raw)
    )
    follower = Follower(
        trust, Keep(Path(environ["EDGE_STATE"]), trust.anchor), services, topics,
        apply=lambda handed: say({"given": handed.service, "config": handed.values}),
        report=lambda report: say(asdict(report)), lookout=lookout,
        validate=dict.fromkeys(services, _refusing(environ.get("EDGE_REFUSES", ""))),
        first_use="run" if environ.get("EDGE_FIRST_USE") == "run" else "wait",
    )  # fmt: skip
    client = Subscriber(
        Link(BrokerAddress.parse(environ["EDGE_URL"]), environ["EDGE_NAME"], Path(ca) if ca else None),
        [*lookout.filters, *map(topics.config, services)], follower.receive,
        note=lambda text: print(text, file=sys.stderr, flush=True), tick=follower.tick,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: client.stop())
    follower.start()
    client.run()
    return 0


def _refusing(padding: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return a check that refuses configs with this padding; none of them when it is empty."""

    def check(values: Mapping[str, Any]) -> Any:
        if padding and values.get("padding") == padding:
            raise InvalidConfig("this program does not know such a padding", suggestion="Mend the program.")
        return values

    return check


if __name__ == "__main__":
    sys.exit(main())
