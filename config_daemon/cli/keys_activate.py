"""The second step of a rotation, for those who do not wait: the daemon signs with the staged key now."""

from __future__ import annotations

from config_daemon.cli.ask import ask
from config_daemon.cli.keys_desk import Desk, NotYet
from config_daemon.errors import StoreUnavailable

_NEXT = "next: `config-daemon keys rotate --retire` takes the old key out, as soon as you like"


def activate(desk: Desk, without_backup: bool) -> None:
    """Ask the daemon to sign with the staged key.

    Raises: NotYet without a staged key or a backup of it; StoreUnavailable without a daemon; Refused.
    """
    from config_daemon.store.keyrecord import is_backed_up

    session = desk.session
    marks = desk.marks()
    signs = marks.key if marks else None
    staged = desk.staged_id()
    if staged is None:
        if signs in desk.held.config_ids and desk.before(str(signs)):
            staged = signs  # retiring was interrupted
        else:
            raise NotYet(
                f"no key waits to be activated: keyring {desk.held.number} lists none after {desk.active}",
                suggestion="Run `config-daemon keys rotate` first.",
            )
    if signs == staged:
        session.show(
            {"key_id": staged, "activated": False}, lambda: f"the daemon signs with key {staged} already"
        )
        session.say(_NEXT)
        return
    if not without_backup and not is_backed_up(session.files, staged):
        raise NotYet(
            f"key {staged} is in no backup: were it lost, nobody could tell the fleet anything again",
            suggestion="Run `config-daemon keys backup FILE` first, or add --without-backup.",
        )
    if not session.daemon_alive:
        raise StoreUnavailable(
            f"no daemon is running on {session.folder}, so nothing can be activated now",
            suggestion="Start the daemon: it activates the key by itself once the grace window is over.",
        )
    answer = ask(session, "activate-key", None, {"key_id": staged})
    facts = {"key_id": answer.get("key_id", staged), "activated": True, "keyring": desk.told()}
    session.show(facts, lambda: f"the daemon signs with key {staged} now, and seals everything anew")
    session.say(
        f"workers that have not seen keyring {desk.held.number} yet refuse what the new key signed until they have it;"
        " it is retained at the broker, and they catch up by it"
    )
    session.say(_NEXT)
