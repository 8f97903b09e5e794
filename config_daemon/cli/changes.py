"""Commit one change from the command line and show what it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from config_daemon.catalog.definition import Definition
from config_daemon.cli.session import Session
from config_daemon.errors import NotFound
from config_daemon.store.ports import Edit, Written


def definition_of(session: Session, service: str) -> Definition:
    """Return a service's definition.

    Raises: NotFound with the name that was probably meant.
    """
    definition = session.catalog.get(service)
    if definition is None:
        meant = session.catalog.suggest(service)
        raise NotFound(
            f"there is no service {service!r}",
            suggestion=f"Did you mean {meant!r}?"
            if meant
            else f"Defined are: {', '.join(session.catalog.names()[:20])}.",
        )
    return definition


def commit_one(
    session: Session,
    service: str,
    change: Callable[[dict[str, Any]], dict[str, Any] | None],
    expect_version: int | None,
    reason: str | None,
    dry_run: bool,
    adopt: bool = False,
) -> None:
    """Commit a change of one service and print what was written.

    Raises: what `SqliteWriter.commit` raises.
    """
    edit = Edit(service, change, expect_version)
    written = session.writer().commit([edit], by=session.actor, reason=reason, dry_run=dry_run, adopt=adopt)
    show_written(session, written, dry_run)


def show_written(session: Session, written: list[Written], dry_run: bool) -> None:
    """Print what a commit did, and say when nobody is there to publish it."""
    data = [
        {
            "service": one.service,
            "config_version": one.version,
            "deleted": one.deleted,
            "stored": bool(one.changed) and not dry_run,
            "changed": {key: {"before": old, "after": new} for key, (old, new) in one.changed.items()},
        }
        for one in written
    ]
    session.show(data[0] if len(data) == 1 else data, lambda: "\n".join(_lines(w, dry_run) for w in written))
    if not session.daemon_alive and not dry_run:
        session.say("note: no daemon is running; this is published when one starts")


def _lines(written: Written, dry_run: bool) -> str:
    if not written.changed:
        return f"{written.service} is already so, at version {written.version}"
    head = (
        f"{written.service} would be at version {written.version}"
        if dry_run
        else f"{written.service} is at version {written.version}"
    )
    if written.deleted:
        head = f"{written.service} {'would be' if dry_run else 'is'} deleted, at version {written.version}"
    return "\n".join([head, *(_line(key, old, new) for key, (old, new) in written.changed.items())])


def _line(key: str, old: str | None, new: str | None) -> str:
    absent = click.style("unset", dim=True)
    return f"  {key}: {absent if old is None else old} → {absent if new is None else new}"
