"""`rollback`: make a service be what it was, as a new version."""

from __future__ import annotations

import click

from config_daemon.cli.arguments import past_of, service_argument, write_options
from config_daemon.cli.session import Session, standard


@click.command()
@service_argument
@click.option(
    "--to", required=True, type=click.IntRange(min=1), metavar="N", help="The version to go back to."
)
@write_options
@standard
@click.pass_obj
def command(
    session: Session, service: str, to: int, expect_version: int | None, reason: str | None, dry_run: bool
) -> None:
    """Set a service's values to what they were at a version; this makes a new version, history stays.

    A deleted service comes back this way.

    \b
    config-daemon history stt-worker
    config-daemon rollback stt-worker --to 3 --dry-run
    config-daemon rollback stt-worker --to 3 --reason "the new model was too slow"
    """
    from config_daemon.cli.changes import commit_one

    past = past_of(session, service, to)
    if expect_version is None:  # what was reconstructed belongs to the present version and no later one
        expect_version = 0 if past.deleted else past.newest
    if past.deleted and to == past.newest:
        from config_daemon.errors import NotFound

        raise NotFound(
            f"version {to} of {service} is its deletion", suggestion=f"Go back to {to - 1}, or further."
        )
    commit_one(
        session,
        service,
        lambda _stored: past.values,
        expect_version,
        reason or f"rollback to version {to}",
        dry_run,
    )
