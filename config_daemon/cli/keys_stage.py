"""The first step of a rotation: another key is here, and the keyring lists it beside the present one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from config_daemon.cli.keys_backup import warn_unless_backed_up
from config_daemon.cli.keys_desk import Desk, NotYet
from config_daemon.errors import KeyUnavailable, UsageError

if TYPE_CHECKING:
    from config_daemon.store.keyfiles import Signer

CREDENTIAL = (
    "install it as the daemon's credential `signing-key-next` (or name it in CONFIG_SIGNATURE_NEXT_PRIVATE_KEY_FILE)"
    " and restart the daemon"
)


def stage(desk: Desk, root_key: str | None, new_key_file: str | None) -> None:
    """Make the next key, or take the one that a killed run left, and issue a keyring that lists it.

    Raises: UsageError; NotYet while an earlier rotation is not ended; KeyUnavailable.
    """
    active, in_env = desk.active, desk.in_env
    _refuse_unended(desk, active)
    if in_env and new_key_file is not None:
        raise UsageError(
            "the signing key is in .env, and the new one goes there too",
            suggestion="Leave --new-key-file out.",
        )
    staged = desk.staged_id()
    if staged is not None and active in desk.held.config_ids:
        _refuse_lost(desk, staged, in_env, new_key_file)
        _tell(desk, active, staged, new_key_file, fresh=False)
        return
    root = desk.root(root_key)
    if not in_env and new_key_file is None and desk.coming is None:
        raise UsageError(
            "the signing key is not in .env, so the new one needs a file of its own",
            suggestion="Add --new-key-file FILE: a new file, which then becomes the credential `signing-key-next`.",
        )
    roles = {one.key_id: one.roles for one in desk.held.keys}.get(active, frozenset({"config"}))
    new = add_key(desk, root, roles, new_key_file)
    if active in desk.held.revoked and in_env and (coming := desk.coming):
        from config_daemon.cli.keys_retire import take_over

        take_over(desk, coming)  # nobody waits for a key that is believed no more
    _tell(desk, active, new, new_key_file, fresh=True)


def add_key(desk: Desk, root: Signer, roles: frozenset[str], file: str | None) -> str:
    """Have a next key, durably, and then a keyring that lists it; return its id."""
    from config_daemon.core.keyring import adding
    from config_daemon.store.keyfiles import NEXT_PRIVATE_KEY
    from config_daemon.store.privatekeys import made_or_found, new_key
    from config_daemon.wire.keys import signing_key_pem

    coming = desk.coming
    if coming is None:
        coming = new_key() if file is None else made_or_found(Path(file))
    if coming.key_id in desk.held.revoked or coming.key_id == desk.active:
        raise UsageError(
            f"the next key is {coming.key_id}, which "
            + ("was revoked" if coming.key_id in desk.held.revoked else "signs already"),
            suggestion=f"Name another --new-key-file, or run `config-daemon keys revoke {coming.key_id[:12]}"
            " --reason TEXT` to take it out.",
        )
    body = adding(desk.held, [(bytes(coming.verify_key), roles)], desk.now)
    if file is not None:
        from config_daemon import failpoints

        failpoints.reached("after_keys_env")
    elif desk.coming is None:
        desk.edit_env({NEXT_PRIVATE_KEY: signing_key_pem(coming.key)})
    desk.issue(body, root)
    return coming.key_id


def _refuse_unended(desk: Desk, active: str) -> None:
    coming = desk.coming
    if active in desk.held.revoked and coming and coming.key_id in desk.held.config_ids:
        raise NotYet(
            f"the signing key {active} is revoked",
            suggestion=f"Run `config-daemon keys revoke {active[:12]} --reason TEXT` again: it ends what is left.",
        )
    if old := desk.before(active):
        raise NotYet(
            f"the last rotation is not ended: {', '.join(old)} may still sign",
            suggestion="Run `config-daemon keys rotate --retire` first.",
        )


def _refuse_lost(desk: Desk, staged: str, in_env: bool, file: str | None) -> None:
    """Refuse to stage one more key while a staged one is nowhere."""
    coming = desk.coming.key_id if desk.coming else None
    if coming is None and file is not None:
        from config_daemon.store.privatekeys import key_in

        coming = key_in(Path(file)).key_id if Path(file).exists() else "none, it is new"
    if coming == staged or (coming is None and not in_env):
        return
    where = "the next key here is another one" if coming else "its private half is not in .env"
    raise KeyUnavailable(
        f"keyring {desk.held.number} lists the next key {staged} already, and {where}",
        suggestion=f"Put that key back, or revoke it: `config-daemon keys revoke {staged[:12]} --reason TEXT`.",
    )


def activates_at(desk: Desk) -> str:
    """Return when the daemon may use the staged key by itself."""
    from config_daemon.core.keyring import grace_ends_ms
    from config_daemon.wire.messages import timestamp

    return timestamp(grace_ends_ms(desk.held, desk.ground.settings.key_grace_seconds))


def _tell(desk: Desk, active: str, new: str, file: str | None, *, fresh: bool) -> None:
    from config_daemon.store.keyrecord import is_backed_up

    marks = desk.marks()
    signs = bool(marks and marks.key == new) or desk.active == new
    backed_up = is_backed_up(desk.session.files, new)
    at = None if signs else activates_at(desk)
    facts: dict[str, Any] = {
        "key_id": new, "old_key_id": active, "state": "active" if signs else "staged", "staged_now": fresh,
        "activates_at": at, "backed_up": backed_up, "keyring": desk.told(), "new_key_file": file,
    }  # fmt: skip
    word = "is staged" if fresh else "was staged already"
    done = f"key {new} {word}: keyring {desk.held.number} lists it"
    if signs:
        desk.session.show(facts, lambda: f"{done}, and the daemon signs with it")
        if desk.before(new):
            desk.session.say("next: `config-daemon keys rotate --retire` takes the old key out")
        return
    desk.session.show(facts, lambda: done)
    if not desk.in_env and desk.coming is None:
        desk.session.say(f"next: {'the key is in ' + file + '; ' if file else ''}{CREDENTIAL}")
    desk.session.say(
        f"it signs by itself from {at} on, once it is in a backup and a daemon runs"
        "; `config-daemon keys rotate --activate` does not wait for the time"
    )
    if not backed_up:
        desk.session.say(
            "next: `config-daemon keys backup FILE`; until the new key is in a backup, the old one signs"
        )
    else:
        warn_unless_backed_up(desk.session)
