"""`adopt --db`, `adopt --lkg`: say which state is the true one from now on."""

from __future__ import annotations

from typing import Any

from config_daemon.cli.ask import ask
from config_daemon.cli.recovering import Wish, daemon_lock, now_text, replace_store
from config_daemon.cli.session import Session
from config_daemon.cli.words import counted

SHOWN = 20  # services
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
    for line in _older(session):
        session.say(line)
    session.confirm(QUESTION, yes)
    asked = session.daemon_alive
    result = ask(session, "adopt", reason, {"what": "db"}) if asked else _adopt_here(session, reason)
    facts = {"adopted": True, "database": str(path), **result}
    count = counted(result["services"], "service")
    session.show(facts, lambda: f"adopted {path}: epoch {result['config_epoch']}, {count}")


def _older(session: Session) -> list[str]:
    """Return what goes with it: services of which a newer version was published than this database has."""
    from config_daemon.store.reports import stored_version

    newer = [
        (row.service, row.config_version, stored)
        for row in session.view.services()
        if row.sequence
        and (stored := stored_version(session.database, row.service) or 0) < row.config_version
    ]
    lines = [
        f"  {service}: version {published} was published, "
        + (f"{stored} is here" if stored else "nothing of it is here")
        for service, published, stored in newer[:SHOWN]
    ]
    if len(newer) > SHOWN:
        lines.append(f"  and {len(newer) - SHOWN} more services")
    if lines:
        lines = [
            "It is older than what workers have:",
            *lines,
            "To keep those instead: `config-daemon adopt --lkg`.",
        ]
    return lines


def adopt_lkg(session: Session, reason: str | None, yes: bool) -> None:
    """Make the database what the cache says, whatever lies in its place.

    Raises: StoreError; CacheError; Refused; Declined.
    """
    warning = (
        "What was published last will be the truth from now on; the database that is there now goes into"
        " quarantine/, and nothing is taken from it."
    )
    replace_store(session, Wish("adopt", "lkg", "lkg-alone", reason, warning), yes=yes)


def _adopt_here(session: Session, reason: str | None) -> dict[str, Any]:
    """Do what the daemon would do, holding its lock."""
    from config_daemon.store.adopt import adopt_store
    from config_daemon.store.rebuild import told

    with daemon_lock(session) as numbers:
        return told(
            adopt_store(
                session.ground.files, session.sealer, numbers,
                highest_seen=0, now=now_text(), by=session.actor, reason=reason,
            )
        )  # fmt: skip
