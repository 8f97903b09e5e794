"""`adopt --db`: take the database that is there for the true one."""

from __future__ import annotations

import time
from typing import Any

from config_daemon.cli.ask import ask
from config_daemon.cli.session import Session
from config_daemon.cli.words import counted
from config_daemon.errors import StoreUnavailable

QUESTION = "Take this database for the true one, and replace whatever workers have with it?"


def adopt_db(session: Session, reason: str | None, yes: bool) -> None:
    """Give the database a new epoch; a daemon that holds goes on with it.

    Raises: StoreError; Refused; Declined.
    """
    path = session.database
    session.say(
        f"{path} will be the truth from now on: every service in it is sealed anew, above everything seen.\n"
        "Changes that only another copy of the database holds will not come back."
    )
    session.confirm(QUESTION, yes)
    asked = session.daemon_alive
    result = ask(session, "adopt", reason, {"what": "db"}) if asked else _adopt_here(session, reason)
    facts = {"adopted": True, "database": str(path), **result}
    count = counted(result["services"], "service")
    session.show(facts, lambda: f"adopted {path}: epoch {result['config_epoch']}, {count}")


def _adopt_here(session: Session, reason: str | None) -> dict[str, Any]:
    """Do what the daemon would do, holding its lock."""
    from config_daemon.store import locks, marks
    from config_daemon.store.adopt import adopt_store
    from config_daemon.wire.messages import timestamp

    files = session.ground.files
    lock = locks.take(files.daemon_lock)
    if lock is None:
        raise StoreUnavailable("a daemon started just now", suggestion="Run the command again.")
    try:
        hmac_keys = session.ground.keys.hmac_keys()
        known = marks.load(files.marks, hmac_keys) or marks.Marks(
            generation=session.ground.keyring().generation, reserved=0, epoch="", feed=None
        )
        adopted = adopt_store(
            files,
            session.sealer,
            marks.Numbers(files.marks, hmac_keys[0], known, known.reserved),
            highest_seen=0,
            now=timestamp(time.time_ns() // 1_000_000),
            by=session.actor,
            reason=reason,
        )
    finally:
        locks.release(lock)
    return {"config_epoch": adopted.epoch, "services": adopted.services}
