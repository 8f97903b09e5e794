"""`rebuild`: make a lost database anew from whatever there is."""

from __future__ import annotations

import click

from config_daemon.cli.arguments import reason_option, yes_option
from config_daemon.cli.recovering import Wish, replace_store
from config_daemon.cli.session import Session, standard

WARNING = "The database is made anew from the cache and from what can be read of it; history begins anew."
EMPTY = "The new store will be EMPTY. Every service has to be written again; nothing is taken over."


@click.command()
@click.option("--defaults", is_flag=True, help="Take nothing: begin with an empty store.")
@click.option("--force", is_flag=True, help="Do it also where nothing is wrong with the database.")
@click.option("--dry-run", is_flag=True, help="Show what would be taken and lost, and change nothing.")
@reason_option
@yes_option
@standard
@click.pass_obj
def command(
    session: Session, defaults: bool, force: bool, dry_run: bool, reason: str | None, yes: bool
) -> None:
    """Make the database anew from the cache and from what can be read of it; either alone will do.

    What will be lost is shown before you are asked, and told again afterwards. The database before is kept in
    quarantine/, and history begins anew. One that is sound is not rebuilt without --force (exit 4). With
    --defaults the new store is empty: workers keep what they have until their services are written again.

    \b
    config-daemon rebuild --dry-run
    config-daemon rebuild --reason "the disk died"
    """
    session.need_folder()
    wish = (
        Wish("rebuild", "defaults", "nothing", reason, EMPTY, force=force)
        if defaults
        else Wish("rebuild", None, "rest", reason, WARNING, force=force)
    )
    replace_store(session, wish, yes=yes, dry_run=dry_run)
