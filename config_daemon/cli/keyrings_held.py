"""Which keyring a folder holds, and whose key a new worker is given.

Laws: the newest is the last one that can be reached, also where a killed run left it out of `keyring.json`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from config_daemon.errors import KeyUnavailable, RejectedUpdate

if TYPE_CHECKING:
    from nacl.signing import VerifyKey

    from config_daemon.store.keyfiles import KeyFiles
    from config_daemon.store.keyrings import KeyringFiles
    from config_daemon.wire.keyring import Keyring


def held_keyring(rings: KeyringFiles, keys: KeyFiles) -> Keyring:
    """Return the newest keyring of a folder, number 0 of the public key where there is none.

    Raises: KeyUnavailable.
    """
    from config_daemon.core.keyring import walk

    stored = rings.stored()
    start = rings.installed() or newest_whole(stored) or first_keyring(keys)
    path = walk(start, stored)
    return path[-1] if path else start


def first_keyring(keys: KeyFiles) -> Keyring:
    """Return keyring number 0: the public half of the signing key, and nothing else.

    Raises: KeyUnavailable.
    """
    from config_daemon.store.keyfiles import PRIVATE_KEY, PUBLIC_KEY
    from config_daemon.wire.keyring import of_key

    if keys.source(PUBLIC_KEY) is None and keys.source(PRIVATE_KEY) is not None:
        return of_key(keys.signer().verify_key)
    return of_key(keys.public_key())


def signer_of(keyring: Keyring) -> str:
    """Return the id of the root that signed a keyring; for number 0 its only key."""
    from config_daemon.wire.keyring import read_keyring

    for one in keyring.keys:
        if not keyring.raw:
            return one.key_id
        with contextlib.suppress(RejectedUpdate):
            if one.key_id in keyring.root_ids and read_keyring(keyring.raw, [one.key]):
                return one.key_id
    raise KeyUnavailable(
        f"no root that keyring {keyring.number} lists signed it",
        suggestion="Look at `config-daemon keys list`.",
    )


def anchor(rings: KeyringFiles, keys: KeyFiles) -> VerifyKey:
    """Return the public key that a new worker is to trust: of the root that signed the newest keyring.

    Raises: KeyUnavailable.
    """
    held = held_keyring(rings, keys)
    signer = signer_of(held)
    return next(one.key for one in held.keys if one.key_id == signer)


def newest_whole(stored: Sequence[bytes]) -> Keyring | None:
    """Return the last of some keyrings, by number, that a root which it lists signed."""
    from config_daemon.wire.keyring import installed_keyring

    for raw in reversed(stored):
        with contextlib.suppress(RejectedUpdate):
            return installed_keyring(raw)
    return None
