"""`history`: what changed in a service, when, by whom and why."""

from __future__ import annotations

import click

from config_daemon.cli.arguments import Key, check_keys, service_argument, unknown_service
from config_daemon.cli.session import Session, standard

SHOWN = 100


@click.command()
@service_argument
@click.argument("key", required=False, type=Key())
@click.option(
    "--since", metavar="WHEN", help="Only what is younger: 30d, 12h, 15m, or 2026-01-31[T12:00:00Z]."
)
@click.option(
    "--limit",
    type=click.IntRange(0, 1_000_000),
    default=SHOWN,
    show_default=True,
    metavar="N",
    help="At most so many rows; 0 for all.",
)
@standard
@click.pass_obj
def command(session: Session, service: str, key: str | None, since: str | None, limit: int) -> None:
    """Show what changed in a service, newest first: one row for each changed key. Times are UTC.

    \b
    config-daemon history stt-worker
    config-daemon history stt-worker vad_threshold --since 30d
    config-daemon history agent-worker media --limit 5 --json
    """
    from config_daemon.cli.moments import moment
    from config_daemon.cli.tables import table
    from config_daemon.errors import NotFound

    if key is not None and not _could_be_key(key):
        raise NotFound(
            f"{service} never had such a key", suggestion=f"See `config-daemon history {service}`."
        )
    changes = session.reports.history(
        service, key, moment(since) if since else None, limit + 1 if limit else None
    )
    if not changes and session.reports.row(service) is None and session.catalog.get(service) is None:
        raise unknown_service(session, service)
    definition = session.catalog.get(service) if key is not None and since is None and not changes else None
    if definition is not None and key is not None:
        check_keys(definition, [key])
    more = bool(limit) and len(changes) > limit
    changes = changes[:limit] if limit else changes
    data = [
        {
            "service": service, "config_version": c.version, "at": c.at, "by": c.by, "reason": c.reason, "key": c.key,
            "before": c.before, "after": c.after, "change_id": c.change_id,
        }
        for c in changes
    ]  # fmt: skip
    rows = [
        (c.version, c.at, c.by, c.reason, c.key, f"{_shown(c.before)} → {_shown(c.after)}") for c in changes
    ]
    session.show(data, lambda: table(("version", "when", "who", "reason", "key", "before → after"), rows)
                 if rows else None)  # fmt: skip
    if more:
        session.say(f"older changes are not shown: --limit {limit * 10}, or --limit 0 for all")
    elif not rows:
        session.say(
            f"nothing changed in {service}{f' {key}' if key else ''}{f' since {since}' if since else ''}"
        )


def _could_be_key(key: str) -> bool:
    return key.isprintable() and key.isascii() and len(key) <= 1000


def _shown(text: str | None) -> str:
    return "unset" if text is None else text
