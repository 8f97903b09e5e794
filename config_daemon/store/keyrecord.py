"""Remembers in the data folder of which keys a backup was made, so that a missing one can be told.

Laws: nothing in the file is secret, and nothing that is decided depends on it; a record that cannot be
read counts as none, so that a person is asked once more rather than never; a key is known by its digest,
so another one under the same id was not backed up.

Form: `{"version": 1, "keys": [{"purpose", "key_id", "digest", "at"}]}`, one entry a key, the newest `at`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from config_daemon.errors import SettingsError
from config_daemon.store.files import READABLE_MODE, Files, read_capped, replace_durably
from config_daemon.store.ground import Ground
from config_daemon.store.keylist import NEXT_SIGNING, SIGNING, HeldKey, held
from config_daemon.wire import values

VERSION = 1
SIGNERS = (SIGNING, NEXT_SIGNING)
MAX_BYTES = 64 * 1024
REMEDY = "Run `config-daemon keys backup FILE`, and keep FILE and its passphrase elsewhere."


def record(files: Files) -> Path:
    """Return where the record lies."""
    return files.folder / "keys-backup.json"


def note(files: Files, keys: Iterable[HeldKey], at: str) -> None:
    """Write down that these keys are in a backup.

    Raises: OSError.
    """
    known = {**_known(files), **{(key.purpose, key.key_id, key.digest): at for key in keys}}
    entries = [
        {"purpose": purpose, "key_id": key_id, "digest": digest, "at": when}
        for (purpose, key_id, digest), when in known.items()
    ]
    replace_durably(
        record(files), json.dumps({"version": VERSION, "keys": entries}, indent=1).encode(), READABLE_MODE
    )


def backed_up(files: Files, keys: Iterable[HeldKey]) -> dict[HeldKey, str | None]:
    """Return when a backup of each key was made, None where there is none."""
    known = _known(files)
    return {key: _when(known, key) for key in keys}


def is_backed_up(files: Files, key_id: str) -> bool:
    """Tell whether a signing key is in a backup."""
    return any(key_id == known and purpose in SIGNERS for purpose, known, _ in _known(files))


def backup_missing(ground: Ground) -> str | None:
    """Return what to tell a person while a key of the folder is in no backup; None when all are, or none is here.

    Keys that must not be used are somebody else's finding, and count as not here.
    """
    try:
        keys = [key for key in held(ground.keys) if key.key_id and key.digest]
    except SettingsError:
        return None
    lacking = [key for key, at in backed_up(ground.files, keys).items() if at is None]
    if not lacking:
        return None
    if len(lacking) == len(keys):
        return "no backup of the keys was made yet"
    names = ", ".join(f"{key.purpose} key {key.key_id}" for key in lacking)
    return f"no backup was made yet of the {names}"


_Known = Mapping[tuple[str, str | None, str | None], str]


def _when(known: _Known, key: HeldKey) -> str | None:
    """Return when a key was backed up; a rotation makes it the next, the present and the old one in turn."""
    same = [
        at
        for (purpose, key_id, digest), at in known.items()
        if _lasting(purpose) == _lasting(key.purpose)
        and key_id == key.key_id
        and key.digest in (None, digest)
    ]
    return max(same, default=None)


def _lasting(purpose: str) -> str:
    return purpose.removesuffix("-next").removesuffix("-old")


def _known(files: Files) -> _Known:
    try:
        content = values.parse(read_capped(record(files), MAX_BYTES))
        if content["version"] != VERSION:
            return {}
        return {
            (str(entry["purpose"]), str(entry["key_id"]), str(entry["digest"])): str(entry["at"])
            for entry in content["keys"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}
