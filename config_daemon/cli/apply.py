"""`apply`: make services be what files say."""

from __future__ import annotations

import click

from config_daemon.cli.arguments import write_options
from config_daemon.cli.session import Session, standard


@click.command()
@click.argument(
    "file", nargs=-1, required=True, metavar="FILE...", type=click.Path(allow_dash=True, readable=False)
)
@write_options
@standard
@click.pass_obj
def command(
    session: Session, file: tuple[str, ...], expect_version: int | None, reason: str | None, dry_run: bool
) -> None:
    """Replace the set values of every service that the files name; all of them or none.

    Files are JSON or YAML: {service: {values}}, or documents {service, config} as `export` writes them.
    FILE may be - for standard input.

    \b
    config-daemon apply fleet.yaml --dry-run
    config-daemon apply stt.json tts.json --reason "spring tuning"
    """
    from config_daemon.cli.documents import read_documents
    from config_daemon.cli.replacing import replace_services

    replace_services(session, read_documents(file), expect_version, reason, dry_run)
