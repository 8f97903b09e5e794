"""What another database is going to be made of, and what is lost with it: reads everything, changes nothing.

Laws: a preview and the deed share this; a source that cannot be trusted is refused before anything is made;
every row that was acknowledged and can be believed is taken, and what is lost is told.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from config_daemon.errors import CacheError, StoreError, StoreUnavailable, UsageError
from config_daemon.store import building
from config_daemon.store.cache import ASIDE, Cache, load
from config_daemon.store.files import Files
from config_daemon.store.finishing import beside
from config_daemon.store.journal import Kind
from config_daemon.store.loss import BEGINNING, Lost, Since, account, lost_workers
from config_daemon.store.marks import Numbers
from config_daemon.store.ports import Place, WorkerRow
from config_daemon.store.salvage import NOTHING, Kept, Salvaged, lacking, salvage
from config_daemon.store.seals import RowSealer
from config_daemon.store.transaction import Definitions
from config_daemon.store.unsealed import Fixed, means_the_same, rows_of
from config_daemon.wire.values import MAX_INTEGER

Source = Literal["rest", "lkg", "lkg-alone", "file", "nothing"]
KIND: dict[Source, Kind] = {
    "rest": "rebuild", "lkg": "restore", "lkg-alone": "adopt-lkg", "file": "restore", "nothing": "rebuild",
}  # fmt: skip
CACHE, REST = "the cache", "what could be read of the database"


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

    `force` rebuilds also what is sound. `highest_seen`, `known` (versions by service) and `places` are what
    somebody saw who was there before.
    """

    source: Source
    by: str
    reason: str | None
    now: str
    request: str = ""
    file: Path | None = None
    force: bool = False
    highest_seen: int = 0
    known: Mapping[str, int] = {}
    places: tuple[Place, ...] = ()

    @property
    def copied(self) -> Path | None:
        """Return the copy that is to be taken, None for any other source."""
        return self.file if self.source == "file" else None


class Choice(NamedTuple):
    """Rows for a new database and what is not among them; `reached` are the highest versions known of services.

    `model_hash` names the definitions that the rows are known to fit; `cached` is the cache that was used.
    """

    kept: Mapping[str, Kept]
    lost: Lost
    reached: Mapping[str, int]
    model_hash: str
    cached: Cache | None
    origin: str
    workers: Collection[WorkerRow]  # who is expected from then on; a copy brings its own


def choose(site: Site, order: Order) -> Choice:
    """Read every source and choose. Raises: StoreError; CacheError; UsageError."""
    cached = source_of(site, order)
    since = Since(cached.head.feed, cached.head.generated_at) if cached else BEGINNING
    published = cached.versions if cached else {}
    found = _found(site, order, cached, since.place)
    site.alive()
    kept: Mapping[str, Kept] = {}
    forked: set[str] = set()
    expected: Mapping[str, WorkerRow] = {}
    model_hash = site.model_hash
    if order.copied is not None:
        copied, since = _copied(order.copied, site.sealer), BEGINNING
        kept, expected = copied.kept, copied.workers.rows
        history_rows, secrets = lacking(site.files.database, order.copied)
        found = found._replace(history_rows=history_rows, secrets=secrets)
    elif order.source == "nothing":
        since = BEGINNING
    else:
        kept, forked = _chosen(site, order, cached, found)
        expected = found.workers.rows
        model_hash = found.model_hash or ""  # the daemon judges whether they fit ours
    site.alive()
    lost = account(kept, found, since, (order.known, published), _places(site, order))
    unlisted = {name: (found.kept[name].version, kept[name].version) for name in forked}
    lost = lost._replace(services={**unlisted, **lost.services}, workers=lost_workers(found, expected))
    reached = _reached(found, order.known, published)
    return Choice(kept, lost, reached, model_hash, cached, _origin(order, cached), expected.values())


def source_of(site: Site, order: Order) -> Cache | None:
    """Return the cache that an order takes, after a look at what else it names.

    Raises: UsageError for a file that can be no copy; CacheError when a cache is needed and none can be trusted.
    """
    refuse_file(site.files, order.copied)
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


def is_sound(site: Site, order: Order) -> bool:
    """Tell whether the present database is whole, and the newest that anybody knows of. Raises: StoreLocked."""
    found = building.soundness(site.files.database, site.sealer)
    if found is None:
        return False
    marks = site.numbers.marks
    there = {Place(seq, token) for seq, token, _ in found.feed or ()}
    versions = {name: row.version for name, row in found.kept.items()}
    is_behind = any(version > versions.get(name, 0) for name, version in order.known.items())
    return marks.epoch in ("", found.epoch) and not is_behind and there.issuperset(_places(site, order))


def _places(site: Site, order: Order) -> list[Place]:
    """Return the places that the present database has, unless something was cut off from it."""
    marked = site.numbers.marks.feed
    return [*order.places, *([marked] if marked else [])]


def refuse_file(files: Files, source: Path | None) -> None:
    """Refuse as a copy what is none. Raises: UsageError; StoreUnavailable."""
    if source is None:
        return
    if "\0" in str(source):
        raise UsageError("a path holds a NUL character", suggestion="Name the copy as it is called.")
    _refuse_own(files, source)
    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise StoreUnavailable(
            f"{source} was not taken: {error.strerror}",
            suggestion="Name a copy that the daemon's user can read; in the data folder it always can.",
        ) from error
    if stat.S_ISDIR(mode):
        raise UsageError(
            f"{source} is a folder, and a copy of the database is a file",
            suggestion=f"Name the file in it, such as {source / files.database.name}.",
        )
    if not stat.S_ISREG(mode):
        raise StoreUnavailable(
            f"{source} was not taken: it is no regular file", suggestion="Name another copy."
        )
    if not os.access(source, os.R_OK):
        raise StoreUnavailable(
            f"{source} was not taken: it may not be read here",
            suggestion="Let the daemon's user read it; in the data folder it always can.",
        )


def _refuse_own(files: Files, source: Path) -> None:
    own = (
        (files.database, "the database itself", "To take the database as it is: `config-daemon adopt --db`."),
        (beside(files.database), "half a rebuild", "`config-daemon rebuild` finishes it, or gives it up."),
        (files.cache, "the last-known-good cache, and no copy of the database",
         "To take the cache: `config-daemon restore --from lkg`."),
    )  # fmt: skip
    for path, what, suggestion in own:
        is_it = False
        with contextlib.suppress(OSError):
            is_it = source.samefile(path)
        if is_it:
            raise UsageError(f"{source} is {what}", suggestion=suggestion)
    if source.name.startswith(ASIDE) or source.name == files.cache.name:
        raise UsageError(
            f"{source} is a last-known-good cache, and no copy of the database",
            suggestion=f"To take it: move it to {files.cache}, then `config-daemon adopt --lkg`.",
        )


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


def _copied(source: Path, sealer: RowSealer) -> Salvaged:
    """Return what is in a copy that is sound. Raises: StoreUnavailable."""
    try:
        return building.refuse_unsound(source, sealer)
    except StoreError as error:
        raise StoreUnavailable(
            f"{source} was not taken: {error.message}", suggestion="Mend that, or name another copy."
        ) from error


def _origin(order: Order, cached: Cache | None) -> str:
    """Return in words where the rows come from."""
    if order.source == "file":
        return str(order.file)
    if order.source == "nothing":
        return "nothing: an empty store"
    if cached is None:
        return f"{REST}; there is no cache that can be trusted"
    rest = "" if order.source == "lkg-alone" else f", and {REST}"
    return f"{CACHE} of {cached.head.generated_at}{rest}"
