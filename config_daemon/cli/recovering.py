"""Replace the store: by asking the daemon that lives, else here, holding its lock; say before and after what is lost.

Laws: nobody is asked for a yes who was not told what it costs; the account before is made as the one afterwards.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from config_daemon.cli.session import Session
from config_daemon.cli.words import counted
from config_daemon.errors import StoreUnavailable

if TYPE_CHECKING:
    from config_daemon.store.choice import Order, Site, Source
    from config_daemon.store.marks import Numbers

ANSWER_SECONDS = 300.0  # with many services, on a slow disk


class Wish(NamedTuple):
    """Which database is wanted: `what` names the source to a daemon, `source` here; `warning` goes before all else."""

    kind: str
    what: str | None
    source: Source
    reason: str | None
    warning: str
    file: Path | None = None
    force: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return the wish as a request has it."""
        file = None if self.file is None else str(self.file.absolute())
        return {"what": self.what, "file": file, "force": self.force}


def replace_store(session: Session, wish: Wish, *, yes: bool, dry_run: bool = False) -> None:
    """Have another database put in the place of the present one, once a person knows what that loses.

    Raises: StoreError; CacheError; Refused; NotAllowed; Declined.
    """
    if dry_run:
        foreseen = {
            "rebuilt": False,
            "database": str(session.ground.files.database),
            **_foreseen(session, wish),
        }
        foreseen["goes_ahead"] = not _is_needless(foreseen, wish)
        session.show(foreseen, lambda: f"{preview(foreseen, wish)}\n{_verdict(foreseen)}")
        return
    if not yes:
        if not session.as_json:
            _tell_first(session, wish)
        session.confirm("Go on?", yes)
    from config_daemon.cli.ask import ask

    if session.daemon_alive:
        result = ask(session, wish.kind, wish.reason, wish.arguments(), ANSWER_SECONDS)
    else:
        from config_daemon.store.rebuild import rebuild, told

        result = _here(session, wish, lambda site, order: told(rebuild(site, order)))
    facts = {"rebuilt": True, "database": str(session.ground.files.database), **result}
    session.show(facts, lambda: page(facts))


def _tell_first(session: Session, wish: Wish) -> None:
    """Say what a yes will cost. Raises: NotAllowed where there is nothing to ask."""
    from config_daemon.store.rebuild import still_sound

    foreseen = _foreseen(session, wish)
    if _is_needless(foreseen, wish):
        raise still_sound(session.ground.files.database)
    session.say(preview(foreseen, wish))


def _foreseen(session: Session, wish: Wish) -> dict[str, Any]:
    """Return what would be taken and lost; a daemon that lives knows most."""
    from config_daemon.cli.ask import PREVIEW, ask
    from config_daemon.store.rebuild import foresee

    if session.daemon_alive:
        arguments = {**wish.arguments(), "kind": wish.kind}
        return ask(session, PREVIEW, wish.reason, arguments, ANSWER_SECONDS)
    return _here(session, wish, foresee)


def _verdict(foreseen: dict[str, Any]) -> str:
    """Return what would come of it without --dry-run."""
    if foreseen["goes_ahead"]:
        return "Nothing was changed; without --dry-run it would ask you, and then do this."
    return (
        "Nothing was changed; without --dry-run it would refuse, because nothing is wrong with the database."
    )


def _is_needless(foreseen: dict[str, Any], wish: Wish) -> bool:
    return bool(foreseen["sound"]) and wish.kind == "rebuild" and not wish.force


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


def _here(session: Session, wish: Wish, work: Callable[[Site, Order], dict[str, Any]]) -> dict[str, Any]:
    """Do what the daemon would do."""
    from config_daemon.store.choice import Order, Site
    from config_daemon.store.overrides import fixed_lately, overrides_of, united

    ground, catalog = session.ground, session.catalog
    now = {} if ground.env_file is None else overrides_of(ground.env_file, catalog.env_names())
    fixed = united(now, fixed_lately(ground.files.epoch))
    with daemon_lock(session) as numbers:
        site = Site(
            ground.files, session.sealer, ground.keys.hmac_keys(), numbers, catalog, catalog.model_hash, fixed
        )
        known = {row.service: row.config_version for row in session.view.services()}
        order = Order(
            wish.source, session.actor, wish.reason, now_text(), file=wish.file, force=wish.force, known=known
        )
        return work(site, order)


def preview(foreseen: dict[str, Any], wish: Wish) -> str:
    """Return what would be done and lost, for a person who has not said yes yet."""
    finishes = foreseen["finishes"]
    if finishes is not None:
        lines = [
            f"A {finishes['kind']} that {finishes['by']} began at {finishes['at']} is half done, and is finished first."
        ]
    else:
        lines = [wish.warning]
        if _is_needless(foreseen, wish):
            lines.append("The database that is there is sound: without --force this is refused.")
        elif foreseen["sound"]:
            lines.append("The database that is there is sound, and the newest that is known.")
    return "\n".join(
        [
            *lines,
            f"from {foreseen['source']}: {counted(foreseen['services'], 'service')}",
            *lost_lines(foreseen["lost"], "this will be lost:", "nothing that was acknowledged will be lost"),
        ]
    )


def page(facts: dict[str, Any]) -> str:
    """Return what was done and what was lost, for a person."""
    lines = [
        f"made {facts['database']} anew from {facts['source']}:"
        f" epoch {facts['config_epoch']}, {counted(facts['services'], 'service')}",
        f"the database before lies in quarantine/{facts['quarantine']}",
        *lost_lines(facts["lost"], "lost:", "nothing that was acknowledged is lost"),
    ]
    return "\n".join(lines)


def lost_lines(lost: dict[str, Any], head: str, nothing: str) -> list[str]:
    """Return what is lost, a line each below a head; where there is nothing, only that."""
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
    if (workers := lost.get("workers", 0)) != 0:
        told = "nobody can say who was expected" if workers is None else counted(workers, "worker")
        lines.append(
            f"  workers: {told}; `config-daemon worker list` shows who is, `worker add` adds one again"
        )
    return [head, *lines] if lines else [nothing]


def _rows(count: int | None) -> str:
    return "nobody can say how many rows" if count is None else counted(count, "row")
