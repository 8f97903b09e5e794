"""What every command shares: where the data is, how to print, and the store behind it.

Laws: data goes to stdout, talk to stderr; with `--json` errors are JSON too; nothing heavy is imported
until a command needs it; every error ends in one exit code of docs/cli.md.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from config_daemon.errors import ConfigDaemonError, ErrorContext
from config_daemon.store import locks
from config_daemon.store.ground import Ground, find_folder, load_ground
from config_daemon.store.status import StatusView

if TYPE_CHECKING:
    from config_daemon.catalog.catalog import Catalog
    from config_daemon.store.sqlite import SqliteReader
    from config_daemon.store.writer import SqliteWriter

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Session:
    """One invocation of the program."""

    as_json: bool = False
    data: str | None = None
    _open: list[Any] = field(default_factory=list)

    @cached_property
    def folder(self) -> Path:
        """Return the data folder that was meant."""
        return find_folder(self.data, os.environ)

    @cached_property
    def ground(self) -> Ground:
        """Return the folder's settings, files and keys.

        Raises: SettingsError.
        """
        return load_ground(self.folder, os.environ, {})

    @cached_property
    def catalog(self) -> Catalog:
        """Return all service definitions."""
        from config_daemon.catalog.catalog import Catalog

        return Catalog.load(self.ground.settings.schema_folder or self.ground.files.schemas)

    @cached_property
    def view(self) -> StatusView:
        """Return what the daemon last said."""
        return StatusView(self.ground.files.status)

    @property
    def daemon_alive(self) -> bool:
        """Tell whether a daemon runs on this folder."""
        return locks.is_held(self.ground.files.daemon_lock)

    def reader(self) -> SqliteReader:
        """Return a reader of the store.

        Raises: KeyUnavailable.
        """
        from config_daemon.store.sqlite import SqliteReader

        return SqliteReader(self.ground.files.database, self.ground.keys.row_sealer())

    def writer(self) -> SqliteWriter:
        """Return a writer of the store.

        Raises: KeyUnavailable.
        """
        from config_daemon.store.transaction import Rules
        from config_daemon.store.writer import SqliteWriter
        from config_daemon.wire.messages import timestamp

        return SqliteWriter(
            self.ground.files.database,
            self.ground.keys.row_sealer(),
            self.catalog,
            lock=self.ground.files.store_lock,
            now=lambda: timestamp(time.time_ns() // 1_000_000),
            rules=Rules(fixed=self.fixed, max_message_bytes=self.ground.settings.max_message_bytes),
        )

    def fixed(self, service: str, key: str) -> str | None:
        """Return `file:line` where `.env` fixes a key, None when it does not."""
        place = self.view.env_lock(service, key)
        return f"{place[0]}:{place[1]}" if place else None

    @property
    def actor(self) -> str:
        """Return who is acting, for the history."""
        return f"cli:{getpass.getuser()}"

    def show(self, data: Any, text: Callable[[], str]) -> None:
        """Print a result: as JSON when asked to, else as text."""
        click.echo(json.dumps(data, ensure_ascii=False, default=str) if self.as_json else text())

    def say(self, text: str) -> None:
        """Tell a person something beside the result."""
        if not self.as_json:
            click.echo(text, err=True)


def standard(command: Command) -> Command:
    """Give a command the options that every command has: `--json` and `--data`."""

    def keep_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Session).as_json = True

    def keep_data(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        if value:
            context.ensure_object(Session).data = value

    for option in (
        click.option("--json", is_flag=True, expose_value=False, callback=keep_json, help="Print JSON, errors too."),
        click.option(
            "--data", metavar="DIR", expose_value=False, callback=keep_data, is_eager=True,
            help="The data folder (else $CONFIG_DAEMON_DATA, ./.config-daemon, /var/lib/config-daemon).",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def print_error(error: ConfigDaemonError, as_json: bool) -> None:
    """Print an error with everything that helps to mend it."""
    if as_json:
        body = {"error": error.code, "message": error.message, "exit_code": error.exit_code,
                "errors": [context.as_dict() for context in error.contexts]}  # fmt: skip
        click.echo(json.dumps(body, ensure_ascii=False), err=True)
        return
    paint = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    click.echo(
        click.style("error: ", fg="red", bold=True) + error.message if paint else f"error: {error.message}",
        err=True,
    )
    contexts = error.contexts
    if len(contexts) > 1:
        for context in contexts:
            click.echo(f"  {context.message}{_hint(context)}", err=True)
    else:
        click.echo(f"  {contexts[0].suggestion or error.suggestion}", err=True)


def _hint(context: ErrorContext) -> str:
    return f" — {context.suggestion}"
