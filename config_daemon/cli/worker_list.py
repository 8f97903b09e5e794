"""`worker list`: every worker that is expected or was seen, and how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.session import Session, standard

if TYPE_CHECKING:
    from config_daemon.store.edgeboard import WorkerView
    from config_daemon.store.ports import Workers

HEAD = ("worker", "service", "state", "runs", "wanted", "seen", "flags", "why")


@click.command(name="list", short_help="Show the workers and what they run.")
@click.argument("name", required=False)
@standard
@click.pass_obj
def list_(session: Session, name: str | None) -> None:
    """List the workers, or the one that is named: what they run, what is wanted, and why they differ.

    Each of their services has a line.

    Who is not expected is `unverified`: anybody may speak in any name, and nothing of it counts.

    \b
    config-daemon worker list
    config-daemon worker list box-7
    config-daemon worker list --json
    """
    from config_daemon.cli.edge_told import ago
    from config_daemon.cli.tables import table

    found = listed(session) if name is None else _named(name, listed(session))
    rows = [
        (one["worker"], one["service"], one["state"], one["runs"] or "",
         "deleted" if one["deleted"] else one["wanted"] or "", ago(one["seen_seconds"]),
         " ".join(one["flags"]), one["why"])
        for one in found
    ]  # fmt: skip
    session.show(found, lambda: table(HEAD, rows) if rows else None)
    if not rows:
        session.say("no worker is expected: `config-daemon worker add NAME --service S --keys FILE`")
    elif not session.daemon_alive:
        session.say("note: no daemon is running; nobody hears what these workers say")


def _named(name: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of one worker. Raises: NotFound."""
    from config_daemon.cli.worker_remove import no_worker

    its = [one for one in found if one["worker"] == name]
    if not its:
        raise no_worker(name, {one["worker"] for one in found})
    return its


def listed(session: Session) -> list[dict[str, Any]]:
    """Return all workers by name, as JSON-ready facts; what is expected comes from the store."""
    from config_daemon.cli.edge_told import with_other_keys

    reader = session.reader()
    try:
        expected = reader.workers()
    finally:
        reader.close()
    alive = session.daemon_alive
    seen = {(one.worker, one.service): one for one in session.edge.workers()}
    wanted = {row.service: (row.config_version, row.state == "deleted") for row in session.view.services()}
    others = with_other_keys(session.view.conditions()) if alive else set()
    pairs = {(row.worker, service) for row in expected.rows.values() for service in row.services}
    strangers = (
        {pair for pair, one in seen.items() if pair not in pairs and not one.expected} if alive else set()
    )
    found = [
        _facts(pair, seen.get(pair), expected, wanted.get(pair[1], (None, False)), alive, pair[0] in others)
        for pair in sorted(pairs | strangers)
    ]
    return found + [_altered(name) for name in expected.altered]


def _facts(
    pair: tuple[str, str], line: WorkerView | None, expected: Workers, wanted: tuple[int | None, bool], alive: bool,
    has_other_keys: bool,
) -> dict[str, Any]:  # fmt: skip
    from config_daemon.cli.edge_told import flags, goes_on, runs, why

    (worker, service), (version, is_deleted) = pair, wanted
    row = expected.rows.get(worker)
    is_expected = row is not None and service in row.services
    line = line if line is not None and line.expected == is_expected else None
    state = (line.state if line and alive else None) or "unknown"
    age = line.age_seconds() if line else None
    return {
        "worker": worker, "service": service, "expected": is_expected, "state": state if is_expected else "unverified",
        "runs": runs(line) if line else None, "wanted": version, "deleted": is_deleted,
        "seen_at": line.seen_at if line else None,
        "seen_seconds": None if age is None else round(age), "presence": (line.presence or None) if line else None,
        "flags": flags(line) if line else [], "reason": line.reason if line else None,
        "left_at": line.presence_at if line and line.has_left else None,
        "why": (why(line, has_other_keys) or (goes_on(line) if is_deleted else "")) if line and alive else "",
        "fingerprint": row.keys.fingerprint if row and is_expected else None,
        "response_time_ms": line.response_time_ms if line else None, "applied_ms": line.applied_ms if line else None,
        "status": line.status or None if line else None,
    }  # fmt: skip


def _altered(worker: str) -> dict[str, Any]:
    """Return the facts of a row that cannot be believed."""
    empty = dict.fromkeys(
        ("runs", "wanted", "seen_at", "seen_seconds", "presence", "left_at", "reason", "fingerprint",
         "response_time_ms", "applied_ms", "status")
    )  # fmt: skip
    return {
        "worker": worker, "service": "", "expected": False, "state": "row-altered", **empty, "deleted": False,
        "flags": [],
        "why": "its row was altered outside config-daemon: add it again with --replace, or remove it",
    }  # fmt: skip
