"""The last step of a rotation: the new key is the only one, in `.env` and in the keyring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config_daemon.cli.keys_backup import warn_unless_backed_up
from config_daemon.cli.keys_desk import Desk, NotYet

if TYPE_CHECKING:
    from config_daemon.store.keyfiles import Signer


def retire(desk: Desk, root_key: str | None) -> None:
    """Take the old key out of `.env` and out of the keyring.

    Raises: NotYet while the daemon does not sign with the new key, or where `.env` has not the keys.
    """
    from config_daemon.core.keyring import removing

    coming = desk.coming
    new = coming.key_id if coming and coming.key_id in desk.held.config_ids else desk.active
    old = desk.before(new)
    if not old and new == desk.active:
        _nothing(desk, new)
        return
    _refuse_unused(desk, new)
    root = desk.root(root_key, without=old)
    if new != desk.active:
        assert coming is not None
        if not desk.in_env:
            raise elsewhere(desk, coming, "`config-daemon keys rotate --retire` again")
        take_over(desk, coming)
    for one in old:
        desk.issue(removing(desk.held, one, desk.now), root)
    facts = {"key_id": new, "retired": old, "keyring": desk.told()}
    desk.session.show(facts, lambda: f"keyring {desk.held.number} lists key {new} without {', '.join(old)}")
    if root_key is None and new in desk.held.root_ids:
        desk.session.say("a new worker is given the key that `config-daemon keys public` prints now")
    warn_unless_backed_up(desk.session)


def take_over(desk: Desk, coming: Signer) -> None:
    """Make the next key in `.env` the signing key, and forget the one before."""
    from config_daemon.store.keyfiles import NEXT_PRIVATE_KEY, PRIVATE_KEY, PUBLIC_KEY
    from config_daemon.wire.keys import public_key_pem, signing_key_pem

    desk.edit_env(
        {
            PRIVATE_KEY: signing_key_pem(coming.key),
            PUBLIC_KEY: public_key_pem(coming.verify_key),
            NEXT_PRIVATE_KEY: None,
        }
    )


def elsewhere(desk: Desk, coming: Signer, then: str) -> NotYet:
    """Return the error that tells how the signing key is replaced where `.env` does not have it."""
    from config_daemon.store.keyfiles import NEXT_PRIVATE_KEY, PRIVATE_KEY

    present, following = desk.keys.source(PRIVATE_KEY), desk.keys.source(NEXT_PRIVATE_KEY)
    public = bytes(coming.verify_key).hex()
    return NotYet(
        f"the signing key is not in .env ({present}), and still the old one",
        suggestion=(
            f"Put the key of {following} in its place, remove {following}, set CONFIG_SIGNATURE_PUBLIC_KEY={public},"
            f" restart the daemon, then run {then}."
        ),
    )


def _refuse_unused(desk: Desk, new: str) -> None:
    marks = desk.marks()
    if marks is not None and marks.key == new:
        return
    signs = f"it signs with {marks.key}" if marks and marks.key else "it has not signed anything yet"
    raise NotYet(
        f"the daemon does not sign with key {new} yet: {signs}",
        suggestion="Run `config-daemon keys rotate --activate`, or let the daemon run until it has activated the key.",
    )


def _nothing(desk: Desk, key: str) -> None:
    staged = desk.staged_id()
    if staged is not None:
        raise NotYet(
            f"key {staged} is staged, and the daemon does not sign with it yet: {key} is no old key",
            suggestion="Install the staged key as the next one, then run `config-daemon keys rotate --activate`.",
        )
    facts = {"key_id": key, "retired": [], "keyring": desk.told()}
    desk.session.show(facts, lambda: f"there is nothing to retire: {key} is the only key that signs")
