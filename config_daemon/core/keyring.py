"""Which key signs now, what a keyring means that somebody shows, and how the next one is made. Pure.

Laws: the daemon signs only with a key that its keyring lists; a keyring that is shown is believed only when
a root of the one held signed it; nothing revoked in any of two keyrings survives their merging; every
keyring is signed by a root that it lists itself, so that the signer of the newest is an anchor for a new worker.

Source: docs/protocol.md "Keys and keyrings".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from config_daemon.errors import RejectedUpdate, UsageError
from config_daemon.wire.keyring import (
    CONFIG,
    MAX_CONFIG_KEYS,
    MAX_KEYS,
    Keyring,
    KeyringBody,
    ListedKey,
    Revocation,
    follow,
    read_keyring,
)
from config_daemon.wire.keys import key_id
from config_daemon.wire.values import MAX_INTEGER

Meaning = Literal["ours", "take", "older", "merge", "foreign"]
_KNOWN = ("fork", "rollback", "unrevoked")  # a root of ours signed it, and it does not follow


class Shown(NamedTuple):
    """What a keyring means that somebody shows; `keyring` is None for what no root of ours signed."""

    meaning: Meaning
    keyring: Keyring | None


def meet(held: Keyring, raw: bytes) -> Shown:
    """Judge a keyring from the broker or a worker against the one held."""
    try:
        shown = follow(held, raw)
    except RejectedUpdate as rejection:
        if rejection.reason not in _KNOWN:
            return Shown("foreign", None)
        shown = read_keyring(raw, held.roots)
        is_older = shown.sha256 == held.sha256 or _covers(held, shown)  # the same, if another root signed it
        return Shown("older" if is_older else "merge", shown)
    return Shown("ours" if shown is held else "take", shown)


def walk(held: Keyring, stored: Iterable[bytes]) -> list[Keyring]:
    """Return the keyrings that lead on from the one held, in the order in which each is taken."""
    path: list[Keyring] = []
    left = list(stored)
    while True:
        known = path[-1] if path else held
        nearest = min((one for raw in left if (one := _next(known, raw))), key=_number, default=None)
        if nearest is None:
            return path
        path.append(nearest)


def root_changes(path: Sequence[Keyring]) -> list[Keyring]:
    """Return those of consecutive keyrings whose roots are not those of the one before; the first always."""
    before = [None, *path]
    return [one for last, one in zip(before, path, strict=False) if not last or last.root_ids != one.root_ids]


def signing_key(keyring: Keyring, available: Sequence[str], chosen: str | None) -> str | None:
    """Return the id of the key to sign with: the chosen one if it may, else the first that may."""
    usable = [one for one in available if one in keyring.config_ids]
    return chosen if chosen in usable else next(iter(usable), None)


def grace_ends_ms(keyring: Keyring, grace_seconds: float) -> int:
    """Return when a key that this keyring brought may be used, in Unix milliseconds."""
    try:
        issued = datetime.fromisoformat(keyring.issued_at).timestamp()
    except ValueError:  # a day that no calendar has, by whoever holds a root
        issued = 0.0
    return round(1000 * (issued + grace_seconds))


def adding(held: Keyring, keys: Iterable[tuple[bytes, Iterable[str]]], at: str) -> KeyringBody:
    """Return the keyring after the one held, with more keys: public bytes and roles."""
    listed = [
        ListedKey(key_id=key_id(public), public_key=public.hex(), roles=sorted(roles))
        for public, roles in keys
    ]
    return _checked(_next_body(held, at, [*held.body.keys, *listed], held.body.revoked))


def removing(held: Keyring, gone: str, at: str) -> KeyringBody:
    """Return the keyring after the one held, without a key."""
    return _checked(_next_body(held, at, _without(held, {gone}), held.body.revoked))


def keeping_roots(held: Keyring, roots: Iterable[str], at: str) -> KeyringBody:
    """Return the keyring after the one held, in which no other keys than these are roots."""
    chosen = frozenset(roots)
    listed = [
        one if one.key_id in chosen else one.model_copy(update={"roles": [CONFIG]})
        for one in held.body.keys
        if one.key_id in chosen or CONFIG in one.roles
    ]
    return _checked(_next_body(held, at, listed, held.body.revoked))


def revoking(held: Keyring, gone: str, reason: str, at: str) -> KeyringBody:
    """Return the keyring after the one held that revokes a key: of the next generation."""
    revoked = [*held.body.revoked, Revocation(key_id=gone, at=at, reason=reason)]
    body = _next_body(held, at, _without(held, {gone}), revoked)
    return _checked(body.model_copy(update={"generation": held.generation + 1}))


def merging(one: Keyring, other: Keyring, at: str) -> KeyringBody:
    """Return the keyring above two that know nothing of each other: what either revoked is revoked.

    Raises: UsageError when too many keys, or none that signs, would be left.
    """
    low, high = sorted((one, other), key=_number)
    revoked = {**low.revoked, **high.revoked}
    listed = {each.key_id: each for ring in (low, high) for each in ring.body.keys}
    if high.number >= MAX_INTEGER:
        raise UsageError(
            f"above keyring {high.number} there is none",
            suggestion="Whoever issued it has a root key: workers need a new anchor.",
        )
    body = KeyringBody(
        version=1, number=high.number + 1, generation=max(low.generation, high.generation), issued_at=at,
        keys=[each for name, each in listed.items() if name not in revoked], revoked=list(revoked.values()),
    )  # fmt: skip
    return _checked(body)


def _next_body(
    held: Keyring, at: str, keys: Sequence[ListedKey], revoked: Sequence[Revocation]
) -> KeyringBody:
    return KeyringBody(
        version=1, number=held.number + 1, generation=held.generation, issued_at=at, keys=list(keys),
        revoked=list(revoked),
    )  # fmt: skip


def _checked(body: KeyringBody) -> KeyringBody:
    signing = [one for one in body.keys if CONFIG in one.roles]
    if not signing:
        raise UsageError(
            "no key would be left to sign configs with",
            suggestion="Run `config-daemon keys rotate` first, so that another key can sign.",
        )
    if len(signing) > MAX_CONFIG_KEYS or len(body.keys) > MAX_KEYS:
        raise UsageError(
            f"a keyring lists at most {MAX_CONFIG_KEYS} keys that sign configs, and {MAX_KEYS} in all",
            suggestion="Retire or revoke a key first: `config-daemon keys list` shows them.",
        )
    return body


def _without(held: Keyring, gone: set[str]) -> list[ListedKey]:
    return [one for one in held.body.keys if one.key_id not in gone]


def _covers(held: Keyring, shown: Keyring) -> bool:
    """Tell whether whoever holds the one shown would take ours, as far as numbers and revocations go."""
    return (
        held.number > shown.number
        and held.generation >= shown.generation
        and held.revoked.keys() >= shown.revoked.keys()
    )


def _next(held: Keyring, raw: bytes) -> Keyring | None:
    try:
        found = follow(held, raw)
    except RejectedUpdate:
        return None
    return None if found is held else found


def _number(keyring: Keyring) -> int:
    return keyring.number
