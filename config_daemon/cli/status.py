"""`status`: how the daemon is, in one look and one exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from config_daemon.cli.arguments import Service, no_config
from config_daemon.cli.printing import visible
from config_daemon.cli.session import DEV_LOG, Session, standard
from config_daemon.cli.tables import table
from config_daemon.errors import StoreUnavailable

HEALTHY, DEGRADED, UNHEALTHY = 0, 7, 8


@click.command()
@click.argument("service", required=False, type=Service())
@click.option("--nagios", is_flag=True, help="One line and the exit codes 0, 1, 2 of monitoring plugins.")
@standard
@click.pass_obj
def command(session: Session, service: str | None, nagios: bool) -> int:
    """Tell how the daemon is: exit 0 healthy, 7 degraded, 8 unhealthy or not running.

    With a service, only its line is shown; the exit code is that of the daemon all the same.
    """
    word, alive, facts, conditions = look(session)
    code = {"healthy": HEALTHY, "degraded": DEGRADED}.get(word, UNHEALTHY)
    if nagios:
        click.echo(f"CONFIG-DAEMON {('OK', 'WARNING', 'CRITICAL')[(HEALTHY, DEGRADED, UNHEALTHY).index(code)]}: "
                   f"{_headline(alive, facts, conditions)}")  # fmt: skip
        return (HEALTHY, DEGRADED, UNHEALTHY).index(code)
    from config_daemon.cli.keys_backup import warn_unless_backed_up
    from config_daemon.cli.keys_list import open_rotation, told_rotation

    rotation, rebuilt = open_rotation(session), last_rebuild(session)
    services = [row._asdict() for row in session.view.services()] if alive else []
    if service is not None and alive:
        services = [row for row in services if row["service"] == service]
        if not services:
            raise no_config(session, service)
    for row in services:
        del row["effective_json"], row["sources_json"], row["error_json"]
        row.update(_edge(session, row["service"]))
    from config_daemon.cli.errors_told import errors_told

    data = {
        "status": word, "running": alive, "data": str(session.folder),
        "last_seen": facts.get("written_at"), "database_status": facts.get("database_status"),
        "operational_mode": facts.get("mode"), "broker": facts.get("broker"), "health": facts.get("health"),
        "conditions": conditions, "errors": errors_told(conditions, session.view), "services": services,
        "rotation": rotation, "last_rebuild": rebuilt,
    }  # fmt: skip
    page = [] if rotation is None else [told_rotation(rotation)]
    page += [] if rebuilt is None else [_told_rebuild(rebuilt)]
    session.show(data, lambda: "\n".join([_page(word, alive, facts, conditions, services, session), *page]))
    warn_unless_backed_up(session)
    return code


def look(session: Session) -> tuple[str, bool, dict[str, Any], list[dict[str, Any]]]:
    """Return how the daemon is in a word, whether it lives, what it says of itself, and its open conditions."""
    facts, alive = session.view.daemon(), session.daemon_alive
    names = ("name", "subject", "severity", "since", "detail", "remedy")
    conditions = [dict(zip(names, row, strict=True)) for row in session.view.conditions()] if alive else []
    severities = {condition["severity"] for condition in conditions}
    if not alive or facts.get("mode") != "normal" or "critical" in severities:
        return "unhealthy", alive, facts, conditions
    # what workers do is never the daemon's failure; it is worth a look all the same
    fine = "warning" not in severities and not _impaired(session)
    return "healthy" if fine else "degraded", alive, facts, conditions


def _impaired(session: Session) -> bool:
    vitals = session.edge.vitals()
    if not vitals:
        return False
    from config_daemon.cli.edge_told import impaired

    return any(one.status == "unhealthy" for one in vitals.values()) or bool(impaired(vitals))


def _edge(session: Session, service: str) -> dict[str, Any]:
    """Return what there is to say of a service's workers; nothing where none is expected."""
    body = session.edge.convergence(service).get(service)
    if body is None:
        return {}
    from config_daemon.cli.edge_told import impaired, summary, vital_words

    vitals = session.edge.vitals()
    one = vitals[service]
    return {
        "workers": summary(body), "health": vital_words(vitals)[service],
        "convergence": body, "service_status": {
            "service_name": service, **one._asdict(), "because": impaired(vitals).get(service, []),
        },
    }  # fmt: skip


def last_rebuild(session: Session) -> dict[str, Any] | None:
    """Return what the journal says of the last rebuild; None without one that this user may read."""
    from dataclasses import asdict

    from config_daemon.errors import ConfigDaemonError
    from config_daemon.store.journal import load

    try:
        intent = load(session.files.rebuild_info, session.ground.keys.hmac_keys())
    except ConfigDaemonError:
        return None
    return None if intent is None else asdict(intent)


def _told_rebuild(info: dict[str, Any]) -> str:
    line = f"last {info['kind']} {visible(info['at'])} by {visible(info['by'])}: {info['state']}"
    if not info["quarantine"]:
        return line
    lost = len(info["lost"].get("services", ()))
    return f"{line}, {lost} services lost changes; the database before is in quarantine/{info['quarantine']}"


def _headline(alive: bool, facts: dict[str, Any], conditions: list[dict[str, Any]]) -> str:
    if not alive:
        seen = facts.get("written_at")
        return f"no daemon is running, last seen {seen}" if seen else "no daemon is running"
    is_gone = any(condition["name"] == "db-missing" for condition in conditions)
    database = "missing" if is_gone else facts.get("database_status")
    return f"database {database}, mode {facts.get('mode')}, broker {facts.get('broker')}"


def _page(
    word: str, alive: bool, facts: dict[str, Any], conditions: list[dict[str, Any]], services: list[dict[str, Any]],
    session: Session,
) -> str:  # fmt: skip
    lines = [f"{word}: {_headline(alive, facts, conditions)}", f"data {session.folder}"]
    for c in conditions:
        lines += [
            f"  {c['severity']}: {c['name']} ({c['subject']}) since {c['since']}: {c['detail']}",
            f"    {c['remedy']}",
        ]
    if services:
        head: tuple[str, ...] = ("service", "version", "state")
        rows: list[tuple[Any, ...]] = [
            (row["service"], row["config_version"], row["state"]) for row in services
        ]
        if any("workers" in row for row in services):
            head = (*head, "health", "workers")
            rows = [
                (*cells, row.get("health"), row.get("workers"))
                for cells, row in zip(rows, services, strict=True)
            ]
        lines.append(table(head, rows))
    elif alive:
        lines.append("no service has a config yet: `config-daemon set stt-worker vad_threshold=0.6`")
    if not alive:
        lines.append(_gone(session) or _beginning(session.folder))
    return "\n".join(lines)


def _gone(session: Session) -> str:
    """Return what to do where there was a store and is none; empty where there is one, or never was."""
    if not session.files.marks.exists():
        return ""
    try:
        session.database  # noqa: B018 - it says so where there is none
    except StoreUnavailable as error:
        return f"{error.message}\n{error.suggestion}"
    return ""


def _beginning(folder: Path) -> str:
    """Return how a daemon is started on a folder as it is."""
    if not folder.is_dir():
        return (
            f"there is no data folder {folder}; make it: `config-daemon init --data {folder}`,"
            " or try everything out: `config-daemon dev`"
        )
    if (folder / DEV_LOG).exists():
        return (
            f"start everything again: `config-daemon dev --data {folder}`\n"
            f"or only the daemon, with the broker at MQTT_URL: `config-daemon run --data {folder}`"
        )
    return f"start it: `config-daemon run --data {folder}`"
