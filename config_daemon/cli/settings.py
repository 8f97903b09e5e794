"""`settings`: what the daemon's own settings are, and where each comes from."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from config_daemon.cli.session import Session, standard


@click.group()
@standard
def command() -> None:
    """Show the settings of config-daemon itself; services' values are shown by `get`."""


@command.command()
@standard
@click.pass_obj
def show(session: Session) -> None:
    """Show every setting: value, unit, where it comes from, what it means. Passwords are never shown.

    The command line beats the environment, that beats .env, that beats config-daemon.toml, that beats
    the default.

    \b
    config-daemon settings show
    CONFIG_DAEMON_LOG_LEVEL=debug config-daemon settings show --json
    """
    from config_daemon.cli.tables import table

    data = described(session)
    rows = [
        (d["name"], "" if d["value"] is None else d["value"], d["unit"], d["source"], d["meaning"])
        for d in data
    ]
    session.show(data, lambda: table(("setting", "value", "unit", "from", "what it means"), rows))


def described(session: Session) -> list[dict[str, Any]]:
    """Return every setting as JSON values; a path that has no value of its own is shown where it leads."""
    ground = session.ground
    settings, files = ground.settings, ground.files
    places = {
        "db_path": files.database, "lkg_path": files.cache, "epoch_path": files.epoch, "schema_folder": files.schemas,
    }  # fmt: skip
    found = []
    for field in fields(settings):
        if "env" not in field.metadata:
            continue
        value = getattr(settings, field.name)
        value = places.get(field.name) if value is None else value
        found.append(
            {
                "name": field.metadata["env"],
                "value": value if isinstance(value, int | float | None) else str(value),
                "unit": field.metadata["unit"],
                "source": settings.sources.get(field.name, "default"),
                "meaning": field.metadata["doc"],
            }
        )
    return found
