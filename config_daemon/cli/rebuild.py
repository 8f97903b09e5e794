"""`rebuild`: make a lost database anew from whatever there is."""

from __future__ import annotations

import click

from config_daemon.cli.arguments import reason_option, yes_option
from config_daemon.cli.recovering import replace_store
from config_daemon.cli.session import Session, standard


@click.command()
@click.option("--defaults", is_flag=True, help="Take nothing: begin with an empty store.")
@reason_option
@yes_option
@standard
@click.pass_obj
def command(session: Session, defaults: bool, reason: str | None, yes: bool) -> None:
    """Make the database anew from the cache and from what can be read of it; either alone will do.

    What was lost is told, the database before is kept in quarantine/, and history begins anew. With
    --defaults the new store is empty: workers keep what they have until their services are written again.

    \b
    config-daemon rebuild --reason "the disk died"
    """
    session.need_folder()
    if defaults:
        session.say(
            "The new store will be EMPTY. Every service has to be written again; nothing is taken over."
        )
        session.confirm("Give up everything that is stored?", yes)
        replace_store(session, "rebuild", "defaults", "nothing", reason)
        return
    session.say(
        "The database is made anew from the cache and from what can be read of it; history begins anew."
    )
    session.confirm("Go on?", yes)
    replace_store(session, "rebuild", None, "rest", reason)
