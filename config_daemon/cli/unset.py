"""`unset`: take values away, so that defaults hold again."""

from __future__ import annotations

from typing import Any

import click

from config_daemon.cli.arguments import (
    Key,
    check_keys,
    definition_of,
    past_of,
    service_argument,
    write_options,
)
from config_daemon.cli.session import Session, standard
from config_daemon.errors import NotFound


class _NothingSet(Exception):
    """Ends the transaction: none of the keys has a value."""


@click.command()
@service_argument
@click.argument("key", nargs=-1, required=True, metavar="KEY...", type=Key())
@write_options
@standard
@click.pass_obj
def command(
    session: Session,
    service: str,
    key: tuple[str, ...],
    expect_version: int | None,
    reason: str | None,
    dry_run: bool,
) -> None:
    """Take values of a service away; its defaults hold again. A key of an object takes all below it.

    \b
    config-daemon unset stt-worker vad_threshold
    config-daemon unset agent-worker media --reason "back to the defaults"
    """
    from config_daemon.cli.changes import commit_one, show_written
    from config_daemon.store.ports import Written

    definition = session.catalog.get(service)

    def change(stored: dict[str, Any]) -> dict[str, Any]:
        kept = [name for name in key if not _remove(stored, name.split("."))]
        if kept:
            check_keys(definition or definition_of(session, service), kept)
        if len(kept) == len(key):
            raise _NothingSet
        return stored

    try:
        commit_one(session, service, change, expect_version, reason, dry_run)
    except _NothingSet:
        present = past_of(session, service)
        if present.deleted:
            raise NotFound(
                f"{service} is deleted, at version {present.version}",
                suggestion=f"`config-daemon rollback {service} --to N` brings it back.",
            ) from None
        show_written(session, [Written(service, present.version, stored=False)], dry_run)


def _remove(values: dict[str, Any], path: list[str]) -> bool:
    """Remove what is at a path, and the objects that become empty by that; False when nothing is there."""
    name, *rest = path
    if name not in values:
        return False
    if rest:
        inner = values[name]
        if not isinstance(inner, dict) or not _remove(inner, rest):
            return False
        if inner:
            return True
    del values[name]
    return True
