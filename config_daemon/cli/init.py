"""`init`: make a data folder. Again on a complete one: changes nothing."""

from __future__ import annotations

import os
import secrets
import time
import uuid
from typing import TYPE_CHECKING

import click

from config_daemon.cli.session import Session, standard, user_name
from config_daemon.errors import KeyUnavailable, SettingsError
from config_daemon.store.files import FOLDER_MODE, READABLE_MODE, Files, replace_durably

if TYPE_CHECKING:
    from config_daemon.store.keyfiles import KeyFiles


@click.command()
@standard
@click.pass_obj
def command(session: Session) -> None:
    """Make a data folder: keys in .env (0600), an empty store, its epoch.

    Safe to repeat: what is complete stays as it is, what an interrupted run left is finished.
    """
    from config_daemon.store.keyrecord import backup_missing

    made = make(session)
    files = session.ground.files
    how = f"config-daemon keys backup FILE --data {files.folder}"
    missing = backup_missing(session.ground)
    data = {
        "data": str(files.folder),
        "made": made,
        "back_up": [str(files.environment), str(files.database)],
        "back_up_keys_with": how if missing else None,
    }
    done = (
        f"made {', '.join(made)} in {files.folder}"
        if made
        else f"{files.folder} is complete; nothing was changed"
    )
    session.show(data, lambda: done)
    if missing:
        session.say(f"{missing}; without its keys nobody can tell the fleet anything again:\n  {how}")
    if made:
        session.say(
            f"back up elsewhere as well: {files.environment} (settings) and {files.database}, with a tool that knows"
            " SQLite; never marks.json"
        )


def make(session: Session) -> list[str]:
    """Make what is missing; return the names of what was made.

    Raises: SettingsError when something is missing that cannot be remade, with the command that restores
    it, or when the folder does not let itself be written.
    """
    made = ["folder"] if make_folder(session) else []
    try:
        return made + _make(session)
    except OSError as error:
        raise _unwritable(session, error) from error


def make_folder(session: Session) -> bool:
    """Make the data folder if it is not there; tell whether it was made.

    Raises: SettingsError when it cannot be made.
    """
    folder = session.folder
    if folder.is_dir():
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
    except OSError as error:
        raise _unwritable(session, error) from error
    return True


def _unwritable(session: Session, error: OSError) -> SettingsError:
    return SettingsError(
        f"{error.filename or session.folder} cannot be made: {error.strerror}",
        suggestion="Make that folder writable for this user, or name another one with --data.",
    )


def _make(session: Session) -> list[str]:
    made = []
    if missing := _missing_keys(session):
        made.append("keys" if session.ground.files.environment.exists() else ".env")
        _add_keys(session, missing)
    files = session.ground.files
    session.ground.keys.signer()
    session.ground.keys.row_sealer()
    session.ground.keys.hmac_key()
    for name in (files.requests, files.schemas):
        if not name.is_dir():
            name.mkdir()
            name.chmod(FOLDER_MODE)
    if not files.database.exists() and not _is_being_rebuilt(session):
        _refuse_new_store(files)
        _make_store(session, files)
        made.append("store")
    return made


def readable_keys(session: Session) -> KeyFiles:
    """Return the keys, with those in `.env` where there is one.

    Raises: KeyUnavailable when this user may not read it, so that what is in it cannot be known.
    """
    env = session.ground.files.environment
    if session.ground.env_file is None and env.exists():
        raise KeyUnavailable(
            f"{env} may not be read by {user_name(os.getuid())}, so what keys it holds cannot be known",
            suggestion="Run this as the owner of that file.",
        )
    return session.ground.keys


def _missing_keys(session: Session) -> list[str]:
    """Return the names of the keys that must be made, in the order of `.env`.

    Raises: KeyUnavailable when something here was sealed with one, or is the other half of one.
    """
    from config_daemon.store.keyfiles import HMAC_KEY, MASTER_KEY, PRIVATE_KEY, PUBLIC_KEY

    files, keys = session.ground.files, readable_keys(session)
    missing = [name for name in (PRIVATE_KEY, MASTER_KEY, HMAC_KEY) if keys.source(name) is None]
    traces = [str(path) for path in (files.database, files.cache, files.marks) if path.exists()]
    if PRIVATE_KEY in missing and keys.source(PUBLIC_KEY):
        traces.append(PUBLIC_KEY)
    if missing and traces:
        raise KeyUnavailable(
            f"{', '.join(missing)} cannot be had, and {traces[0]} shows that there was one: a new one would not fit",
            suggestion=f"Restore it: config-daemon keys restore FILE --data {files.folder}",
        )
    return missing


def _is_being_rebuilt(session: Session) -> bool:
    """Tell whether a rebuild is half done, which the next start of the daemon finishes."""
    from config_daemon.store.finishing import is_under_way

    return is_under_way(session.ground.files, session.ground.keys.hmac_keys())


def _refuse_new_store(files: Files) -> None:
    left = [path for path in (files.cache, files.marks, files.rebuild_info) if path.exists()]
    if left:
        data = f"--data {files.folder}"
        cache = f"`config-daemon restore --from lkg {data}`, " if files.cache.exists() else ""
        raise SettingsError(
            f"{files.database} is gone, and {left[0].name} shows that there was one;"
            " an empty one would withdraw everything",
            suggestion=f"Put it back: {cache}`config-daemon restore --from /path/to/backup/config.db {data}`,"
            f" or `config-daemon rebuild {data}` to take what is left of it.",
        )


def _add_keys(session: Session, names: list[str]) -> None:
    from nacl.signing import SigningKey

    from config_daemon.store import dotenv_added
    from config_daemon.store.keyfiles import LKG_HMAC, MASTER, PRIVATE_KEY, PUBLIC_KEY, new_key_text
    from config_daemon.wire.keys import public_key_pem, signing_key_pem

    lines = []
    if PRIVATE_KEY in names:
        key = SigningKey(secrets.token_bytes(32))
        lines += [(PRIVATE_KEY, signing_key_pem(key)), (PUBLIC_KEY, public_key_pem(key.verify_key))]
    stamp = uuid.uuid4().hex[:8]
    for kind, prefix in ((MASTER, "master"), (LKG_HMAC, "hmac")):
        if kind.name in names:
            lines.append((kind.name, new_key_text(secrets.token_bytes(32))))
            if not session.ground.keys.find(kind.id_name):
                lines.append((kind.id_name, f"{prefix}-{stamp}"))
    comment = "Keys and settings of config-daemon. Keep this file private, and a backup of it elsewhere."
    dotenv_added.add(session.ground.files.environment, lines, comment)
    session.__dict__.pop("ground")


def _make_store(session: Session, files: Files) -> None:
    import json

    from config_daemon.store.schema import create
    from config_daemon.wire.messages import timestamp

    epoch, now = str(uuid.uuid4()), timestamp(time.time_ns() // 1_000_000)
    metadata = {"config_epoch": epoch, "schema_version": 1, "created_at": now, "last_rebuild": None}
    replace_durably(files.epoch, json.dumps(metadata, indent=1).encode(), READABLE_MODE)
    create(files.database, epoch=epoch, model_hash=session.catalog.model_hash, now=now)
