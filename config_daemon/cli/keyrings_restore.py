"""The keyrings of a backup, put back where a folder has none or older ones.

Laws: a keyring that is newer than those in the backup stays; one that neither leads to them nor follows them is
never overwritten; the way to the newest is there before the newest is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from config_daemon.cli.keyrings_held import newest_whole
from config_daemon.cli.keys_lock import give_to_owner, keys_lock
from config_daemon.cli.session import Session
from config_daemon.errors import ConfigDaemonError, KeyUnavailable, RejectedUpdate

if TYPE_CHECKING:
    from config_daemon.store.keyrings import KeyringFiles
    from config_daemon.wire.keyring import Keyring


class KeyringDiffers(ConfigDaemonError):
    """The keyring that is here knows nothing of the one in the backup."""

    code = "KEYRING_DIFFERS"


class Planned(NamedTuple):
    """What is to be written: keyrings that are lacking, and the newest there will be (None: there are none)."""

    lacking: tuple[Keyring, ...]
    newest: Keyring | None

    def revokes(self, pem: str) -> bool:
        """Tell whether a private key is never to be believed again."""
        from config_daemon.wire.keys import key_id, signing_key_from_pem

        public = bytes(signing_key_from_pem(pem).verify_key)
        return self.newest is not None and key_id(public) in self.newest.revoked


def plan(session: Session, wanted: Sequence[bytes]) -> Planned:
    """Return what of a backup's keyrings the folder lacks.

    Raises: KeyringDiffers when the one here is another one; ConfigDaemonError when the backup's are none.
    """
    from config_daemon.store.keyrings import KeyringFiles

    rings = KeyringFiles(session.files)
    stored = rings.stored()
    here, theirs = newest_whole(stored), newest_whole(wanted)
    if theirs is None:
        if wanted:
            raise ConfigDaemonError(
                "the keyrings in the backup cannot be verified; nothing was changed",
                suggestion="Take another copy of the backup.",
            )
        return Planned((), here)
    known = {one.number for raw in stored if (one := _reads(raw))}
    lacking = tuple(one for raw in wanted if (one := _reads(raw)) and one.number not in known)
    if here is None or _leads(here, wanted, theirs):
        return Planned(lacking or (() if _is_newest(rings, theirs) else (theirs,)), theirs)
    if _leads(theirs, stored, here):
        return Planned(() if _is_newest(rings, here) else (here,), here)
    raise KeyringDiffers(
        f"keyring {here.number} is here, and neither follows keyring {theirs.number} of the backup nor leads to it;"
        " nothing was changed",
        suggestion="Name another folder with --data, or move keyring.json and keyrings/ away if they are not yours.",
    )


def is_newer_here(session: Session, wanted: Sequence[bytes], public: str | None) -> bool:
    """Tell whether the keyring here follows a backup's: its newest, or where it has none the public key in it."""
    from config_daemon.store.keyrings import KeyringFiles
    from config_daemon.wire.keyring import of_key
    from config_daemon.wire.keys import public_key_from_text

    stored = KeyringFiles(session.files).stored()
    here, theirs = newest_whole(stored), newest_whole(wanted)
    if here is None or (theirs is None and (wanted or public is None)):
        return False
    start = theirs or of_key(public_key_from_text(str(public)))
    return start.number < here.number and _leads(start, stored, here)


def put_back(session: Session, planned: Planned) -> None:
    """Write the keyrings that are lacking.

    Raises: ConfigDaemonError when they cannot be written; running it again ends what is left.
    """
    from config_daemon.store.keyrings import KeyringFiles

    if not planned.lacking or planned.newest is None:
        return
    files = session.files
    rings = KeyringFiles(files)
    with keys_lock(session):
        try:
            for one in planned.lacking:
                rings.keep(one)
            rings.put(planned.newest)
        except OSError as error:
            raise ConfigDaemonError(
                f"{files.keyring} cannot be written: {error.strerror}",
                suggestion="Make room, or make the folder writable, then run the command again.",
            ) from error
        give_to_owner([files.keyrings, *files.keyrings.glob("*.json"), files.keyring], files.folder)


def _leads(start: Keyring, stored: Sequence[bytes], end: Keyring) -> bool:
    from config_daemon.core.keyring import walk

    return any(one.raw == end.raw for one in (start, *walk(start, stored)))


def _is_newest(rings: KeyringFiles, keyring: Keyring) -> bool:
    try:
        return rings.newest() == keyring.raw
    except KeyUnavailable:
        return False


def _reads(raw: bytes) -> Keyring | None:
    from config_daemon.wire.keyring import kept_keyring

    try:
        return kept_keyring(raw)
    except RejectedUpdate:
        return None
