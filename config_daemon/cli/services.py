"""`services`: which services have a config, and how they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.session import Session, standard

if TYPE_CHECKING:
    from config_daemon.store.ports import BadRow, Row, Tombstone
    from config_daemon.store.status import ServiceStatus


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also services without a config, and deleted ones.")
@standard
@click.pass_obj
def command(session: Session, everything: bool) -> None:
    """List the services that have a config: version, state, who changed it last and when (UTC).

    \b
    config-daemon services
    config-daemon services --all --json
    """
    from config_daemon.cli.tables import table

    data = list(_listed(session, everything))
    rows = [
        (d["service"], d["config_version"] or "", d["state"], d["updated_at"], d["updated_by"]) for d in data
    ]
    session.show(
        data, lambda: table(("service", "version", "state", "changed", "by"), rows) if rows else None
    )
    if not rows:
        session.say("no service has a config yet: `config-daemon set stt-worker vad_threshold=0.6`")


def _listed(session: Session, everything: bool) -> Iterator[dict[str, Any]]:
    from config_daemon.store.ports import Tombstone

    stored = session.reports.rows()
    told = {row.service: row for row in session.view.services()} if session.daemon_alive else {}
    lost = session.reports.lost()
    deaths = session.reports.deaths() if everything else {}
    names = sorted({*stored, *lost, *(session.catalog.names() if everything else ())})
    for name in names:
        row = stored.get(name)
        if name in lost:
            yield _entry(name, None, "row-missing", None, None)
        elif row is None:
            yield _entry(name, None, "no config", None, None)
        elif not isinstance(row, Tombstone):
            yield _live(session, row, told.get(name))
        elif everything:
            yield _entry(name, row.version, "deleted", *deaths.get(name, (None, None)))


def _live(session: Session, row: Row | BadRow, told: ServiceStatus | None) -> dict[str, Any]:
    from config_daemon.store.ports import BadRow

    if isinstance(row, BadRow):
        return _entry(row.service, row.row.version, "row-corrupted", row.row.updated_at, row.row.updated_by)
    if told is not None:
        state = told.state if told.config_version >= row.version else "in-flight"
    else:
        state = _state_here(session, row)
    return _entry(row.service, row.version, state, row.updated_at, row.updated_by)


def _state_here(session: Session, row: Row | Tombstone) -> str:
    from config_daemon.cli.shown import resolved_here
    from config_daemon.errors import InvalidConfig
    from config_daemon.store.ports import Row

    assert isinstance(row, Row)
    try:
        verdict = resolved_here(session, row).verdict
    except InvalidConfig:
        return "invalid"
    return "unpublished" if verdict == "ready" else verdict


def _entry(service: str, version: int | None, state: str, at: str | None, by: str | None) -> dict[str, Any]:
    return {"service": service, "config_version": version, "state": state, "updated_at": at, "updated_by": by}
