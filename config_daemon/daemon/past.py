"""What an earlier life left: marks, the last-known-good cache, the keyring; and where this life goes on from.

Laws: an older database is migrated and a rebuild that is half done is finished before anything is read; a
cache that cannot be trusted goes into quarantine, marks that cannot stop the start; numbers begin above
everything that may have been used; what an old HMAC key sealed is sealed anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from config_daemon.core.health import Findings
from config_daemon.core.sealed import Sealed
from config_daemon.daemon.held import resume
from config_daemon.daemon.identity import Identity, Keys
from config_daemon.daemon.sight import NOTHING_KNOWN
from config_daemon.errors import CacheError, SettingsError, StoreError
from config_daemon.logs import Logger
from config_daemon.store import cache, keyrecord, marks
from config_daemon.store.files import Files
from config_daemon.store.finishing import finish, is_under_way, numbers_of
from config_daemon.store.ground import Ground, env_of
from config_daemon.store.keyfiles import KeyFiles
from config_daemon.store.keyrings import KeyringFiles
from config_daemon.store.ports import Place, StoreFacts
from config_daemon.store.status import StatusBoard
from config_daemon.store.upgrade import upgrade
from config_daemon.wire.keyring import of_key
from config_daemon.wire.messages import timestamp


class Past(NamedTuple):
    """What there is to go on from; `event` is what the first health calls the start."""

    numbers: marks.Numbers
    identity: Identity
    rings: KeyringFiles
    cached: cache.Cache | None
    event: str
    places: list[Place]
    is_rekeyed: bool

    @property
    def sealed(self) -> Mapping[str, Sealed]:
        """Return the last message of every service, as far as the cache knows."""
        return self.cached.sealed if self.cached else {}

    @property
    def facts(self) -> StoreFacts:
        """Return what was known of the database last."""
        head = self.cached.head if self.cached else None
        return StoreFacts(head.config_epoch, head.schema_version, "") if head else NOTHING_KNOWN


def migrate_store(ground: Ground, board: StatusBoard, now: str, log: Logger) -> str | None:
    """Migrate an older database before anybody reads it; return why that was not possible."""

    def begun() -> None:
        board.daemon(mode="rebuilding", database_status="schema-mismatch")
        board.flush()

    try:
        copy = upgrade(ground.files, ground.keys.row_sealer(), now=now, begun=begun)
    except (StoreError, OSError) as error:
        log.warning("store_not_upgraded", error=str(error))
        return str(error)
    if copy is not None:
        log.info("store_upgraded", copy=str(copy))
    return None


def load_past(
    ground: Ground, environ: Mapping[str, str], findings: Findings, unix_ms: Callable[[], int], log: Logger
) -> Past:
    """Read what is there, and choose keyring and key.

    Raises: SettingsError, KeyUnavailable, CacheError when the daemon must not start.
    """
    files, hmac_keys = ground.files, ground.keys.hmac_keys()
    keys = Keys.of(ground.keys)
    if is_under_way(files, hmac_keys):
        finish(files, numbers_of(files, hmac_keys, ground.keyring().generation))
    known = marks.load(files.marks, hmac_keys)
    _refuse_empty_folder(files, known)
    cached, event = _load_cache(files, hmac_keys, known, findings, timestamp(unix_ms()))
    rings = KeyringFiles(files)
    own = of_key(keys.signers[0].verify_key)
    held = resume(known.keyring, own, rings, known.generation) if known else resume(None, own, rings)
    numbers = _numbers(files, hmac_keys, known, cached, held.keyring.generation, unix_ms())
    is_rekeyed = len(hmac_keys) > 1
    if is_rekeyed:
        numbers.reserve()
    identity = Identity(
        held, keys, numbers, rings, findings, lambda env: KeyFiles(environ, env or env_of(files)),
        partial(keyrecord.is_backed_up, files), ground.settings.key_grace_seconds,
        lambda: timestamp(unix_ms()), unix_ms, log,
    )  # fmt: skip
    places = [place for place in (known and known.feed, cached and cached.head.feed) if place]
    return Past(numbers, identity, rings, cached, event, places, is_rekeyed)


def _load_cache(
    files: Files, hmac_keys: tuple[bytes, ...], known: marks.Marks | None, findings: Findings, now: str
) -> tuple[cache.Cache | None, str]:
    """Return the cache, and what the first health calls the start; a bad cache goes into quarantine."""
    try:
        cached = cache.load(files.cache, hmac_keys)
    except CacheError as error:
        with contextlib.suppress(OSError):
            cache.set_aside(files.cache, files.quarantine, now.replace(":", ""))
        findings.open("lkg-tampered", files.cache.name, error.message, now)
        return None, "lkg-tampered"
    if cached is not None:
        return cached, "started"
    return None, "lkg-created" if known else "initialised"


def _numbers(
    files: Files, hmac_keys: tuple[bytes, ...], known: marks.Marks | None, cached: cache.Cache | None,
    generation: int, unix_ms: int,
) -> marks.Numbers:  # fmt: skip
    head = cached.head if cached else None
    highest = head.sequence if head and head.generation == generation else 0
    start = known or marks.Marks(generation, 0, head.config_epoch if head else "", feed=None)
    last = max(start.reserved, highest, unix_ms)
    return marks.Numbers(files.marks, hmac_keys[0], start, last, hmac_keys[1:])


def _refuse_empty_folder(files: Files, known: marks.Marks | None) -> None:
    if known is None and not files.database.exists() and not files.cache.exists():
        raise SettingsError(
            f"there is no store in {files.folder}",
            suggestion=f"Run `config-daemon init --data {files.folder}`, or name the right folder with --data.",
        )
