"""`keys restore`: keys and keyrings out of a backup, into a folder that lacks them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from config_daemon.cli.keys_backup import named, passphrase_file_option, told
from config_daemon.cli.passphrase import passphrase_for
from config_daemon.cli.session import Session, standard
from config_daemon.errors import ConfigDaemonError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COMMENT = "Keys, put back by `config-daemon keys restore`. Keep this file private."


class KeyDiffers(ConfigDaemonError):
    """A key that is here already is not the one in the backup."""

    code = "KEY_DIFFERS"


@click.command(short_help="Put the keys of a backup back.")
@click.argument("file", metavar="FILE")
@passphrase_file_option
@standard
@click.pass_obj
def restore(session: Session, file: str, passphrase_file: str | None) -> None:
    """Put the keys and keyrings of a backup into a folder that lacks them; a different key is never overwritten.

    Safe to repeat: what is there already and the same stays as it is.

    \b
    config-daemon keys restore /media/stick/fleet.keys
    """
    from config_daemon.cli.init import make_folder, readable_keys
    from config_daemon.cli.keyrings_restore import plan, put_back
    from config_daemon.store import dotenv_added, keybackup, keybackup_file, keyrecord
    from config_daemon.store.keyfiles import NEXT_PRIVATE_KEY
    from config_daemon.store.keylist import NEXT_SIGNING, SIGNING, assignments, held

    path = Path(file).absolute()
    content = keybackup_file.read(path)
    keybackup.checked(content)  # before anybody types a passphrase
    found = keybackup.opened(content, passphrase_for(session, passphrase_file, twice=False))
    present = assignments(readable_keys(session))
    _refuse_different(session, found.assignments, present, found.keyrings)
    planned = plan(session, found.keyrings)
    added = [
        (name, text)
        for name, text in found.assignments.items()
        if name not in present and not (name == NEXT_PRIVATE_KEY and planned.revokes(text))
    ]
    if added or planned.lacking:
        make_folder(session)
        put_back(session, planned)  # first: no daemon starts on keys without the keyring that lists them
    if added:
        dotenv_added.add(session.ground.files.environment, added, _COMMENT)
    session.__dict__.pop("ground")
    files, keys = session.ground.files, session.ground.keys
    keys.signer(), keys.row_sealer(), keys.hmac_key()
    inside = [
        key
        for key in held(keys)
        if key.purpose == SIGNING
        or key.purpose in _purposes(found.assignments)
        or (key.purpose == NEXT_SIGNING and NEXT_PRIVATE_KEY in found.assignments)
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
        "keys": named(inside),
        "keyrings": [one.number for one in planned.lacking],
    }
    session.show(
        facts,
        lambda: (
            f"{told(inside)} of {path} are in {files.environment}"
            if added
            else f"the keyrings of {path} are put back; all its keys are here already"
            if planned.lacking
            else f"all keys of {path} are here already; nothing was changed"
        ),
    )
    if not files.database.exists():
        session.say(
            f"there is no database yet: put it back to {files.database} from its backup,"
            f" or make an empty one with `config-daemon init --data {session.folder}`"
        )


def _refuse_different(
    session: Session, wanted: Mapping[str, str], present: Mapping[str, str], keyrings: Sequence[bytes]
) -> None:
    from config_daemon.cli.keyrings_restore import is_newer_here
    from config_daemon.store.keyfiles import NEXT_PRIVATE_KEY, PRIVATE_KEY, PUBLIC_KEY

    different = [name for name, text in wanted.items() if present.get(name, text) != text]
    rotated = (PRIVATE_KEY, PUBLIC_KEY, NEXT_PRIVATE_KEY)
    if (
        different
        and set(different) <= set(rotated)
        and is_newer_here(session, keyrings, wanted.get(PUBLIC_KEY))
    ):
        whole = all(name in present for name in wanted if name != NEXT_PRIVATE_KEY)
        raise KeyDiffers(
            f"{session.folder} has newer keys than the backup: they were rotated since; nothing was changed",
            suggestion="Nothing needs restoring here."
            if whole
            else "Restore a backup that was made after the last rotation; remove no key that is here.",
        )
    if different:
        places = (
            f"{name} ({session.ground.keys.source(name) or 'found with its other half'})"
            for name in different
        )
        raise KeyDiffers(
            f"what is here is not what is in the backup, and nothing was changed: {', '.join(places)}",
            suggestion="Name another folder with --data; or, if nothing was ever sealed with those keys, remove them.",
        )


def _purposes(assignments: Mapping[str, str]) -> set[str]:
    from config_daemon.store.keyfiles import SYMMETRIC

    return {kind.purpose for kind in SYMMETRIC if kind.name in assignments}
