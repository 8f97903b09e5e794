"""`purge`: have the broker hold nothing of a service that was deleted, or of an orphan."""

from __future__ import annotations

import click

from config_daemon.cli.arguments import reason_option, yes_option
from config_daemon.cli.session import Session, standard
from config_daemon.cli.words import meant
from config_daemon.errors import NotFound, StoreUnavailable, UsageError


@click.command()
@click.argument("service")
@reason_option
@yes_option
@standard
@click.pass_obj
def command(session: Session, service: str, reason: str | None, yes: bool) -> None:
    """Clear the topic of a deleted service, or of one that no database knows (`orphan-retained`).

    A worker that was away since the deletion will not hear of it then, and goes on with what it has. What the
    service was stays in history, and if it is made again its versions go on. A service that lives is refused (exit 4).

    \b
    config-daemon purge tts-worker
    """
    from config_daemon.cli.ask import ask
    from config_daemon.wire.topics import is_service

    session.need_folder()
    if not is_service(service):
        raise UsageError("this can be no service's name", suggestion="See `config-daemon services --all`.")
    _refuse_known(session, service)
    if _is_purged(session, service):
        session.show(
            {"purged": True, "service": service, "already": True},
            lambda: (
                f"{service} was purged already; the daemon clears its topic whenever something is shown there"
            ),
        )
        return
    session.say(
        f"The broker will hold nothing of {service} any more. A worker that was away since will not hear that it was"
        " deleted."
    )
    session.confirm(f"Clear the topic of {service}?", yes)
    if not session.daemon_alive:
        raise StoreUnavailable(
            "no daemon is running, and only it may clear a topic",
            suggestion=f"Start it: `config-daemon run --data {session.folder}`.",
        )
    result = ask(session, "purge", reason, {"service": service})
    session.show({"purged": True, **result}, lambda: f"nothing of {service} is retained any more")


def _refuse_known(session: Session, service: str) -> None:
    """Say before anybody is asked what the daemon would refuse. Raises: NotAllowed; NotFound; StoreError."""
    from config_daemon.store.ports import Tombstone
    from config_daemon.store.refusal import still_lives

    row = session.reports.row(service)
    if row is not None and not isinstance(row, Tombstone):
        raise still_lives(service)
    is_orphan = any(found[:2] == ("orphan-retained", service) for found in session.view.conditions())
    if row is None and session.daemon_alive and not is_orphan:
        near = meant(service, _purgeable(session))
        raise NotFound(
            f"{service} was not deleted, and no orphan is retained: there is nothing to purge",
            suggestion=f"Did you mean '{near}'?" if near else "See `config-daemon services --all`.",
        )


def _purgeable(session: Session) -> set[str]:
    """Return what could have been meant: services that are there or were deleted, and orphans."""
    orphans = {subject for name, subject, *_ in session.view.conditions() if name == "orphan-retained"}
    return orphans | set(session.reports.rows())


def _is_purged(session: Session, service: str) -> bool:
    """Tell whether marks say that a service was purged as it was deleted last; False where nobody can tell."""
    from config_daemon.errors import ConfigDaemonError
    from config_daemon.store.marks import load
    from config_daemon.store.ports import Tombstone

    try:
        row = session.reports.row(service)
        marks = load(session.files.marks, session.ground.keys.hmac_keys())
    except ConfigDaemonError:
        return False
    return isinstance(row, Tombstone) and marks is not None and marks.purged.get(service) == row.version
