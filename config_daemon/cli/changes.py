"""Commit changes from the command line and show what they did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from config_daemon.cli.printing import change_line

if TYPE_CHECKING:
    from config_daemon.cli.session import Session
    from config_daemon.store.ports import Written

Difference = Mapping[str, tuple[str | None, str | None]]


def commit_one(
    session: Session,
    service: str,
    change: Callable[[dict[str, Any]], dict[str, Any] | None],
    expect_version: int | None,
    reason: str | None,
    dry_run: bool,
) -> None:
    """Commit a change of one service and print what was written.

    Raises: what `SqliteWriter.commit` raises.
    """
    from config_daemon.store.ports import Edit

    edit = Edit(service, change, expect_version)
    written = session.writer().commit([edit], by=session.actor, reason=reason, dry_run=dry_run)
    show_written(session, written, dry_run)


def show_written(session: Session, written: Sequence[Written], dry_run: bool, many: bool = False) -> None:
    """Print what a commit did, and say when nobody is there to publish it; `many` prints a JSON list."""
    data = [
        {
            "service": one.service,
            "config_version": one.version,
            "deleted": one.deleted,
            "stored": one.stored and not dry_run,
            "changed": as_json(one.changed),
        }
        for one in written
    ]
    session.show(data if many else data[0], lambda: "\n".join(_lines(w, dry_run) for w in written) or None)
    if not session.daemon_alive and not dry_run:
        session.say("note: no daemon is running; this is published when one starts")


def as_json(difference: Difference) -> dict[str, dict[str, str | None]]:
    """Return a difference as `--json` prints it: JSON text before and after, null where absent."""
    return {key: {"before": before, "after": after} for key, (before, after) in difference.items()}


def difference(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[str | None, str | None]]:
    """Return how two sets of values differ, as JSON text by dotted key, None where absent."""
    from config_daemon.core.paths import leaves
    from config_daemon.wire.sealing import canonical

    old, new = (
        {key: canonical(value).decode() for key, value in leaves(side).items()} for side in (before, after)
    )
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _lines(written: Written, dry_run: bool) -> str:
    if not written.stored:
        return f"{written.service} is already so, at version {written.version}"
    head = (
        f"{written.service} would be at version {written.version}"
        if dry_run
        else f"{written.service} is at version {written.version}"
    )
    if written.deleted:
        head = f"{written.service} {'would be' if dry_run else 'is'} deleted, at version {written.version}"
    return "\n".join([head, *(change_line(key, old, new) for key, (old, new) in written.changed.items())])
