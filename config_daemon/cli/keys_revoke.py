"""`keys revoke`: a key is never believed again, and another one signs in its place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from config_daemon.cli.arguments import yes_option
from config_daemon.cli.keys_backup import warn_unless_backed_up
from config_daemon.cli.keys_rotate import root_key_option
from config_daemon.cli.printing import quoted
from config_daemon.cli.session import Session, standard
from config_daemon.errors import NotFound, UsageError

if TYPE_CHECKING:
    from config_daemon.cli.keys_desk import Desk

_PREFIX = re.compile("[0-9a-f]{8,32}")
_HOLD = "not-the-newest"


@click.command(short_help="Have a key never be believed again.")
@click.argument("key_id", metavar="KEY_ID")
@click.option("--reason", metavar="TEXT", required=True, help="Why; everybody can read it in the keyring.")
@root_key_option
@yes_option
@standard
@click.pass_obj
def revoke(session: Session, key_id: str, reason: str, root_key: str | None, yes: bool) -> None:
    """Revoke a key: a keyring of the next generation names it, and workers refuse whatever it signed.

    KEY_ID is an id of `keys list`, or its first 8 digits or more. When it is the key that signs, the staged key takes
    over at once, or a new one that is made here. Safe to repeat: what a killed run left is completed.

    \b
    config-daemon keys revoke 65483058 --reason "the laptop was stolen"
    config-daemon keys revoke 65483058 --reason lost --root-key /media/a/1.pem
    """
    from config_daemon.cli.keys_desk import at_desk

    why = _reason(reason)
    with at_desk(session) as desk:
        gone = _found(desk, key_id)
        known = desk.held.revoked.get(gone)
        if known is None:
            _revoke(desk, gone, why, root_key, yes)
        changed = _complete(desk)
        _tell(desk, gone, already=known is not None, changed=changed)


def _revoke(desk: Desk, gone: str, reason: str, root_key: str | None, yes: bool) -> None:
    from config_daemon.core.keyring import revoking

    roles = {one.key_id: one.roles for one in desk.held.keys}.get(gone, frozenset())
    successor = _needs_successor(desk, gone)
    sole = successor and "root" in roles  # the new key is a root too, and signs then
    if not sole:
        _refuse_without_another_root(desk, gone, root_key)
    root = desk.root(root_key, without=() if sole else (gone,))
    what = f"Key {gone} ({', '.join(sorted(roles)) or 'not listed'}) will never be believed again. Revoke it?"
    desk.session.confirm(what, yes)
    if successor:
        from config_daemon.cli.keys_stage import add_key

        add_key(desk, root, roles or frozenset({"config"}), None)
    root = desk.root(root_key, without=(gone,))
    desk.issue(revoking(desk.held, gone, reason, desk.now), root)


def _refuse_without_another_root(desk: Desk, gone: str, root_key: str | None) -> None:
    """Refuse to revoke the last root, or a root by itself.

    Raises: UsageError; KeyUnavailable.
    """
    from config_daemon.cli.keys_desk import named_key

    if gone not in desk.held.root_ids:
        return
    others = desk.held.root_ids - {gone}
    if not others:
        raise UsageError(
            f"{gone} is the only root, and without one the keyring could never be changed again",
            suggestion="Make new ones first: `config-daemon keys split-root FILE1 FILE2 --root-key FILE`, where the"
            " last is the file of this one.",
        )
    if root_key is not None and named_key(root_key).key_id == gone:
        raise UsageError(
            f"{root_key} holds the key {gone} itself, and no root revokes itself",
            suggestion=f"Name the other root's file with --root-key: of {', '.join(sorted(others))}.",
        )


def _needs_successor(desk: Desk, gone: str) -> bool:
    """Tell whether a fresh key must be listed before this one goes.

    Raises: UsageError where it would have to be made and cannot be.
    """
    coming = desk.coming
    if gone != desk.active or (coming and coming.key_id in desk.held.config_ids):
        return False
    if desk.in_env or coming:
        return True
    if desk.held.config_ids - {gone}:
        return False  # somebody has it, as a credential for instance
    raise UsageError(
        f"{gone} is the only key that signs, and it is not in .env, where another one could be put",
        suggestion="Run `config-daemon keys rotate --new-key-file FILE` first, and install that key.",
    )


def _complete(desk: Desk) -> bool:
    """Take revoked keys out of `.env`; tell whether there was one."""
    from config_daemon.cli.keys_retire import elsewhere, take_over
    from config_daemon.store.keyfiles import NEXT_PRIVATE_KEY

    coming, revoked = desk.coming, desk.held.revoked
    if desk.active in revoked and coming and coming.key_id in desk.held.config_ids:
        if not desk.in_env:
            desk.session.say(elsewhere(desk, coming, "`config-daemon keys list` to look at it").suggestion)
            return False
        take_over(desk, coming)
        return True
    if coming and coming.key_id in revoked:
        if not desk.in_env:
            desk.session.say(f"remove {desk.keys.source(NEXT_PRIVATE_KEY)}, and restart the daemon")
            return False
        desk.edit_env({NEXT_PRIVATE_KEY: None})
        return True
    return False


def _tell(desk: Desk, gone: str, *, already: bool, changed: bool) -> None:
    session, entry = desk.session, desk.held.revoked[gone]
    usable = desk.active in desk.held.config_ids
    facts = {
        "key_id": gone, "at": entry.at, "reason": entry.reason, "revoked_now": not already,
        "completed": already and changed, "signing_key_id": desk.active if usable else None, "keyring": desk.told(),
    }  # fmt: skip
    word = f"was revoked already, at {entry.at} ({quoted(entry.reason)})" if already else "is revoked"
    session.show(
        facts, lambda: f"key {gone} {word}: keyring {desk.held.number}, generation {desk.held.generation}"
    )
    if usable and (changed or not already):
        when = "as soon as the hold ends" if desk.held_by() else "at once"
        session.say(f"key {desk.active} signs; a running daemon goes on with it {when}")
    elif not usable and desk.coming is None:
        session.say(
            f"keyring {desk.held.number} does not list the signing key {desk.active} that is here: put the right one in"
            " place, or run `config-daemon keys rotate` with a root key"
        )
    if _HOLD in desk.held_by():
        session.say(
            f"the daemon holds ({_HOLD}): whoever had the key may have published with it, and goes on to mislead"
            " workers until the hold ends; see that the database is right (`config-daemon audit verify`), then run"
            " `config-daemon adopt --db`"
        )
    if not desk.issued:
        desk.warn_of_hold()
    warn_unless_backed_up(session)


def _found(desk: Desk, prefix: str) -> str:
    """Return the id of the key that was meant.

    Raises: UsageError for what can be no id or several; NotFound.
    """
    text = prefix.lower()
    if not _PREFIX.fullmatch(text):
        raise UsageError(
            f"{quoted(prefix)} is no key id",
            suggestion="Give an id of `keys list`, or its first 8 hex digits or more.",
        )
    coming = desk.coming
    here = {one.key_id for one in desk.held.keys} | desk.held.revoked.keys() | {desk.active}
    found = sorted(one for one in here | ({coming.key_id} if coming else set()) if one.startswith(text))
    if not found:
        raise NotFound(
            f"no key {prefix} is known here", suggestion="Run `config-daemon keys list` to see the keys."
        )
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} keys begin with {prefix}: {', '.join(found)}", suggestion="Give more digits."
        )
    return found[0]


def _reason(text: str) -> str:
    from config_daemon.wire.keyring import REASON_CHARACTERS

    mend = f"Say in 1 to {REASON_CHARACTERS} characters why."
    if not text.strip() or len(text) > REASON_CHARACTERS:
        raise UsageError(f"the reason has {len(text)} characters", suggestion=mend)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the reason is no text in UTF-8", suggestion=mend) from error
    return text
