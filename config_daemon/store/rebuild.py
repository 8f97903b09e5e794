"""Make the database anew: from the last-known-good cache, from what is left of it, from a copy, or empty.

Laws: the new one is complete and verified before anything is moved, so that a full disk or a bad source
changes nothing; nobody writes meanwhile; what is sound is rebuilt only when that is insisted on; a new epoch,
so that nothing older can be mistaken for newer.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from config_daemon import failpoints
from config_daemon.errors import ConfigDaemonError, NotAllowed, StoreError, StoreUnavailable
from config_daemon.store import building, locks
from config_daemon.store.adopt import refuse_full_disk
from config_daemon.store.building import Terms
from config_daemon.store.choice import CACHE, KIND, REST, Choice, Order, Site, choose, is_sound, refuse_file
from config_daemon.store.finishing import (
    LOCK_SECONDS,
    beside,
    complete,
    discard,
    finish,
    half_done,
    intend,
    place,
    withdraw,
)
from config_daemon.store.journal import Intent
from config_daemon.store.quarantine import stamp_of
from config_daemon.store.writer import check_words


def rebuild(site: Site, order: Order) -> Intent:
    """Put another database in the place of the present one, and return what was done and lost.

    The caller holds `daemon.lock` and has no connection to the database open. Raises: NotAllowed for a rebuild of
    a database that is sound; StoreError, CacheError, UsageError; the database is then the one it was.
    """
    check_words(order.by, order.reason)
    refuse_file(site.files, order.copied)
    refuse_full_disk(site.numbers)
    finished = finish(site.files, site.numbers)
    if finished is not None and finished.state == "done" and _is_of(finished, order):
        return finished  # the same was asked for again, because it was not answered
    with locks.exclusive(site.files.store_lock, LOCK_SECONDS):
        if KIND[order.source] == "rebuild" and not order.force and is_sound(site, order):
            raise still_sound(site.files.database)
        intent = _built(site, order, choose(site, order))
        failpoints.reached("rebuild_built")
        try:
            intend(site.files, site.numbers, intent)
        except StoreUnavailable:
            discard(beside(site.files.database))
            raise
        _put(site, intent)
        return complete(site.files, site.numbers, intent)


def foresee(site: Site, order: Order) -> dict[str, Any]:
    """Return what `rebuild` would take and lose, if nothing moved meanwhile; nothing is changed.

    Where something is half done that it would finish first, that is told instead, under `finishes`.
    Raises: StoreError; CacheError; UsageError.
    """
    check_words(order.by, order.reason)
    begun = half_done(site.files, site.numbers.hmac_keys)
    if begun is not None:
        return {
            "services": begun.services, "source": begun.source, "lost": dict(begun.lost), "sound": False,
            "finishes": {"kind": begun.kind, "by": begun.by, "at": begun.at},
        }  # fmt: skip
    choice = choose(site, order)
    return {
        "services": len(choice.kept), "source": choice.origin, "lost": choice.lost.as_dict(),
        "sound": is_sound(site, order), "finishes": None,
    }  # fmt: skip


def still_sound(database: Path) -> NotAllowed:
    """Return the refusal to rebuild a database in which nothing is wrong."""
    return NotAllowed(
        f"{database} is sound, and nothing of it has to be rebuilt",
        code="STILL_SOUND",
        suggestion="To undo a change: `config-daemon rollback SERVICE --to N`. To go back to a copy:"
        " `config-daemon restore --from FILE`. To rebuild it all the same: `config-daemon rebuild --force`.",
    )


def _is_of(intent: Intent, order: Order) -> bool:
    """Tell whether an order was what a process had begun that died.

    A copy may have become another one meanwhile, so that only the same request is the same; a cache is used
    up, and there is no other.
    """
    if order.request:
        return intent.id == order.request
    if order.source in ("file", "nothing"):
        return False
    return intent.kind == KIND[order.source] and intent.source.startswith((CACHE, REST))


def _put(site: Site, intent: Intent) -> None:
    try:
        place(site.files, intent)
    except OSError as error:
        if withdraw(site.files, site.numbers, intent):
            raise StoreUnavailable(
                f"the old database cannot be replaced, and nothing was changed: {error.filename}: {error.strerror}",
                suggestion="Mend that, then run the command again.",
            ) from error
        raise StoreUnavailable(
            f"the rebuild is half done and cannot go on: {error.filename}: {error.strerror}",
            suggestion="Mend that; the next start, or the same command again, finishes it.",
        ) from error


def _built(site: Site, order: Order, choice: Choice) -> Intent:
    """Build and verify the new database. Raises: StoreError; nothing is left of it then."""
    marks, path, epoch = site.numbers.marks, beside(site.files.database), str(uuid.uuid4())
    head = choice.cached.head if choice.cached else None
    terms = Terms(
        site.sealer, site.definitions, choice.model_hash, epoch, order.now, order.by, order.reason, marks.audit,
        head.schema_version if head else 1, choice.reached, site.alive, choice.workers,
    )  # fmt: skip
    try:
        _make(order, choice, path, terms)
        site.alive()
        building.verify(path, site.sealer, epoch, len(choice.kept))
    except (ConfigDaemonError, OSError) as error:
        discard(path)
        if isinstance(error, OSError):
            raise StoreUnavailable(
                f"no database can be made at {path}: {error.strerror}",
                suggestion="Look at that folder and its disk; nothing was changed.",
            ) from error
        raise
    cached_number = head.sequence if head and head.generation == marks.generation else 0
    return Intent(
        id=order.request or epoch, kind=KIND[order.source], source=choice.origin, by=order.by,
        reason=order.reason, at=order.now, epoch=epoch,
        number=max(order.highest_seen, site.numbers.last, cached_number),
        quarantine=stamp_of(order.now, epoch), services=len(choice.kept), lost=choice.lost.as_dict(),
        replaces=os.path.lexists(site.files.database),
    )  # fmt: skip


def _make(order: Order, choice: Choice, path: Path, terms: Terms) -> None:
    """Make the database's file; one that is copied is as it was read, or the check that follows refuses it."""
    if order.copied is None:
        building.build(path, choice.kept, terms)
        return
    try:
        building.copy(order.copied, path)
        building.adopt_copy(path, choice.kept, terms)
    except StoreError as error:
        raise StoreUnavailable(
            f"{order.copied} was not taken: {error.message}", suggestion="Mend that, or name another copy."
        ) from error


def told(intent: Intent) -> dict[str, Any]:
    """Return what people get to know of a rebuild or an adoption."""
    answer = {"config_epoch": intent.epoch, "services": intent.services}
    if intent.kind == "adopt-db":
        return answer
    return {**answer, "source": intent.source, "quarantine": intent.quarantine, "lost": dict(intent.lost)}
