"""`restore`: put the store back from the last-known-good cache or from a copy."""

from __future__ import annotations

from pathlib import Path

import click

from config_daemon.cli.arguments import reason_option, yes_option
from config_daemon.cli.rebuild import WARNING
from config_daemon.cli.recovering import Wish, replace_store
from config_daemon.cli.session import Session, standard
from config_daemon.errors import UsageError

LATER = ("litestream",)


@click.command()
@click.option(
    "--from", "source", required=True, metavar="lkg|FILE", help="The cache, or a copy of the database."
)
@click.option("--at", metavar="TIME", help="Comes with a later version, as `--from litestream` does.")
@click.option("--dry-run", is_flag=True, help="Show what would be taken and lost, and change nothing.")
@reason_option
@yes_option
@standard
@click.pass_obj
def command(
    session: Session, source: str, at: str | None, dry_run: bool, reason: str | None, yes: bool
) -> None:
    """Make the database anew. What will be lost is shown before you are asked; the one before is kept in quarantine/.

    From lkg: what was published last, with every newer row of the present database that can be read and
    believed. History begins anew, and secrets are not in it. (A file of that name: --from ./lkg)

    From a FILE: a copy of the database, with its history, exactly as it is; it is refused unless all of it
    is sound. What was written after the copy was made is lost, and told.

    \b
    config-daemon restore --from lkg --dry-run
    config-daemon restore --from /path/to/backup/config.db --reason "last night's copy"
    """
    named = source.lower()
    if named in LATER or at is not None:
        later = "--at" if at is not None else f"--from {named}"
        raise UsageError(f"{later} comes with a later version", suggestion="Use --from lkg or --from FILE.")
    session.need_folder()
    if named == "lkg":
        wish = Wish("restore", "lkg", "lkg", reason, WARNING)
    else:
        warning = f"What {source} holds will be the truth, also where it is older than what workers have."
        wish = Wish("restore", "file", "file", reason, warning, Path(source))
    replace_store(session, wish, yes=yes, dry_run=dry_run)
