"""`keys backup`: all keys of a folder, and its keyrings, into one encrypted file."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config_daemon.cli.passphrase import passphrase_for
from config_daemon.cli.session import Session, standard
from config_daemon.cli.words import counted
from config_daemon.errors import ConfigDaemonError, KeyUnavailable, RejectedUpdate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from config_daemon.store.keylist import HeldKey

passphrase_file_option = click.option(
    "--passphrase-file", metavar="FILE", help="Read the passphrase from a private file; else it is asked for, or read "
    "from standard input when that is no terminal.",
)  # fmt: skip


@click.command(short_help="Write all keys into an encrypted file.")
@click.argument("file", metavar="FILE")
@passphrase_file_option
@standard
@click.pass_obj
def backup(session: Session, file: str, passphrase_file: str | None) -> None:
    """Write all keys and keyrings, encrypted with a passphrase, into a new FILE.

    \b
    config-daemon keys backup /media/stick/fleet.keys
    pass show fleet | config-daemon keys backup /media/stick/fleet.keys
    """
    from config_daemon.store import keybackup, keybackup_file, keyrecord
    from config_daemon.store.keylist import assignments, held
    from config_daemon.wire.messages import timestamp

    session.need_folder()
    rings = _keyrings(session)  # first: a key is in .env before it is in a keyring
    path, ground = Path(file).absolute(), session.ground
    keys, found = held(ground.keys), assignments(ground.keys)
    _refuse_partial(found, keybackup.REQUIRED)
    if os.path.lexists(path):  # before anybody types a passphrase; `write` refuses it for sure
        raise keybackup_file.exists(path)
    passphrase = passphrase_for(session, passphrase_file, twice=True)
    made_at = timestamp(time.time_ns() // 1_000_000)
    public = [(key.purpose, str(key.key_id)) for key in keys]
    content = keybackup.sealed(found, public, passphrase, made_at, keyrings=rings)

    def opens(there: bytes) -> bool:
        inside = keybackup.opened(there, passphrase)
        return inside.assignments == found and inside.keyrings == keybackup.newest_that_fit(rings)

    keybackup_file.write(path, content, opens)
    try:
        keyrecord.note(ground.files, keys, made_at)
    except OSError as error:
        raise ConfigDaemonError(
            f"{path} is a good backup, but that cannot be noted in {ground.files.folder}: {error.strerror}",
            suggestion="Keep the backup; `config-daemon status` goes on to say that there is none.",
        ) from error
    facts = {"file": str(path), "made_at": made_at, "keys": named(keys), "keyrings": len(rings)}
    more = f" and {counted(len(rings), 'keyring')}" if rings else ""
    session.show(
        facts, lambda: f"{path} holds {told(keys)}{more}; it was read back, and the passphrase opens it"
    )
    if path.parent.resolve().is_relative_to(ground.files.folder.resolve()):
        session.say("note: it lies in the data folder, and would be lost together with it: copy it elsewhere")
    session.say(
        "keep the file and the passphrase elsewhere, each by itself; without the passphrase it is worth nothing"
    )


def warn_unless_backed_up(session: Session) -> None:
    """Tell a person on stderr while a key is in no backup; nothing where the keys cannot be looked at."""
    from config_daemon.store.keyrecord import REMEDY, backup_missing

    with contextlib.suppress(ConfigDaemonError):  # whoever asks is told of that by what needs the keys
        if missing := backup_missing(session.ground):
            session.say(f"warning: {missing}\n  {REMEDY}")


def _keyrings(session: Session) -> list[bytes]:
    """Return every keyring that is here; what is none is left out."""
    from config_daemon.store.keyrings import KeyringFiles
    from config_daemon.wire.keyring import kept_keyring

    found = []
    for raw in KeyringFiles(session.files).stored():
        with contextlib.suppress(RejectedUpdate):
            found.append(kept_keyring(raw).raw)
    return found


def _refuse_partial(found: Mapping[str, str], required: frozenset[str]) -> None:
    lacking = sorted(required - found.keys())
    if lacking:
        raise KeyUnavailable(
            f"a backup must hold all keys, and {', '.join(lacking)} cannot be had here",
            suggestion="Run this where all are found: where they are systemd credentials, as root with"
            " CREDENTIALS_DIRECTORY=/etc/config-daemon.",
        )


def named(keys: Sequence[HeldKey]) -> list[dict[str, str | None]]:
    """Return what JSON output says of keys."""
    return [{"purpose": key.purpose, "key_id": key.key_id} for key in keys]


def told(keys: Sequence[HeldKey]) -> str:
    """Return what a person is told of keys."""
    return "the keys " + ", ".join(f"{key.purpose} {key.key_id}" for key in keys)
