"""Which keyring a daemon starts with: the one that marks.json names, and what leads on from there.

Laws: an older one never stands for the one that marks name; where that is nowhere, this is told and not
replaced; without marks the newest in the folder counts, as an anchor that a person installed.

Source: docs/adr/0012-keyrings-on-disk.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from config_daemon.core.keyring import walk
from config_daemon.errors import RejectedUpdate
from config_daemon.store.keyrings import KeyringFiles
from config_daemon.wire.keyring import Keyring, installed_keyring, kept_keyring, of_key


class Held(NamedTuple):
    """What a daemon starts with: its keyring, and what marks.json names where that is not to be had."""

    keyring: Keyring
    missing: tuple[int, str] | None


def resume(known: tuple[int, str] | None, own: Keyring, rings: KeyringFiles, generation: int = 1) -> Held:
    """Return the keyring to start with: the one that marks.json names, or what leads on from there.

    `own` is number 0 of the signing key; it stands, in the `generation` of marks, for one that is missing.
    Without marks the newest one in the folder counts.

    Raises: KeyUnavailable when that one is none.
    """
    stored = rings.stored()
    if known is None:
        start: Keyring | None = rings.installed() or own
    else:
        start = next((one for one in _starts(own, stored) if (one.number, one.sha256) == known), None)
    if start is None:
        return Held(replace(own, generation=generation), known)
    path = walk(start, stored)
    return Held(path[-1] if path else start, None)


def whole(raw: bytes) -> Keyring | None:
    """Return the keyring that these bytes are, None unless a root that it lists signed it.

    A digest says nothing of the signature, and whoever gets the keyring must be able to check that.
    """
    try:
        return installed_keyring(raw)
    except RejectedUpdate:
        return None


def _kept(raw: bytes) -> Keyring | None:
    try:
        return kept_keyring(raw)
    except RejectedUpdate:
        return None


def _starts(own: Keyring, stored: Sequence[bytes]) -> Iterator[Keyring]:
    """Yield every keyring that marks.json may name by its digest: stored ones, and number 0 of what they list."""
    yield own
    for found in filter(None, map(_kept, stored)):
        yield found
        yield from (of_key(one.key) for one in found.keys)
