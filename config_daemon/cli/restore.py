"""`restore`: put the store back from the last-known-good cache or from a copy."""

from __future__ import annotations

from pathlib import Path

import click

from config_daemon.cli.arguments import reason_option, yes_option
from config_daemon.cli.recovering import replace_store
from config_daemon.cli.session import Session, standard
from config_daemon.errors import UsageError

LATER = ("litestream",)


@click.command()
@click.option(
    "--from", "source", required=True, metavar="lkg|FILE", help="The cache, or a copy of the database."
)
@click.option("--at", metavar="TIME", help="Comes with a later version, as `--from litestream` does.")
@reason_option
@yes_option
@standard
@click.pass_obj
def command(session: Session, source: str, at: str | None, reason: str | None, yes: bool) -> None:
    """Make the database anew, and say what was lost. The one before is kept in quarantine/.

    From lkg: what was published last, with every newer row of the present database that can be read and
    believed. History begins anew, and secrets are not in it.

    From a FILE: a copy of the database, with its history, exactly as it is; it is refused unless all of it
    is sound. What was written after the copy was made is lost, and told.

    \b
    config-daemon restore --from lkg
    config-daemon restore --from /path/to/backup/config.db --reason "last night's copy"
    """
    if source in LATER or at is not None:
        named = "--at" if at is not None else f"--from {source}"
        raise UsageError(f"{named} comes with a later version", suggestion="Use --from lkg or --from FILE.")
    session.need_folder()
    if source == "lkg":
        session.say(
            "The database is made anew from the cache and from what can be read of it; history begins anew."
        )
        session.confirm("Go on?", yes)
        replace_store(session, "restore", "lkg", "lkg", reason)
        return
    session.say(f"What {source} holds will be the truth, also where it is older than what workers have.")
    session.confirm("Go on?", yes)
    replace_store(session, "restore", "file", "file", reason, Path(source))
