"""Python imports this before anything else: FAULTS_PLANT names the bug that this process of the product shall have.

Each function breaks one promise, as a mistake in the product might; the checker has to find every one of them.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any


def no_floor() -> None:
    """A worker takes whatever is sealed."""
    from config_daemon.worker.trust import Trust

    Trust._above = staticmethod(lambda new, held: False)  # type: ignore[method-assign]


def nothing_reserved() -> None:
    """Numbers are used that no file on disk reserves."""
    from config_daemon.store.marks import Numbers

    def write(self: Any, **changes: Any) -> None:
        self.marks = replace(self.marks, **{**self._noted, **changes})

    Numbers.write = write  # type: ignore[method-assign]


def numbers_reused() -> None:
    """A start goes on from the cache's number, whatever was used after it."""
    from config_daemon.daemon import past
    from config_daemon.store import marks

    def numbers(files: Any, hmac_keys: Any, known: Any, cached: Any, generation: int, unix_ms: int) -> Any:
        start = known or marks.Marks(generation, 0, "", feed=None)
        last = cached.head.sequence if cached else unix_ms
        return marks.Numbers(files.marks, hmac_keys[0], start, last, hmac_keys[1:])

    past._numbers = numbers


def published_early() -> None:
    """What a transaction would commit is published before it does."""
    from config_daemon.daemon.sight import Sight
    from config_daemon.store.ports import Row
    from config_daemon.store.writer import Transaction
    from config_daemon.wire.sealing import canonical

    store, look, seen = Transaction._store, Sight.look, set()

    def write_down(self: Any, service: str, stored: Any, version: int, text: str) -> None:
        store(self, service, stored, version, text)
        name = Path(self._db.filename).with_name("early")
        beside = name.with_name(f"early.{os.getpid()}")
        beside.write_bytes(canonical([service, text, version, self._epoch]))
        beside.replace(name)

    def look_early(self: Any, now: float, backlog: int) -> None:
        look(self, now, backlog)
        path = self._reader._path.with_name("early")
        found = path.read_bytes() if path.exists() else b""
        if found and found not in seen and self.place is not None:
            seen.add(found)
            service, text, version, epoch = json.loads(found)
            self._judge.judge(service, Row(service, text, version, epoch, "", ""))

    Transaction._store, Sight.look = write_down, look_early  # type: ignore[method-assign]


def stale_cache() -> None:
    """After a start, what the cache held is what is wanted."""
    from config_daemon.core.plan import Plan

    want = Plan.want

    def want_old(self: Any, service: str, config: bytes, wanted: Any) -> None:
        entry = self.services.get(service)
        if entry is not None and entry.sealed is not None:
            entry.version = wanted.config_version
            return
        want(self, service, config, wanted)

    Plan.want = want_old  # type: ignore[method-assign]


def default_published() -> None:
    """Where the store does not answer, a service has its defaults."""
    from config_daemon.daemon.sight import Sight
    from config_daemon.store.ports import Row

    look = Sight.look

    def look_and_guess(self: Any, now: float, backlog: int) -> None:
        look(self, now, backlog)
        if self.status == "corrupted":
            self._judge.epoch = self.known.epoch
            for service, entry in list(self._judge._plan.services.items()):
                self._judge.judge(service, Row(service, "{}", entry.version, self.known.epoch, "", ""))

    Sight.look = look_and_guess  # type: ignore[method-assign]


def history_twice() -> None:
    """Each change is told twice."""
    from config_daemon.store.transaction import Transaction

    write = Transaction._write_history

    def write_twice(self: Any, *what: Any) -> None:
        write(self, *what)
        write(self, *what)

    Transaction._write_history = write_twice  # type: ignore[method-assign]


def healthy_fallback() -> None:
    """Health is well, come what may."""
    from config_daemon.daemon import report

    make = report.make_health

    def make_well(facts: Any, conditions: Any, session: str, **seal: Any) -> Any:
        return make(facts._replace(status="healthy", mode="normal", event="started"), [], session, **seal)

    report.make_health = make_well


def lost_row() -> None:
    """Every third commit is acknowledged and not kept."""
    from config_daemon.store.writer import SqliteWriter

    commit, count = SqliteWriter.commit, iter(range(1_000_000))

    def commit_or_not(self: Any, edits: Any, **how: Any) -> Any:
        return commit(self, edits, **{**how, "dry_run": next(count) % 3 == 2})

    SqliteWriter.commit = commit_or_not  # type: ignore[method-assign]


def leak_in_log() -> None:
    """The daemon says how it connects."""
    if "MQTT_URL" in os.environ:
        sys.stderr.write(f"connecting to {os.environ['MQTT_URL']}\n")


def leak_on_topic() -> None:
    """Health tells a key."""
    from config_daemon.daemon import report

    make = report.make_health

    def make_open(facts: Any, conditions: Any, session: str, **seal: Any) -> Any:
        lines = Path(sys.argv[-1], ".env").read_text().splitlines()
        key = next(line.partition("=")[2] for line in lines if line.startswith("LKG_HMAC_KEY_BASE64="))
        return make(facts, conditions, session, **seal).model_copy(update={"err": key.strip("'\"")})

    report.make_health = make_open


if name := os.environ.get("FAULTS_PLANT"):
    try:
        globals()[name]()
    except Exception as error:
        sys.stderr.write(f"the bug {name} cannot be planted any more: {type(error).__name__}: {error}\n")
        os._exit(70)  # Python itself would go on without it
