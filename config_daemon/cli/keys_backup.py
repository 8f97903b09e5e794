"""`keys backup` and `keys restore`: all keys of a folder into one encrypted file, and out of it again."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config_daemon.cli.passphrase import passphrase_for
from config_daemon.cli.session import Session, standard
from config_daemon.errors import ConfigDaemonError, KeyUnavailable, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from config_daemon.store.keylist import HeldKey

_COMMENT = "Keys, put back by `config-daemon keys restore`. Keep this file private."
_passphrase_file = click.option(
    "--passphrase-file", metavar="FILE", help="Read the passphrase from a private file; else it is asked for, or read "
    "from standard input when that is no terminal.",
)  # fmt: skip


class KeyDiffers(ConfigDaemonError):
    """A key that is here already is not the one in the backup."""

    code = "KEY_DIFFERS"


@click.command()
@click.argument("file", metavar="FILE")
@_passphrase_file
@standard
@click.pass_obj
def backup(session: Session, file: str, passphrase_file: str | None) -> None:
    """Write all keys, encrypted with a passphrase, into a new FILE.

    \b
    config-daemon keys backup /media/stick/fleet.keys
    pass show fleet | config-daemon keys backup /media/stick/fleet.keys
    """
    from config_daemon.store import keybackup, keybackup_file, keyrecord
    from config_daemon.store.keylist import assignments, held
    from config_daemon.wire.messages import timestamp

    path, ground = Path(file).absolute(), session.ground
    keys, found = held(ground.keys), assignments(ground.keys)
    _refuse_partial(found, keybackup.REQUIRED)
    if os.path.lexists(path):  # before anybody types a passphrase; `write` refuses it for sure
        raise keybackup_file.exists(path)
    passphrase = passphrase_for(session, passphrase_file, twice=True)
    made_at = timestamp(time.time_ns() // 1_000_000)
    content = keybackup.sealed(found, [(key.purpose, str(key.key_id)) for key in keys], passphrase, made_at)
    keybackup_file.write(
        path, content, lambda there: keybackup.opened(there, passphrase).assignments == found
    )
    try:
        keyrecord.note(ground.files, keys, made_at)
    except OSError as error:
        raise ConfigDaemonError(
            f"{path} is a good backup, but that cannot be noted in {ground.files.folder}: {error.strerror}",
            suggestion="Keep the backup; `config-daemon status` goes on to say that there is none.",
        ) from error
    facts = {"file": str(path), "made_at": made_at, "keys": _named(keys)}
    session.show(facts, lambda: f"{path} holds {_told(keys)}; it was read back, and the passphrase opens it")
    if path.parent.resolve().is_relative_to(ground.files.folder.resolve()):
        session.say("note: it lies in the data folder, and would be lost together with it: copy it elsewhere")
    session.say(
        "keep the file and the passphrase elsewhere, each by itself; without the passphrase it is worth nothing"
    )


@click.command()
@click.argument("file", metavar="FILE")
@_passphrase_file
@standard
@click.pass_obj
def restore(session: Session, file: str, passphrase_file: str | None) -> None:
    """Put the keys of a backup into a folder that lacks them; a different key is never overwritten.

    Safe to repeat: what is there already and the same stays as it is.

    \b
    config-daemon keys restore /media/stick/fleet.keys
    """
    from config_daemon.cli.init import make_folder, readable_keys
    from config_daemon.store import dotenv_added, keybackup, keybackup_file, keyrecord
    from config_daemon.store.keylist import SIGNING, assignments, held

    path = Path(file).absolute()
    content = keybackup_file.read(path)
    keybackup.checked(content)  # before anybody types a passphrase
    found = keybackup.opened(content, passphrase_for(session, passphrase_file, twice=False))
    present = assignments(readable_keys(session))
    _refuse_different(session, found.assignments, present)
    added = [(name, text) for name, text in found.assignments.items() if name not in present]
    if added:
        make_folder(session)
        dotenv_added.add(session.ground.files.environment, added, _COMMENT)
    session.__dict__.pop("ground")
    files, keys = session.ground.files, session.ground.keys
    keys.signer(), keys.row_sealer(), keys.hmac_key()
    inside = [
        key for key in held(keys) if key.purpose == SIGNING or key.purpose in _purposes(found.assignments)
    ]
    try:
        keyrecord.note(files, inside, found.made_at)
    except OSError as error:
        raise SettingsError(
            f"the keys are restored, but {keyrecord.record(files)} cannot be written: {error.strerror}",
            suggestion="Make the data folder writable for this user, and run the command again.",
        ) from error
    facts = {
        "data": str(files.folder),
        "file": str(path),
        "restored": [name for name, _ in added],
        "keys": _named(inside),
    }
    session.show(
        facts,
        lambda: (
            f"{_told(inside)} of {path} are in {files.environment}"
            if added
            else f"all keys of {path} are here already; nothing was changed"
        ),
    )
    if not files.database.exists():
        session.say(
            f"there is no database yet: put it back to {files.database} from its backup,"
            f" or make an empty one with `config-daemon init --data {session.folder}`"
        )


def warn_unless_backed_up(session: Session) -> None:
    """Tell a person on stderr while a key is in no backup; nothing where the keys cannot be looked at."""
    from config_daemon.store.keyrecord import REMEDY, backup_missing

    with contextlib.suppress(ConfigDaemonError):  # whoever asks is told of that by what needs the keys
        if missing := backup_missing(session.ground):
            session.say(f"warning: {missing}\n  {REMEDY}")


def _refuse_different(session: Session, wanted: Mapping[str, str], present: Mapping[str, str]) -> None:
    different = [name for name, text in wanted.items() if present.get(name, text) != text]
    if different:
        places = (
            f"{name} ({session.ground.keys.source(name) or 'found with its other half'})"
            for name in different
        )
        raise KeyDiffers(
            f"what is here is not what is in the backup, and nothing was changed: {', '.join(places)}",
            suggestion="Name another folder with --data; or, if nothing was ever sealed with those keys, remove them.",
        )


def _refuse_partial(found: Mapping[str, str], required: frozenset[str]) -> None:
    lacking = sorted(required - found.keys())
    if lacking:
        raise KeyUnavailable(
            f"a backup must hold all keys, and {', '.join(lacking)} cannot be had here",
            suggestion="Run this where all are found: where they are systemd credentials, as root with"
            " CREDENTIALS_DIRECTORY=/etc/config-daemon.",
        )


def _purposes(assignments: Mapping[str, str]) -> set[str]:
    from config_daemon.store.keyfiles import SYMMETRIC

    return {kind.purpose for kind in SYMMETRIC if kind.name in assignments}


def _named(keys: Sequence[HeldKey]) -> list[dict[str, str | None]]:
    return [{"purpose": key.purpose, "key_id": key.key_id} for key in keys]


def _told(keys: Sequence[HeldKey]) -> str:
    return "the keys " + ", ".join(f"{key.purpose} {key.key_id}" for key in keys)
