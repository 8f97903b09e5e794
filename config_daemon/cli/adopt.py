"""`adopt`: look at a row that somebody edited by hand, and seal it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.adopt_db import adopt_db, adopt_lkg
from config_daemon.cli.arguments import (
    Service,
    dry_run_option,
    no_config,
    reason_option,
    yes_option,
)
from config_daemon.cli.session import Session, standard
from config_daemon.errors import InvalidConfig, StoreCorrupted, UsageError

if TYPE_CHECKING:
    from config_daemon.store.ports import BadRow, Written


@click.command()
@click.argument("service", required=False, type=Service())
@click.option("--db", "database", is_flag=True, help="Adopt the whole database: ends a hold of the daemon.")
@click.option("--lkg", "cache", is_flag=True, help="Make the database what was published last.")
@reason_option
@dry_run_option
@yes_option
@standard
@click.pass_obj
def command(
    session: Session,
    service: str | None,
    database: bool,
    cache: bool,
    reason: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Show how a row that was altered outside config-daemon differs from its history, and seal it.

    A row whose seal does not fit is neither published nor written upon until somebody adopts it. Who
    altered it cannot be known: history will name who adopted it.

    \b
    sqlite3 config.db "UPDATE service_configs SET config_json = '{\\"channels\\":2}' WHERE service = 'stt-worker'"
    config-daemon adopt stt-worker --reason "emergency edit on the night shift"

    With --db the whole database is taken for the true one, after a restore or on a new host: it gets a
    new epoch, and a daemon that holds (`not-the-newest`, `foreign-state`) goes on. With --lkg it is the
    other way round: the database is another one, and what was published last is the truth.

    
    config-daemon adopt --db --reason "restored from last night"
    """
    from config_daemon.store.ports import BadRow

    if dry_run and (database or cache):
        raise UsageError(
            "--dry-run goes with a SERVICE only",
            suggestion="Leave it out: what will change is shown, and you are asked, unless --yes is given.",
        )
    if (service is not None) + database + cache != 1:
        raise UsageError(
            "adopt takes either a SERVICE or --db or --lkg", suggestion="See `config-daemon adopt --help`."
        )
    if service is None:
        (adopt_lkg if cache else adopt_db)(session, reason, yes)
        return

    row = session.reports.row(service)
    if row is None:
        raise no_config(session, service)
    if not isinstance(row, BadRow):
        facts = {"service": service, "config_version": row.version, "adopted": False, "changed": {}}
        session.show(facts, lambda: f"{service} needs no adoption: the seal of version {row.version} fits")
        return
    values = {} if service in session.reports.deaths() else _values(session, row)
    planned = _commit(session, service, values, reason, dry_run=True)
    session.say(_page(row, planned))
    if dry_run:
        _show(session, planned, adopted=False)
        return
    session.confirm(f"Seal it as version {planned.version}?", yes)
    _show(session, _commit(session, service, values, reason, dry_run=False), adopted=True)


def _commit(
    session: Session, service: str, seen: dict[str, Any], reason: str | None, dry_run: bool
) -> Written:
    from config_daemon.cli.changes import difference
    from config_daemon.store.ports import Edit

    def unchanged(stored: dict[str, Any]) -> dict[str, Any]:
        if difference(seen, stored):
            raise StoreCorrupted(
                f"the row of {service} was altered again meanwhile", suggestion="Run the command again."
            )
        return stored

    edit = Edit(service, unchanged)
    why = reason or "adopted as altered outside config-daemon"
    return session.writer().commit([edit], by=session.actor, reason=why, dry_run=dry_run, adopt=True)[0]


def _values(session: Session, row: BadRow) -> dict[str, Any]:
    """Return what an altered row holds.

    Raises: InvalidConfig when it holds no values, with the command that puts back what history knows.
    """
    from config_daemon.store.reports import nested
    from config_daemon.store.stored import parse_stored
    from config_daemon.wire.sealing import canonical

    try:
        return parse_stored(row.service, row.row.text)
    except InvalidConfig as error:
        known = canonical(nested(row.service, session.reports.known(row.service))).decode().replace("'", "''")
        # for a person to run; quoted for SQL here and for the shell below
        statement = f"UPDATE service_configs SET config_json = '{known}' WHERE service = '{row.service}'"  # noqa: S608
        remedy = (
            "Mend its config_json by hand, or put back what history knows, then adopt it:"
            f" sqlite3 {shlex.quote(str(session.database))} {shlex.quote(statement)}"
        )
        raise InvalidConfig(error.message, suggestion=remedy) from error


def _page(row: BadRow, planned: Written) -> str:
    from config_daemon.cli.printing import difference_lines, visible

    at, by = visible(str(row.row.updated_at)), visible(str(row.row.updated_by))
    claims = f"it says version {row.row.version}, {at}, {by}"
    head = f"{row.service} was altered outside config-daemon; who did it cannot be known ({claims})"
    lines = difference_lines(planned.changed, err=True)
    if not lines:
        lines = ["  its values are those that history knows; something beside them was altered"]
    return "\n".join([head, *lines])


def _show(session: Session, written: Written, adopted: bool) -> None:
    from config_daemon.cli.changes import as_json

    facts = {
        "service": written.service, "config_version": written.version, "deleted": written.deleted,
        "adopted": adopted, "changed": as_json(written.changed),
    }  # fmt: skip
    word = "is" if adopted else "would be"
    session.show(facts, lambda: f"{written.service} {word} sealed as version {written.version}")
    if adopted and not session.daemon_alive:
        session.say("note: no daemon is running; this is published when one starts")
