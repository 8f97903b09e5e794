"""`diff`: how two versions of a service differ, or a file from what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.session import Session, standard

if TYPE_CHECKING:
    from collections.abc import Mapping

DIFFERS = 6


@click.command()
@click.argument("what", metavar="SERVICE|FILE")
@click.option(
    "--from",
    "start",
    type=click.IntRange(min=0),
    metavar="N",
    help="The older version (else the one before).",
)
@click.option(
    "--to", "end", type=click.IntRange(min=0), metavar="M", help="The newer version (else the present one)."
)
@click.option("--exit-code", is_flag=True, help="Exit 6 when there is a difference.")
@standard
@click.pass_obj
def command(session: Session, what: str, start: int | None, end: int | None, exit_code: bool) -> int:
    """Show what changed between two versions of a service, or what applying a file would change.

    A name without a dot or a slash is a service. FILE may be - for standard input.

    \b
    config-daemon diff stt-worker
    config-daemon diff stt-worker --from 3 --to 7
    config-daemon diff fleet.yaml --exit-code
    """
    a_file = what == "-" or "." in what or "/" in what
    found = _against_file(session, what, start, end) if a_file else [_versions(session, what, start, end)]
    data = [one for one, _ in found]
    session.show(data if a_file else data[0], lambda: "\n".join(_page(*one) for one in found))
    return DIFFERS if exit_code and any(one["differs"] for one in data) else 0


def _versions(
    session: Session, service: str, start: int | None, end: int | None
) -> tuple[dict[str, Any], Any]:
    from config_daemon.catalog.definition import is_service_name
    from config_daemon.cli.arguments import past_of, unknown_service

    if not is_service_name(service):
        raise unknown_service(session, service)
    newer = past_of(session, service, end)
    older = past_of(session, service, max(newer.version - 1, 0) if start is None else start)
    return _compared(service, older.version, older.values, newer.version, newer.values)


def _against_file(
    session: Session, file: str, start: int | None, end: int | None
) -> list[tuple[dict[str, Any], Any]]:
    from config_daemon.cli.documents import read_documents
    from config_daemon.errors import NotFound, UsageError

    if start is not None or end is not None:
        raise UsageError("a file has no versions", suggestion="Leave --from and --to out.")
    found = []
    for document in read_documents([file]):
        try:
            past = session.reports.at_version(document.service)
            version, values = (0 if past.deleted else past.version), past.values
        except NotFound:
            version, values = 0, {}
        found.append(_compared(document.service, version, values, file, document.values))
    return found


def _compared(
    service: str, start: int, before: Mapping[str, Any], end: int | str, after: Mapping[str, Any]
) -> tuple[dict[str, Any], Any]:
    from config_daemon.cli.changes import as_json, difference

    changed = difference(before, after)
    return {
        "service": service, "from": start, "to": end, "differs": bool(changed), "changed": as_json(changed),
    }, changed  # fmt: skip


def _page(data: dict[str, Any], changed: Any) -> str:
    from config_daemon.cli.printing import difference_lines, visible

    to = f"version {data['to']}" if isinstance(data["to"], int) else visible(data["to"])
    head = f"{visible(data['service'])}  version {data['from']} → {to}"
    return "\n".join([head, *difference_lines(changed)] if changed else [f"{head}: no difference"])
