"""`get`: show a service's effective config, and where each value comes from."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.arguments import Key, service_argument
from config_daemon.cli.session import Session, standard

if TYPE_CHECKING:
    from config_daemon.cli.shown import Shown


@click.command()
@service_argument
@click.argument("key", required=False, type=Key())
@click.option("--source", is_flag=True, help="Show where each value comes from: env, database or default.")
@standard
@click.pass_obj
def command(session: Session, service: str, key: str | None, source: bool) -> None:
    """Show a service's config as workers get it, or one value of it.

    \b
    config-daemon get stt-worker
    config-daemon get stt-worker vad_threshold
    config-daemon get stt-worker --source
    """
    from config_daemon.cli.shown import shown

    config = shown(session, service)
    if config.note:
        session.say(f"note: {config.note}")
    if key is None:
        session.show(config.as_dict(source), lambda: _table(config, source))
        return
    value = _value(session, config, key)
    if config.errors:
        session.say(f"note: {service} is {config.state} and not published: {config.errors[0]['message']}")
    data: Any = {"service": service, "key": key, "value": value}
    if source:
        data["source"] = config.source_of(key)
    if config.origin:
        data["from"] = config.origin
    session.show(data, lambda: _plain(value) + (f"\t{config.source_of(key)}" if source else ""))


def _value(session: Session, config: Shown, key: str) -> Any:
    try:
        return config.at(key)
    except KeyError:
        pass
    from config_daemon.cli.arguments import check_keys
    from config_daemon.errors import NotFound

    definition = session.catalog.get(config.service)
    if definition is not None:
        check_keys(definition, [key])
    raise NotFound(
        f"{config.service} has no value at '{key}'",
        suggestion=f"See `config-daemon get {config.service}`, or set one.",
    )


def _table(config: Shown, source: bool) -> str:
    from config_daemon.cli.printing import visible

    leaves = config.leaves()
    width = max(map(len, leaves), default=0)
    lines = []
    for name, value in sorted(leaves.items()):
        text = visible(json.dumps(value, ensure_ascii=False))
        lines.append(f"{visible(name):<{width}}  {text}" + (f"  {config.source_of(name)}" if source else ""))
    lines += [
        f"{error['message']} — {error['suggestion']}" for error in config.errors if "suggestion" in error
    ]
    return "\n".join([f"{config.service}  version {config.version}  {config.state}", *lines])


def _plain(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if not sys.stdout.isatty():
        return value
    from config_daemon.cli.printing import visible

    return "\n".join(map(visible, value.split("\n")))
