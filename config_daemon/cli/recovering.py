"""Replace the store: by asking the daemon that lives, else here, holding its lock; then say what was lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config_daemon.cli.session import Session
from config_daemon.cli.words import counted
from config_daemon.errors import StoreUnavailable

if TYPE_CHECKING:
    from config_daemon.store.marks import Numbers
    from config_daemon.store.rebuild import Source

ANSWER_SECONDS = 300.0  # with many services, on a slow disk


def replace_store(
    session: Session,
    kind: str,
    what: str | None,
    source: Source,
    reason: str | None,
    file: Path | None = None,
) -> None:
    """Have another database put in the place of the present one, and tell what was done.

    Raises: StoreError; CacheError; Refused.
    """
    from config_daemon.cli.ask import ask

    if session.daemon_alive:
        arguments = {"what": what, "file": None if file is None else str(file.absolute())}
        result = ask(session, kind, reason, arguments, ANSWER_SECONDS)
    else:
        result = _replace_here(session, source, reason, file)
    facts = {"rebuilt": True, "database": str(session.ground.files.database), **result}
    session.show(facts, lambda: page(facts))


@contextlib.contextmanager
def daemon_lock(session: Session) -> Iterator[Numbers]:
    """Be the only one on the folder; yields the numbers.

    Raises: StoreUnavailable when a daemon lives; CacheError.
    """
    from config_daemon.store import locks
    from config_daemon.store.finishing import numbers_of

    files = session.ground.files
    lock = locks.take(files.daemon_lock)
    if lock is None:
        raise StoreUnavailable("a daemon started just now", suggestion="Run the command again.")
    try:
        yield numbers_of(files, session.ground.keys.hmac_keys(), session.ground.keyring().generation)
    finally:
        locks.release(lock)


def now_text() -> str:
    """Return the time as history shows it."""
    from config_daemon.wire.messages import timestamp

    return timestamp(time.time_ns() // 1_000_000)


def _replace_here(session: Session, source: Source, reason: str | None, file: Path | None) -> dict[str, Any]:
    """Do what the daemon would do."""
    from config_daemon.store.overrides import fixed_lately, overrides_of, united
    from config_daemon.store.rebuild import Order, Site, rebuild, told

    ground, catalog = session.ground, session.catalog
    now = {} if ground.env_file is None else overrides_of(ground.env_file, catalog.env_names())
    fixed = united(now, fixed_lately(ground.files.epoch))
    with daemon_lock(session) as numbers:
        site = Site(
            ground.files, session.sealer, ground.keys.hmac_keys(), numbers, catalog, catalog.model_hash, fixed
        )
        known = {row.service: row.config_version for row in session.view.services()}
        order = Order(source, session.actor, reason, now_text(), file=file, known=known)
        return told(rebuild(site, order))


def page(facts: dict[str, Any]) -> str:
    """Return what was done and what was lost, for a person."""
    lines = [
        f"made {facts['database']} anew from {facts['source']}:"
        f" epoch {facts['config_epoch']}, {counted(facts['services'], 'service')}",
        f"the database before lies in quarantine/{facts['quarantine']}",
        *lost_lines(facts["lost"]),
    ]
    return "\n".join(lines)


def lost_lines(lost: dict[str, Any]) -> list[str]:
    """Return what was lost, a line each."""
    lines = []
    for name, versions in lost.get("services", {}).items():
        was = (
            "a newer change" if versions["from"] in (None, versions["to"]) else f"version {versions['from']}"
        )
        kept = f"version {versions['to']} is there" if versions["to"] else "nothing of it is there"
        lines.append(f"  {name}: {was} is lost, {kept}")
    after = lost.get("after")
    if after is not None:
        when = f"after {after['at']}" if after["at"] else "at any time"
        lines.append(
            f"  perhaps more: what was committed {when} (change {after['feed']}) and could not be read"
        )
    if lost.get("history_rows") != 0:
        lines.append(f"  history: {_rows(lost.get('history_rows'))}, in the database before only")
    if lost.get("secrets"):
        lines.append(f"  secrets: {lost['secrets']}, in the database before only")
    return ["lost:", *lines] if lines else ["nothing that was acknowledged is lost"]


def _rows(count: int | None) -> str:
    return "nobody can say how many rows" if count is None else counted(count, "row")
