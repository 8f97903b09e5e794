"""`delete`: withdraw a service's config."""

from __future__ import annotations

import click

from config_daemon.cli.arguments import no_config, service_argument, write_options, yes_option
from config_daemon.cli.session import Session, standard


@click.command()
@service_argument
@write_options
@yes_option
@standard
@click.pass_obj
def command(
    session: Session, service: str, expect_version: int | None, reason: str | None, dry_run: bool, yes: bool
) -> None:
    """Delete a service's config. Its workers are told, keep what they run, and history keeps the values.

    \b
    config-daemon delete tts-worker --reason "replaced by the cloud"
    config-daemon rollback tts-worker --to 4        (brings it back)
    """
    from config_daemon.cli.changes import commit_one
    from config_daemon.cli.words import counted
    from config_daemon.core.paths import leaves
    from config_daemon.errors import NotFound
    from config_daemon.store.ports import Row, Tombstone
    from config_daemon.store.stored import parse_stored

    row = None if service in session.reports.lost() else session.reports.row(service)
    if isinstance(row, Tombstone):
        raise NotFound(
            f"{service} is deleted already, at version {row.version}",
            suggestion=f"`config-daemon rollback {service} --to N` brings it back.",
        )
    if isinstance(row, Row):
        count = counted(len(leaves(parse_stored(service, row.text))), "set value")
        if not dry_run:
            session.confirm(f"Delete {service}, version {row.version}, with {count}?", yes)
    elif row is None and service not in session.reports.lost():
        raise no_config(session, service)
    elif not dry_run:
        session.confirm(f"Withdraw {service}, whose row somebody altered or removed?", yes)
    commit_one(session, service, lambda _stored: None, expect_version, reason, dry_run)
