"""`search`: find settings of services by what they are called or what they are for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from config_daemon.cli.arguments import Service, unknown_service
from config_daemon.cli.session import Session, standard
from config_daemon.cli.words import counted
from config_daemon.errors import KeyUnavailable, StoreError

if TYPE_CHECKING:
    from config_daemon.store.reports import Item

_TYPES = ["string", "integer", "float", "boolean", "enum", "path", "secret", "list", "object"]


class _Hit(NamedTuple):
    """One found key; lower ranks come first."""

    rank: int
    service: str
    key: str
    type: str
    complexity: str
    value_json: str | None
    description: str
    help_text: str


@click.command()
@click.argument("text")
@click.option("--service", type=Service(), metavar="NAME", help="Only in this service.")
@click.option(
    "--advanced", is_flag=True, help="Also advanced keys; they are found by their exact name without it."
)
@click.option("--type", "kind", type=click.Choice(_TYPES), help="Only keys of this type.")
@standard
@click.pass_obj
def command(session: Session, text: str, service: str | None, advanced: bool, kind: str | None) -> None:
    """Find keys by key name, description, help or service; every word of TEXT must occur.

    \b
    config-daemon search silence
    config-daemon search "voice sure"
    config-daemon search "" --service router --advanced
    """
    from config_daemon.cli.tables import table

    if service is not None and session.catalog.get(service) is None:
        raise unknown_service(session, service)
    found = sorted(hit for hit in _hits(session, text, service) if kind in (None, hit.type))
    hits = [hit for hit in found if advanced or hit.complexity == "simple" or _names(text, hit)]
    data = [
        {
            "service": h.service, "key": h.key, "type": h.type, "complexity": h.complexity, "value": h.value_json,
            "description": h.description, "help": h.help_text,
        }
        for h in hits
    ]  # fmt: skip
    rows = [
        (h.service, h.key, h.type, "" if h.value_json is None else h.value_json, h.description) for h in hits
    ]
    session.show(
        data, lambda: table(("service", "key", "type", "set to", "what it is"), rows) if rows else None
    )
    if hidden := len(found) - len(hits):
        session.say(f"{counted(hidden, 'advanced key is', 'advanced keys are')} hidden: --advanced shows all")
    elif not hits:
        session.say("nothing was found")


def _hits(session: Session, text: str, service: str | None) -> Iterator[_Hit]:
    words = text.lower().split()
    items = {(item.service, item.key): item for item in _items(session)}
    for name in [service] if service else session.catalog.names():
        definition = session.catalog.get(name)
        if definition is None:
            continue
        for field in definition.fields.values():
            item = items.pop((name, field.key), None)
            value = item.value_json if item and not field.is_secret else None
            hit = _Hit(
                0, name, field.key, field.type, field.complexity, value, field.description, field.help_text
            )
            yield from _ranked(words, hit)
    for item in items.values():  # values whose definition is gone, or members of free objects
        if service in (None, item.service):
            yield from _ranked(words, _of_item(item))


def _items(session: Session) -> list[Item]:
    try:
        return session.reports.items()
    except (StoreError, KeyUnavailable) as error:
        session.say(f"note: values are not shown: {error.message}")
        return []


def _of_item(item: Item) -> _Hit:
    return _Hit(
        0,
        item.service,
        item.key,
        item.type,
        item.complexity,
        item.value_json,
        item.description,
        item.help_text,
    )


def _ranked(words: list[str], hit: _Hit) -> Iterator[_Hit]:
    places = [part.lower() for part in (hit.key, hit.service, hit.description, hit.help_text)]
    ranks = [next((rank for rank, place in enumerate(places) if word in place), None) for word in words]
    if None not in ranks:
        exact = words == [places[0]] or words == [places[0].rpartition(".")[2]]
        yield hit._replace(rank=-1 if exact else max((rank for rank in ranks if rank is not None), default=0))


def _names(text: str, hit: _Hit) -> bool:
    wanted = text.strip()
    return wanted in (
        hit.key,
        hit.key.rpartition(".")[2],
        f"{hit.service}.{hit.key}",
        f"{hit.service} {hit.key}",
    )
