"""The rotation of the HMAC key: a new one seals, the old one still opens, until nothing is left that needs it."""

from __future__ import annotations

import secrets
import time
import uuid

from config_daemon.cli.keys_backup import warn_unless_backed_up
from config_daemon.cli.keys_desk import Desk, NotYet
from config_daemon.errors import CacheError, KeyUnavailable

WAIT_SECONDS, _LOOK_SECONDS = 10.0, 0.05
_NEXT = "next: `config-daemon keys rotate --hmac --retire` takes the old key out"


def rotate(desk: Desk) -> None:
    """Put another HMAC key in place, the present one behind it, and see that the daemon uses it.

    Raises: KeyUnavailable where the key is not in `.env`.
    """
    from config_daemon.store.keyfiles import LKG_HMAC, OLD_LKG_HMAC, new_key_text

    _refuse_elsewhere(desk)
    fresh = desk.keys.source(OLD_LKG_HMAC.name) is None
    if fresh:
        present_id, present = desk.keys.hmac_key()
        desk.edit_env(
            {
                LKG_HMAC.name: new_key_text(secrets.token_bytes(32)),
                LKG_HMAC.id_name: f"hmac-{uuid.uuid4().hex[:8]}",
                OLD_LKG_HMAC.name: new_key_text(present),
                OLD_LKG_HMAC.id_name: present_id,
            }
        )
    (new_id, new), (old_id, _) = desk.keys.hmac_key(), desk.keys.symmetric(OLD_LKG_HMAC)
    alive = desk.session.daemon_alive
    used = "marks.json" not in _sealed_otherwise(desk, new, WAIT_SECONDS if alive else 0.0, only_marks=True)
    facts = {"key_id": new_id, "old_key_id": old_id, "rotated_now": fresh, "in_use": used}
    word = "is the HMAC key now" if fresh else "is the HMAC key already"
    desk.session.show(facts, lambda: f"{new_id} {word}; {old_id} still opens what it sealed")
    if used:
        desk.session.say(_NEXT)
    elif alive:
        desk.session.say("the daemon has not taken the new key yet; see `config-daemon status`")
    else:
        desk.session.say(
            "no daemon is running; one that starts seals everything anew, then --retire can follow"
        )
    warn_unless_backed_up(desk.session)


def retire(desk: Desk) -> None:
    """Forget the old HMAC key.

    Raises: NotYet while something was sealed with it.
    """
    from config_daemon.store.keyfiles import OLD_LKG_HMAC

    new_id, new = desk.keys.hmac_key()
    if desk.keys.source(OLD_LKG_HMAC.name) is None:
        facts = {"key_id": new_id, "retired": None}
        desk.session.show(facts, lambda: f"there is nothing to retire: {new_id} is the only HMAC key")
        return
    _refuse_elsewhere(desk)
    if left := _sealed_otherwise(desk, new, WAIT_SECONDS if desk.session.daemon_alive else 0.0):
        raise NotYet(
            f"{' and '.join(left)} cannot be verified with {new_id} alone",
            suggestion="Start the daemon: it seals them anew. Then run this again.",
        )
    old_id, _ = desk.keys.symmetric(OLD_LKG_HMAC)
    desk.edit_env({OLD_LKG_HMAC.name: None, OLD_LKG_HMAC.id_name: None})
    facts = {"key_id": new_id, "retired": old_id}
    desk.session.show(facts, lambda: f"{new_id} is the only HMAC key; {old_id} is gone from .env")


def _sealed_otherwise(desk: Desk, key: bytes, wait_seconds: float, *, only_marks: bool = False) -> list[str]:
    """Return what was not sealed with this key, after the daemon had some time to change that."""
    from config_daemon.store import cache, marks

    files, until = desk.ground.files, time.monotonic() + wait_seconds
    while True:
        left = []
        try:
            marks.load(files.marks, (key,))
        except CacheError:
            left.append(files.marks.name)
        try:
            if not only_marks:
                cache.load(files.cache, (key,))
        except CacheError:
            left.append(files.cache.name)
        if not left or time.monotonic() >= until:
            return left
        time.sleep(_LOOK_SECONDS)


def _refuse_elsewhere(desk: Desk) -> None:
    from config_daemon.store.keyfiles import LKG_HMAC, OLD_LKG_HMAC

    for name in (LKG_HMAC.name, OLD_LKG_HMAC.name):
        source = desk.keys.source(name)
        if source is not None and source.kind != ".env":
            raise KeyUnavailable(
                f"{name} is not in .env ({source}), so it is changed there",
                suggestion="Let the present key be `lkg-hmac-key-old` with its id in LKG_HMAC_KEY_OLD_ID, make another"
                " `lkg-hmac-key` (`openssl rand -base64 32`) with another LKG_HMAC_KEY_ID, and restart the daemon;"
                " after that remove the old one.",
            )
