"""Make the database anew: from the last-known-good cache, from what is left of it, from a copy, or empty.

Laws: the new one is complete and verified before anything is moved, so that a full disk or a bad source
changes nothing; nobody writes meanwhile; every row that was acknowledged and can be believed is taken, and
what is lost is told; a new epoch, so that nothing older can be mistaken for newer.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from config_daemon import failpoints
from config_daemon.errors import CacheError, ConfigDaemonError, StoreError, StoreUnavailable, UsageError
from config_daemon.store import building, locks
from config_daemon.store.adopt import refuse_full_disk
from config_daemon.store.building import Terms
from config_daemon.store.cache import Cache, load
from config_daemon.store.files import Files
from config_daemon.store.finishing import (
    LOCK_SECONDS,
    beside,
    complete,
    discard,
    finish,
    intend,
    place,
    withdraw,
)
from config_daemon.store.journal import Intent, Kind
from config_daemon.store.loss import BEGINNING, Lost, Since, account
from config_daemon.store.marks import Numbers
from config_daemon.store.ports import Place
from config_daemon.store.quarantine import stamp_of
from config_daemon.store.salvage import NOTHING, Kept, Salvaged, salvage
from config_daemon.store.seals import RowSealer
from config_daemon.store.transaction import Definitions
from config_daemon.store.unsealed import Fixed, means_the_same, rows_of
from config_daemon.store.writer import check_words
from config_daemon.wire.values import MAX_INTEGER

Source = Literal["rest", "lkg", "lkg-alone", "file", "nothing"]
_KIND: dict[Source, Kind] = {
    "rest": "rebuild", "lkg": "restore", "lkg-alone": "adopt-lkg", "file": "restore", "nothing": "rebuild",
}  # fmt: skip
_CACHE, _REST = "the cache", "what could be read of the database"


class Site(NamedTuple):
    """What a rebuild works on; `fixed` names the keys that `.env` gives each service."""

    files: Files
    sealer: RowSealer
    hmac_keys: tuple[bytes, ...]
    numbers: Numbers
    definitions: Definitions
    model_hash: str
    fixed: Fixed
    alive: Callable[[], None] = lambda: None


class Order(NamedTuple):
    """What is asked for: `rest` is the cache and whatever can be read, or what can be read alone.

    `highest_seen`, `known` (versions by service) and `places` are what somebody saw who was there before.
    """

    source: Source
    by: str
    reason: str | None
    now: str
    request: str = ""
    file: Path | None = None
    highest_seen: int = 0
    known: Mapping[str, int] = {}
    places: tuple[Place, ...] = ()


def rebuild(site: Site, order: Order) -> Intent:
    """Put another database in the place of the present one, and return what was done and lost.

    The caller holds `daemon.lock` and has no connection to the database open. Raises: StoreError, CacheError,
    UsageError; the database is then the one it was.
    """
    check_words(order.by, order.reason)
    if order.file is not None:
        _refuse_own(site.files, order.file)
    refuse_full_disk(site.numbers)
    finished = finish(site.files, site.numbers)
    if finished is not None and finished.state == "done" and _is_of(finished, order):
        return finished  # the same was asked for again, because it was not answered
    cached = _cache_of(site, order)
    with locks.exclusive(site.files.store_lock, LOCK_SECONDS):
        intent = _built(site, order, cached)
        failpoints.reached("rebuild_built")
        try:
            intend(site.files, site.numbers, intent)
        except StoreUnavailable:
            discard(beside(site.files.database))
            raise
        _put(site, intent)
        return complete(site.files, site.numbers, intent)


def _refuse_own(files: Files, source: Path) -> None:
    """Refuse as a copy what is none. Raises: UsageError."""
    if "\0" in str(source):
        raise UsageError("a path holds a NUL character", suggestion="Name the copy as it is called.")
    is_own = False
    for path, what in ((files.database, "the database itself"), (beside(files.database), "half a rebuild")):
        with contextlib.suppress(OSError):  # one that cannot be looked at is refused when it is read
            is_own = source.samefile(path)
        if is_own:
            raise UsageError(
                f"{source} is {what}", suggestion="To take the database as it is: `config-daemon adopt --db`."
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
    return intent.kind == _KIND[order.source] and intent.source.startswith((_CACHE, _REST))


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


def _cache_of(site: Site, order: Order) -> Cache | None:
    """Return the cache. Raises: CacheError when it is needed and there is none that can be trusted."""
    try:
        cached = load(site.files.cache, site.hmac_keys)
    except CacheError as error:
        if order.source in ("lkg", "lkg-alone"):
            raise CacheError(
                error.message,
                suggestion="`config-daemon rebuild` takes what can be read of the database itself;"
                " `config-daemon restore --from FILE` takes a copy.",
            ) from error
        return None
    if cached is None and order.source in ("lkg", "lkg-alone"):
        raise CacheError(
            f"there is no cache at {site.files.cache}",
            suggestion="`config-daemon rebuild` takes what can be read of the database itself.",
        )
    known = site.numbers.marks.epoch
    if cached is None or order.source == "lkg-alone" or known in ("", cached.head.config_epoch):
        return cached
    if order.source == "lkg":
        raise CacheError(
            f"the cache is of another life of this store: epoch {cached.head.config_epoch}, and marks name {known}",
            suggestion="`config-daemon rebuild` takes what can be read of the database itself;"
            " `config-daemon adopt --lkg` takes this cache for the truth.",
        )
    return None


def _built(site: Site, order: Order, cached: Cache | None) -> Intent:
    """Build and verify the new database. Raises: StoreError; UsageError; nothing is left of it then."""
    marks, path, epoch = site.numbers.marks, beside(site.files.database), str(uuid.uuid4())
    schema_version = cached.head.schema_version if cached else 1
    terms = Terms(
        site.sealer, site.definitions, site.model_hash, epoch, order.now, order.by, order.reason, marks.audit,
        schema_version, {}, site.alive,
    )  # fmt: skip
    try:
        kept, lost = _make(site, order, cached, path, terms)
        site.alive()
        building.verify(path, site.sealer, epoch, len(kept))
    except (ConfigDaemonError, OSError) as error:
        discard(path)
        if isinstance(error, OSError):
            raise StoreUnavailable(
                f"no database can be made at {path}: {error.strerror}",
                suggestion="Look at that folder and its disk; nothing was changed.",
            ) from error
        raise
    head = cached.head if cached else None
    cached_number = head.sequence if head and head.generation == marks.generation else 0
    return Intent(
        id=order.request or epoch, kind=_KIND[order.source], source=_origin(order, cached), by=order.by,
        reason=order.reason, at=order.now, epoch=epoch,
        number=max(order.highest_seen, site.numbers.last, cached_number),
        quarantine=stamp_of(order.now, epoch), services=len(kept), lost=lost.as_dict(),
        replaces=os.path.lexists(site.files.database),
    )  # fmt: skip


def _make(
    site: Site, order: Order, cached: Cache | None, path: Path, terms: Terms
) -> tuple[Mapping[str, Kept], Lost]:
    """Make the database's file; return what is in it, and what is not."""
    since = Since(cached.head.feed, cached.head.generated_at) if cached else BEGINNING
    published = cached.versions if cached else {}
    found = _found(site, order, cached, since.place)
    site.alive()
    terms = terms._replace(reached=_reached(found, order.known, published))
    kept: Mapping[str, Kept] = {}
    forked: set[str] = set()
    if order.source == "file":
        assert order.file is not None
        kept, since = _copied(site, order.file, path, terms), BEGINNING
    else:
        if order.source != "nothing":
            kept, forked = _chosen(site, order, cached, found)
            # the daemon judges whether they fit ours
            terms = terms._replace(model_hash=found.model_hash or "")
        building.build(path, kept, terms)
    if order.source == "nothing":
        since = BEGINNING
    places = [*order.places, *([site.numbers.marks.feed] if site.numbers.marks.feed else [])]
    lost = account(kept, found, since, (order.known, published), places)
    unlisted = {name: (found.kept[name].version, kept[name].version) for name in forked}
    return kept, lost._replace(services={**unlisted, **lost.services})


def _reached(found: Salvaged, *known: Mapping[str, int]) -> dict[str, int]:
    """Return the highest version of each service that anybody knows of, but none that leaves no room for more."""
    highest: dict[str, int] = {}
    for versions in (found.claimed, found.reached, *known):
        for name, version in versions.items():
            if version < MAX_INTEGER // 2:
                highest[name] = max(version, highest.get(name, 0))
    return highest


def _found(site: Site, order: Order, cached: Cache | None, since: Place) -> Salvaged:
    """Read the present database, unless it is another one than the cache is of. Raises: StoreLocked."""
    if order.source == "lkg-alone":
        return NOTHING
    whole = order.source in ("file", "nothing")
    epoch = cached.head.config_epoch if cached else site.numbers.marks.epoch or None
    names = {*order.known, *(cached.sealed if cached else ())}
    return salvage(site.files.database, site.sealer, epoch, names, BEGINNING.place if whole else since)


def _chosen(
    site: Site, order: Order, cached: Cache | None, found: Salvaged
) -> tuple[dict[str, Kept], set[str]]:
    """Take each service from where it is newest; name those of which something else was acknowledged as well.

    A row is as it was acknowledged, also what `.env` covers; one of the same version as the cache's may be of
    another branch, and then what was published counts. Raises: StoreUnavailable when there is nothing at all.
    """
    kept = (
        rows_of(cached.sealed, site.definitions, site.fixed, order.now, order.by)
        if cached is not None
        else {}
    )
    forked: set[str] = set()
    for name, row in found.kept.items():
        other = kept.get(name)
        if other is None:
            kept[name] = row
            continue
        differs = not found.holds and not means_the_same(
            row, other, site.definitions.get(name), site.fixed.get(name, ())
        )
        if row.version > other.version or (row.version == other.version and not differs):
            kept[name] = row
        if differs and (found.holds is False or row.version == other.version):
            forked.add(name)
    if cached is None and not kept:
        raise StoreUnavailable(
            f"nothing can be read of {site.files.database}, and there is no cache that can be trusted",
            suggestion="Restore a copy: `config-daemon restore --from FILE`;"
            " or begin with an empty store: `config-daemon rebuild --defaults`.",
        )
    return kept, forked


def _copied(site: Site, source: Path, path: Path, terms: Terms) -> Mapping[str, Kept]:
    try:
        building.copy(source, path)
        found = building.refuse_unsound(path, site.sealer)
    except StoreError as error:
        raise StoreUnavailable(
            f"{source} was not taken: {error.message}", suggestion="Mend that, or name another copy."
        ) from error
    building.adopt_copy(path, found, terms)
    return found.kept


def _origin(order: Order, cached: Cache | None) -> str:
    """Return in words where the rows come from."""
    if order.source == "file":
        return str(order.file)
    if order.source == "nothing":
        return "nothing: an empty store"
    if cached is None:
        return f"{_REST}; there is no cache that can be trusted"
    rest = "" if order.source == "lkg-alone" else f", and {_REST}"
    return f"{_CACHE} of {cached.head.generated_at}{rest}"


def told(intent: Intent) -> dict[str, Any]:
    """Return what people get to know of a rebuild or an adoption."""
    answer = {"config_epoch": intent.epoch, "services": intent.services}
    if intent.kind == "adopt-db":
        return answer
    return {**answer, "source": intent.source, "quarantine": intent.quarantine, "lost": dict(intent.lost)}
