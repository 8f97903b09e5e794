"""`init`: make a data folder. Again on a complete one: changes nothing."""

from __future__ import annotations

import secrets
import time
import uuid

import click

from config_daemon.cli.session import Session, standard
from config_daemon.errors import KeyUnavailable, SettingsError
from config_daemon.store.files import FOLDER_MODE, READABLE_MODE, Files, replace_durably


@click.command()
@standard
@click.pass_obj
def command(session: Session) -> None:
    """Make a data folder: keys in .env (0600), an empty store, its epoch.

    Safe to repeat: what is complete stays as it is, what an interrupted run left is finished.
    """
    made = make(session)
    files = session.ground.files
    data = {"data": str(files.folder), "made": made, "back_up": [str(files.environment)]}
    session.show(data, lambda: "\n".join([
        f"made {', '.join(made)} in {files.folder}" if made else f"{files.folder} is complete; nothing was changed",
    ]))  # fmt: skip
    if made:
        session.say(
            f"back up elsewhere: {files.environment} (the keys; without them the fleet cannot be told anything)"
        )


def make(session: Session) -> list[str]:
    """Make what is missing; return the names of what was made.

    Raises: SettingsError when something is missing that cannot be remade, with the command that restores
    it, or when the folder does not let itself be written.
    """
    try:
        return _make(session)
    except OSError as error:
        raise SettingsError(
            f"{error.filename or session.folder} cannot be made: {error.strerror}",
            suggestion="Make that folder writable for this user, or name another one with --data.",
        ) from error


def _make(session: Session) -> list[str]:
    folder = session.folder
    made = [] if folder.is_dir() else ["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    if made:
        folder.chmod(FOLDER_MODE)
    files = Files.below(folder)
    if not files.environment.exists():
        _refuse_new_keys(files)
        _write_keys(files)
        made.append(".env")
    session.__dict__.pop("ground", None)
    files = session.ground.files
    session.ground.keys.signer()
    session.ground.keys.row_sealer()
    session.ground.keys.hmac_key()
    for name in (files.requests, files.schemas):
        if not name.is_dir():
            name.mkdir()
            name.chmod(FOLDER_MODE)
    if not files.database.exists():
        _refuse_new_store(files)
        _make_store(session, files)
        made.append("store")
    return made


def _refuse_new_keys(files: Files) -> None:
    sealed = [path for path in (files.database, files.cache, files.marks) if path.exists()]
    if sealed:
        raise KeyUnavailable(
            f"{files.environment} is gone, and {sealed[0]} was sealed with its keys: new ones would not fit",
            suggestion=f"Put the .env back from its backup: cp /path/to/backup/.env {files.environment}",
        )


def _refuse_new_store(files: Files) -> None:
    left = [path for path in (files.cache, files.marks) if path.exists()]
    if left:
        raise SettingsError(
            f"{files.database} is gone, and {left[0].name} shows that there was one;"
            " an empty one would withdraw everything",
            suggestion=f"Put the database back from its backup: cp /path/to/backup/config.db {files.database}",
        )


def _write_keys(files: Files) -> None:
    from nacl.signing import SigningKey

    from config_daemon.store.dotenv_new import write_new
    from config_daemon.store.keyfiles import new_key_text
    from config_daemon.wire.keys import public_key_pem, signing_key_pem

    key = SigningKey(secrets.token_bytes(32))
    stamp = uuid.uuid4().hex[:8]
    write_new(
        files.environment,
        [
            ("CONFIG_SIGNATURE_PRIVATE_KEY", signing_key_pem(key)),
            ("CONFIG_SIGNATURE_PUBLIC_KEY", public_key_pem(key.verify_key)),
            ("CONFIG_MASTER_KEY_BASE64", new_key_text(secrets.token_bytes(32))),
            ("CONFIG_MASTER_KEY_ID", f"master-{stamp}"),
            ("LKG_HMAC_KEY_BASE64", new_key_text(secrets.token_bytes(32))),
            ("LKG_HMAC_KEY_ID", f"hmac-{stamp}"),
        ],
        "Keys and settings of config-daemon. Keep this file private, and a copy of it elsewhere.",
    )


def _make_store(session: Session, files: Files) -> None:
    import json

    from config_daemon.store.schema import create
    from config_daemon.wire.messages import timestamp

    epoch, now = str(uuid.uuid4()), timestamp(time.time_ns() // 1_000_000)
    metadata = {"config_epoch": epoch, "schema_version": 1, "created_at": now, "last_rebuild": None}
    replace_durably(files.epoch, json.dumps(metadata, indent=1).encode(), READABLE_MODE)
    create(files.database, epoch=epoch, model_hash=session.catalog.model_hash, now=now)
