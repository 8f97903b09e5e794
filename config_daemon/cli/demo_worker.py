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
from typing import Any

from config_daemon import __version__, failpoints
from config_daemon.catalog.catalog import Catalog
from config_daemon.errors import ConfigDaemonError, InvalidConfig
from config_daemon.worker import ConfigClient, Report


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Follow a service until SIGTERM or SIGINT."""
    failpoints.arm(environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    service = environ.get("DEMO_SERVICE", "stt-worker")
    try:
        client = ConfigClient(
            service,
            worker=environ.get("DEMO_WORKER", "demo"),
            broker=environ["DEMO_MQTT_URL"],
            state=environ["DEMO_STATE"],
            public_key=environ.get("CONFIG_SIGNATURE_PUBLIC_KEY"),
            keyring_file=environ.get("CONFIG_KEYRING_FILE"),
            model=_check_of(service),
            topic_prefix=environ.get("DEMO_TOPIC_PREFIX", "system"),
            first_use="run" if environ.get("DEMO_FIRST_USE") == "run" else "wait",
            agent=f"demo-worker/{__version__}",
            report=_print,
            note=lambda text: print(text, file=sys.stderr),
        )
    except ConfigDaemonError as error:
        print(f"{error}\n{error.suggestion}", file=sys.stderr)
        return error.exit_code
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: client.stop())
    client.run()
    return 0


def _check_of(service: str) -> Callable[[Mapping[str, Any]], Any]:
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
