"""`keys list` and `keys public`: what may be told of the keys and of the keyring."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from config_daemon.cli.keys_backup import warn_unless_backed_up
from config_daemon.cli.session import Session, standard
from config_daemon.cli.tables import table
from config_daemon.errors import CacheError, ConfigDaemonError, KeyUnavailable, NotFound

if TYPE_CHECKING:
    from collections.abc import Collection

    from config_daemon.store.keyfiles import Source
    from config_daemon.store.keylist import HeldKey
    from config_daemon.wire.keyring import Keyring


@click.command(short_help="Print the public key for a new worker.")
@click.option("--hex", "as_hex", is_flag=True, help="As 64 hex digits instead of PEM.")
@click.option("--keyring", is_flag=True, help="Print the newest keyring instead, for CONFIG_KEYRING_FILE.")
@standard
@click.pass_obj
def public(session: Session, as_hex: bool, keyring: bool) -> None:
    """Print the public key that a new worker is to trust: of the root that signed the newest keyring.

    \b
    config-daemon keys public > /etc/config-daemon/public.pem
    CONFIG_SIGNATURE_PUBLIC_KEY=$(config-daemon keys public --hex)
    config-daemon keys public --keyring > /etc/config-daemon/keyring.json
    """
    from config_daemon.cli.keyrings_held import anchor, held_keyring
    from config_daemon.store.keyrings import KeyringFiles
    from config_daemon.wire.keys import key_id, public_key_pem

    session.need_folder()
    rings = KeyringFiles(session.files)
    if keyring:
        held = held_keyring(rings, session.ground.keys)
        if not held.raw:
            raise NotFound(
                "there is no keyring yet: one public key is all that workers need",
                suggestion="Run `config-daemon keys public` without --keyring.",
            )
        text = held.raw.decode()
        session.show({"number": held.number, "generation": held.generation, "keyring": text}, lambda: text)
        return
    key = anchor(rings, session.ground.keys)
    pem, digits = public_key_pem(key), bytes(key).hex()
    facts = {"key_id": key_id(bytes(key)), "pem": pem, "hex": digits}
    session.show(facts, lambda: digits if as_hex else pem.removesuffix("\n"))


class _Seen(NamedTuple):
    """The keyring, which of its keys signs, and which waits until when; None where that is not known."""

    held: Keyring
    signs: str | None
    staged: str | None
    activates_at: str | None
    old: tuple[str, ...] = ()


def open_rotation(session: Session) -> dict[str, Any] | None:
    """Return where a rotation of the signing key stands, None while there is none, or none that can be seen."""
    if not session.files.keyring.exists():
        return None
    try:
        seen = _seen(session)
    except ConfigDaemonError:
        return None  # told by what needs the keys
    return _rotation(session, seen) if seen else None


def _rotation(session: Session, seen: _Seen) -> dict[str, Any] | None:
    from config_daemon.store.keyrecord import is_backed_up

    if seen.staged is not None:
        kept = is_backed_up(session.ground.files, seen.staged)
        return {
            "state": "staged", "key_id": seen.staged, "backed_up": kept, "activates_at": seen.activates_at, "old": [],
        }  # fmt: skip
    if seen.old:
        kept = is_backed_up(session.ground.files, str(seen.signs))
        return {
            "state": "activated", "key_id": seen.signs, "backed_up": kept, "activates_at": None, "old": list(seen.old),
        }  # fmt: skip
    return None


def told_rotation(rotation: dict[str, Any]) -> str:
    """Return what a person is told of an open rotation."""
    key = rotation["key_id"]
    if rotation["state"] == "activated":
        return (
            f"a rotation is open: key {key} signs, and {', '.join(rotation['old'])} is old;"
            " `config-daemon keys rotate --retire` takes it out"
        )
    if not rotation["backed_up"]:
        return (
            f"a rotation is open: key {key} is staged, and waits for a backup: `config-daemon keys backup FILE`;"
            f" then it signs from {rotation['activates_at']} on"
        )
    return f"a rotation is open: key {key} is staged, and signs from {rotation['activates_at']} on, while a daemon runs"


@click.command("list", short_help="List the keys and the keyring.")
@standard
@click.pass_obj
def list_(session: Session) -> None:
    """List the keys: what each is for, its id, where it comes from, when it was backed up; and the keyring."""
    from config_daemon.store.keylist import encryption_metadata, held
    from config_daemon.store.keyrecord import backed_up

    session.need_folder()
    found = backed_up(session.ground.files, held(session.ground.keys))
    if not any(key.key_id for key in found):
        raise KeyUnavailable(f"no key can be had in {session.folder}")
    seen = _seen(session)
    facts = encryption_metadata(tuple(found), seen.activates_at if seen else None) | {
        "keys": [
            {"purpose": key.purpose, "key_id": key.key_id, "source": _facts(key.source), "backed_up": at}
            for key, at in found.items()
        ],
        "keyring": _keyring_facts(seen, found) if seen else None,
    }
    rows = [
        (key.purpose, key.key_id or "unknown", str(key.source or "not to be had here"), at or "never")
        for key, at in found.items()
    ]
    page = [table(("key", "id", "from", "backed up"), rows), *(_page(seen, found) if seen else [])]
    rotation = _rotation(session, seen) if seen else None
    if rotation:
        page += ["", told_rotation(rotation)]
    session.show(facts, lambda: "\n".join(page))
    warn_unless_backed_up(session)


def _seen(session: Session) -> _Seen | None:
    """Return what is known of the keyring; None while there is only one public key, or not even that."""
    from config_daemon.cli.keyrings_held import first_keyring, held_keyring
    from config_daemon.core.keyring import grace_ends_ms
    from config_daemon.store.keyrings import KeyringFiles
    from config_daemon.store.marks import load
    from config_daemon.wire.messages import timestamp

    ground = session.ground
    try:
        mine = first_keyring(ground.keys).keys[0].key_id
        held = held_keyring(KeyringFiles(ground.files), ground.keys)
    except KeyUnavailable:
        if KeyringFiles(ground.files).newest() is None:
            return None
        raise
    signs = None
    with contextlib.suppress(CacheError, KeyUnavailable):  # not this user's to read, or told by who needs it
        known = load(ground.files.marks, ground.keys.hmac_keys())
        signs = known.key if known else None
    listed = [one.key_id for one in held.keys if one.key_id in held.config_ids]
    after = listed[listed.index(mine) + 1 :] if mine in listed else []
    staged = after[-1] if after and after[-1] != signs else None
    at = timestamp(grace_ends_ms(held, ground.settings.key_grace_seconds)) if staged else None
    old = tuple(listed[: listed.index(signs)]) if signs in listed else ()
    return _Seen(held, signs, staged, at, old) if held.raw else None


def _keyring_facts(seen: _Seen, here: Collection[HeldKey]) -> dict[str, Any]:
    ids, ring = {key.key_id for key in here}, seen.held
    return {
        "number": ring.number, "generation": ring.generation, "issued_at": ring.issued_at, "sha256": ring.sha256,
        "signs": seen.signs, "staged": seen.staged, "activates_at": seen.activates_at,
        "keys": [
            {"key_id": one.key_id, "roles": sorted(one.roles), "here": one.key_id in ids} for one in ring.keys
        ],
        "revoked": [entry.model_dump() for entry in ring.revoked.values()],
    }  # fmt: skip


def _page(seen: _Seen, here: Collection[HeldKey]) -> list[str]:
    ids, ring = {key.key_id for key in here}, seen.held
    rows = [
        (one.key_id, ", ".join(sorted(one.roles)), _state(seen, one.key_id, one.key_id in ids))
        for one in ring.keys
    ]
    lines = ["", f"keyring {ring.number}, generation {ring.generation}, issued {ring.issued_at}"]
    lines.append(table(("listed key", "roles", "state"), rows))
    if ring.revoked:
        gone = [(one.key_id, one.at, one.reason) for one in ring.revoked.values()]
        lines += ["", table(("revoked key", "at", "reason"), gone)]
    return lines


def _state(seen: _Seen, key: str, here: bool) -> str:
    if key == seen.signs:
        return "signs"
    if key == seen.staged:
        return f"staged; signs from {seen.activates_at} on, once it is in a backup"
    if key in seen.old:
        return "old; signs no more"
    return "here" if here else "kept elsewhere"


def _facts(source: Source | None) -> dict[str, Any] | None:
    return {"kind": source.kind, "path": str(source.path), "line": source.line} if source else None
