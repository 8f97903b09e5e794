"""`keys split-root` and `keys merge`: who may change the keyring, and what to do when two of them came to be."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config_daemon.cli.arguments import yes_option
from config_daemon.cli.keys_rotate import root_key_option
from config_daemon.cli.session import Session, standard
from config_daemon.errors import ConfigDaemonError, KeyUnavailable, RejectedUpdate, UsageError

if TYPE_CHECKING:
    from config_daemon.cli.keys_desk import Desk
    from config_daemon.store.keyfiles import Signer
    from config_daemon.wire.keyring import Keyring


@click.command("split-root", short_help="Keep the root apart: two new root keys for two safes.")
@click.argument("file1")
@click.argument("file2")
@root_key_option
@yes_option
@standard
@click.pass_obj
def split_root(session: Session, file1: str, file2: str, root_key: str | None, yes: bool) -> None:
    """Make two root keys, in new files, and have no other key be a root; either of them signs keyrings.

    The daemon's key goes on signing configs, and cannot change the keyring any more. Safe to repeat with the
    same files, until both are gone from this machine. A file that is there already and holds a key that is no root yet
    is asked about.

    \b
    config-daemon keys split-root /media/a/root-1.pem /media/b/root-2.pem
    """
    from config_daemon.cli.keys_desk import at_desk

    paths = [Path(file1).absolute(), Path(file2).absolute()]
    if paths[0].resolve() == paths[1].resolve():
        raise UsageError("both keys would be in one file", suggestion="Name two files, for two places.")
    with at_desk(session) as desk:
        _split(desk, paths, root_key, yes)


def _split(desk: Desk, paths: list[Path], root_key: str | None, yes: bool) -> None:
    from config_daemon.core.keyring import adding, keeping_roots

    if not all(path.exists() for path in paths):
        desk.root(root_key)  # before a key is made in vain
    _ask_about_found(desk, paths, yes)
    keys = _made(desk, paths)
    ids = [key.key_id for key in keys]
    done = desk.held.root_ids == set(ids)
    new = [(bytes(key.verify_key), ("root",)) for key in keys if key.key_id not in desk.held.root_ids]
    if new:
        desk.issue(adding(desk.held, new, desk.now), desk.root(root_key))
    if not done:
        desk.issue(keeping_roots(desk.held, ids, desk.now), keys[0])
    facts = {
        "roots": [{"key_id": one, "file": str(path)} for one, path in zip(ids, paths, strict=True)],
        "changed": not done, "keyring": desk.told(),
    }  # fmt: skip
    word = "were the only roots already" if done else "are the only roots"
    places = [f"{one} ({path})" for one, path in zip(ids, paths, strict=True)]
    desk.session.show(facts, lambda: f"{places[0]} and {places[1]} {word}: keyring {desk.held.number}")
    desk.session.say(
        f"now move {paths[0]} and {paths[1]} to two places that are not on this machine, and not the same one:\n"
        "whoever has one of them can replace every key; once both are lost, no key can be replaced or revoked any more"
    )
    desk.session.say("a new worker is given the key that `config-daemon keys public` prints now")


def _ask_about_found(desk: Desk, paths: list[Path], yes: bool) -> None:
    """Have a person agree to each key that is in a file already and is no root yet.

    Raises: Declined; UsageError where nobody can be asked, or when a key cannot be a root; KeyUnavailable.
    """
    from config_daemon.store.privatekeys import key_in

    there = [path for path in paths if os.path.lexists(path)]
    ids = [key_in(path).key_id for path in there]
    _refuse_unfit(desk, there, ids)
    for path, one in zip(there, ids, strict=True):
        if one not in desk.held.root_ids:
            what = f"{path} is there already, with the key {one}, which is no root yet"
            if not yes and desk.session.as_json:
                raise UsageError(
                    f"{what}; nothing was changed",
                    suggestion="Name a new file, or add --yes to make it a root.",
                )
            desk.session.confirm(
                f"{what} (a run of this command that was killed may have made it). Make it a root?", yes
            )


def _made(desk: Desk, paths: list[Path]) -> list[Signer]:
    """Return the keys of two files, each made where it is not there; when one cannot be had, none is left behind.

    Raises: KeyUnavailable, UsageError.
    """
    from config_daemon import failpoints
    from config_daemon.store.privatekeys import made_or_found

    lacking = [path for path in paths if not os.path.lexists(path)]
    keys: list[Signer] = []
    try:
        for path in paths:
            keys.append(made_or_found(path))
            failpoints.reached("after_keys_env")
        _refuse_unfit(desk, paths, [key.key_id for key in keys])
    except ConfigDaemonError:
        for path in (path for path in paths[: len(keys)] if path in lacking):
            with contextlib.suppress(OSError):
                path.unlink()  # no keyring lists it
        left = [str(path) for path in lacking if os.path.lexists(path)]
        if left:
            desk.session.say(f"{' and '.join(left)} was left behind, with a key that is no root: delete it")
        raise
    return keys


def _refuse_unfit(desk: Desk, paths: list[Path], ids: list[str]) -> None:
    """Refuse files that hold one key twice, a revoked one, or one that the daemon has."""
    if len(set(ids)) < len(ids):
        raise UsageError(f"{paths[0]} and {paths[1]} hold the same key", suggestion="Name two new files.")
    for path, one in zip(paths, ids, strict=True):
        if one in desk.held.revoked or one in desk.held.config_ids:
            what = "was revoked" if one in desk.held.revoked else "signs configs, so it cannot be kept apart"
            raise UsageError(f"{path} holds the key {one}, which {what}", suggestion="Name a new file.")


@click.command(short_help="Make one keyring of two that know nothing of each other.")
@root_key_option
@standard
@click.pass_obj
def merge(session: Session, root_key: str | None) -> None:
    """Issue the keyring above two that a root signed without knowing of the other (`keyring-unmerged`).

    What either of them revoked stays revoked; the root that signs is one of both.

    \b
    config-daemon keys merge
    config-daemon keys merge --root-key /media/a/root-1.pem
    """
    from config_daemon.cli.keys_desk import at_desk

    with at_desk(session) as desk:
        raw = desk.rings.unmerged()
        other = _unmerged(desk, raw) if raw is not None else None
        if other is None:
            desk.rings.set_unmerged(None)
            facts = {"merged": None, "keyring": desk.told()}
            session.show(
                facts, lambda: f"there is nothing to merge: keyring {desk.held.number} is the newest"
            )
            return
        _merge(desk, other, root_key)


def _merge(desk: Desk, other: Keyring, root_key: str | None) -> None:
    from config_daemon.core.keyring import merging

    body = merging(desk.held, other, desk.now)
    root = desk.root(root_key, without=[one.key_id for one in body.revoked], other=other)
    desk.issue(body, root)
    desk.rings.set_unmerged(None)
    facts = {"merged": other.number, "keyring": desk.told()}
    desk.session.show(facts, lambda: f"keyring {desk.held.number} is above both")
    if desk.active not in desk.held.config_ids:
        desk.session.say(
            f"it does not list the signing key {desk.active} that is here:"
            " run `config-daemon keys rotate` with a root key"
        )


def _is_covered(desk: Desk, raw: bytes) -> bool:
    """Tell whether a keyring lies on the way to the one held, whose roots may be others by now."""
    from config_daemon.core.keyring import meet, walk
    from config_daemon.wire.keyring import kept_keyring

    stored = desk.rings.stored()
    for kept in map(kept_keyring, stored):
        if meet(kept, raw).meaning in ("ours", "older") and desk.held.raw in (
            kept.raw, *(one.raw for one in walk(kept, stored)),
        ):  # fmt: skip
            return True
    return False


def _unmerged(desk: Desk, raw: bytes) -> Keyring | None:
    """Return the keyring that waits to be merged, None when the one held covers it by now.

    Raises: KeyUnavailable when no root of the one held signed it.
    """
    from config_daemon.core.keyring import meet
    from config_daemon.wire.keyring import kept_keyring

    shown = meet(desk.held, raw)
    if shown.meaning == "merge":
        return shown.keyring
    if shown.meaning != "foreign" or _is_covered(desk, raw):
        return None
    try:
        number = str(kept_keyring(raw).number)
    except RejectedUpdate:
        number = "?"
    raise KeyUnavailable(
        f"no root of keyring {desk.held.number} signed the other one (number {number})",
        suggestion="Find out who issued it. Workers that hold it need a new anchor: see docs/keys.md, Lost root.",
    )
