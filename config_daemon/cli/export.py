"""`export`: write the set values of services, for keeping or for moving."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from config_daemon.cli.arguments import Service
from config_daemon.cli.session import Session, standard


class _Kept(NamedTuple):
    version: int
    values: dict[str, Any]


@click.command()
@click.argument("service", nargs=-1, metavar="[SERVICE...]", type=Service())
@click.option(
    "--format", "kind", type=click.Choice(["json", "yaml", "env"]), help="How to write it [default: json]."
)
@standard
@click.pass_obj
def command(session: Session, service: tuple[str, ...], kind: str | None) -> None:
    """Write the set values of services, with their versions, to standard output; all services without a name.

    Defaults and what .env fixes are not among them. `import` reads every format back.

    \b
    config-daemon export > fleet.json
    config-daemon export stt-worker tts-worker --format yaml
    config-daemon export stt-worker --format env
    """
    from config_daemon.cli.printing import echo
    from config_daemon.errors import UsageError

    if session.as_json and kind not in (None, "json"):
        raise UsageError(
            f"--json and --format {kind} exclude each other", suggestion="Leave one of them out."
        )
    found = _chosen(session, service)
    writers = {"json": _json, "yaml": _yaml, "env": _env}
    text = "\n".join(writers[kind or "json"](session, found))
    if text:
        echo(text)
    if not found:
        session.say("no service has a config")


def _chosen(session: Session, services: tuple[str, ...]) -> dict[str, _Kept]:
    """Return the services with their set values, each once.

    Raises: NotFound for a service without a config; StoreCorrupted for one whose row was altered.
    """
    from config_daemon.cli.arguments import no_config
    from config_daemon.errors import NotFound
    from config_daemon.store.ports import BadRow, Row, Tombstone
    from config_daemon.store.reports import altered
    from config_daemon.store.stored import parse_stored

    rows = session.reports.rows()
    found: dict[str, _Kept] = {}
    for name in services or [name for name, row in rows.items() if not isinstance(row, Tombstone)]:
        row = rows.get(name)
        if isinstance(row, BadRow):
            raise altered(name)
        if row is None:
            raise no_config(session, name)
        if not isinstance(row, Row):
            raise NotFound(f"{name} is deleted", suggestion="Leave it out, or bring it back with `rollback`.")
        found[name] = _Kept(row.version, parse_stored(name, row.text))
    return found


def _json(_session: Session, found: dict[str, _Kept]) -> Iterator[str]:
    from config_daemon.cli.printing import json_text

    documents = [
        {"service": name, "version": kept.version, "config": kept.values} for name, kept in found.items()
    ]
    yield json_text(documents, sys.stdout, indent=2)


def _yaml(_session: Session, found: dict[str, _Kept]) -> Iterator[str]:
    from config_daemon.yaml_writing import lines_of

    for name, kept in found.items():
        yield "---"
        document: dict[str, Any] = {"service": name, "version": kept.version, "config": kept.values}
        yield from lines_of(document)


def _env(session: Session, found: dict[str, _Kept]) -> Iterator[str]:
    from config_daemon.cli.arguments import definition_of
    from config_daemon.cli.env_text import env_lines

    for name, kept in found.items():
        lines = env_lines(definition_of(session, name), kept.values)
        yield f"# {name}, version {kept.version}{'' if lines else ': no set values'}"
        yield from lines
        if not lines:
            session.say(f"note: {name} has a config without set values; a .env file cannot say that")
