"""`worker remove`: expect a worker no more."""

from __future__ import annotations

from collections.abc import Collection

import click

from config_daemon.cli.arguments import reason_option
from config_daemon.cli.printing import quoted
from config_daemon.cli.session import Session, standard
from config_daemon.cli.words import meant
from config_daemon.errors import NotFound


@click.command(short_help="Expect a worker no more.")
@click.argument("name")
@reason_option
@standard
@click.pass_obj
def remove(session: Session, name: str, reason: str | None) -> None:
    """Expect a worker no more: its statuses do not count, and nobody waits for it.

    It goes on receiving configs, which everybody may read whom the broker lets; take its password away there.
    """
    from config_daemon.store.workers import remove as remove_row

    reader = session.reader()
    try:
        known = reader.workers()
    finally:
        reader.close()
    names = {*known.rows, *known.altered}
    if name not in names:
        raise no_worker(name, names)
    writer = session.writer()
    try:
        writer.change_workers(lambda db, deed: remove_row(db, deed, name), by=session.actor, reason=reason)
    finally:
        writer.close()
    session.show({"worker": name, "outcome": "removed"}, lambda: f"{name} is expected no more")


def no_worker(name: str, names: Collection[str]) -> NotFound:
    """Return the error for a name that no worker has, with the one that was probably meant."""
    near = meant(name, names)
    return NotFound(
        f"there is no worker {quoted(name)}",
        suggestion=f"Did you mean '{near}'?"
        if near
        else "Run `config-daemon worker list` to see who is expected.",
    )
