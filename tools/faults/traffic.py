"""Writers: change services at a rate, and write down each change before and after it was acknowledged.

Laws: every change sets `token` and `count` to belong together, so that half of one shows; a line is in the kernel's
hands before the next change begins, so that no kill of this process loses it; what is refused is written down too.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from config_daemon import failpoints
from config_daemon.cli.session import Session
from config_daemon.errors import ConfigDaemonError
from config_daemon.store.ports import Edit


class Writer:
    """Writes one change at a time, under a name of its own."""

    def __init__(self, data: Path, log: Path, name: str) -> None:
        self._name, self._count = name, 0
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._writer = Session(data=str(data)).writer()  # as every command writes, refusals and all

    def write(self, service: str, expect: int | None = None, **more: Any) -> int | None:
        """Change a service; return its new version, None when that was refused."""
        self._count += 1
        mine = {"count": self._count, "token": f"{self._name}-{self._count}", **more}
        return self._commit(service, lambda stored: {**stored, **mine}, expect)

    def write_all(self, services: Sequence[str], **more: Any) -> None:
        """Change many services in one commit.

        Raises: ConfigDaemonError when that was refused.
        """
        self._count += 1
        mine = {"count": self._count, "token": f"{self._name}-{self._count}", **more}
        made = self._writer.commit(
            [Edit(name, lambda stored: {**stored, **mine}) for name in services], by=self._name
        )
        for written in made:
            self._say("ack", written.service, written.version, mine)

    def delete(self, service: str) -> int | None:
        """Delete a service; return the version of its tombstone, None when that was refused."""
        return self._commit(service, lambda _: None, None)

    def close(self) -> None:
        """Give the database back."""
        self._writer.close()

    def _commit(self, service: str, change: Any, expect: int | None) -> int | None:
        kept: list[Any] = []

        def noted(stored: dict[str, Any]) -> dict[str, Any] | None:
            kept.append(change(stored))
            return kept[-1]  # type: ignore[no-any-return]

        self._say("intent", service, None, None)
        try:
            version = self._writer.commit([Edit(service, noted, expect)], by=self._name)[0].version
        except ConfigDaemonError as error:
            self._say("refused", service, None, error.code)
            return None
        self._say("ack", service, version, kept[-1])
        return version

    def _say(self, kind: str, service: str, version: int | None, values: Any) -> None:
        line = {
            "kind": kind,
            "at": time.monotonic(),
            "service": service,
            "version": version,
            "values": values,
        }
        os.write(self._log, json.dumps(line).encode() + b"\n")


class Traffic:
    """A thread that writes at a rate until it is left."""

    def __init__(self, writer: Writer, services: Sequence[str], rate: float, seed: int) -> None:
        self._writer, self._services, self._rate = writer, services, rate
        self._rng, self._over = random.Random(seed), threading.Event()  # noqa: S311 - to be repeated
        self._thread = threading.Thread(target=self.run, daemon=True)
        self.written = 0

    def run(self) -> None:
        """Write until told to stop."""
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / self._rate, time.monotonic() - 1)
            self.written += self._writer.write(self._rng.choice(self._services)) is not None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._writer.close()


def main(arguments: Sequence[str]) -> int:
    """`python -m tools.faults.traffic DATA LOG NAME RATE SEED SERVICE...`: the same as a process, until it is ended."""
    failpoints.arm(os.environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    data, log, name, rate, seed, *services = arguments
    Traffic(Writer(Path(data), Path(log), name), services, float(rate), int(seed)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
