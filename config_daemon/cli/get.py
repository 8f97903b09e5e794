"""`get`: show a service's effective config, and where each value comes from."""

from __future__ import annotations

import json
from typing import Any

import click

from config_daemon.cli.session import Session, standard
from config_daemon.cli.shown import Shown, shown
from config_daemon.errors import NotFound


@click.command()
@click.argument("service")
@click.argument("key", required=False)
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
    config = shown(session, service)
    if config.note:
        session.say(f"note: {config.note}")
    if key is None:
        session.show(config.as_dict(source), lambda: _table(config, source))
        return
    found = _below(config.leaves(), key)
    if not found:
        raise NotFound(f"{service} has no value at {key!r}", suggestion=f"See `config-daemon get {service}`.")
    value = found[key] if key in found else config.at(key)
    data: Any = {"service": service, "key": key, "value": value}
    if source:
        data["source"] = config.source_of(key)
    session.show(data, lambda: _plain(value) + (f"\t{config.source_of(key)}" if source else ""))


def _below(leaves: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in leaves.items() if name == key or name.startswith(f"{key}.")}


def _table(config: Shown, source: bool) -> str:
    leaves = config.leaves()
    width = max(map(len, leaves), default=0)
    lines = []
    for name, value in leaves.items():
        text = json.dumps(value, ensure_ascii=False)
        lines.append(f"{name:<{width}}  {text}" + (f"  {config.source_of(name)}" if source else ""))
    return "\n".join([f"{config.service}  version {config.version}  {config.state}", *lines])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
