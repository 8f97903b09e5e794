"""What every command shares: where the data is, what may be written now, and the store behind it.

Laws: nothing is imported before a command needs it; every error ends in one exit code of docs/cli.md;
whoever acts is named by the user id and never by the environment; with `--json` nobody is asked.
"""

from __future__ import annotations

import os
import pwd
import select
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from config_daemon.cli.printing import echo, json_text, print_error
from config_daemon.errors import (
    ConfigDaemonError,
    KeyUnavailable,
    SettingsError,
    StoreUnavailable,
    UsageError,
)

if TYPE_CHECKING:
    from config_daemon.catalog.catalog import Catalog
    from config_daemon.store.edgeboard import EdgeView
    from config_daemon.store.files import Files
    from config_daemon.store.ground import Ground
    from config_daemon.store.reports import StoreReports
    from config_daemon.store.seals import RowSealer
    from config_daemon.store.sqlite import SqliteReader
    from config_daemon.store.status import StatusView
    from config_daemon.store.writer import SqliteWriter

__all__ = ["Declined", "Session", "print_error", "standard"]

Command = TypeVar("Command", bound=Callable[..., Any])
DEV_LOG = "daemon.log"  # only `dev` has its daemon write a file; elsewhere systemd takes what it says


class Declined(ConfigDaemonError):
    """A person was asked and said no."""

    code = "DECLINED"
    suggestion = "Run the command again when you want it."


@dataclass
class Session:
    """One invocation of the program."""

    as_json: bool = False
    data: str | None = None

    @cached_property
    def folder(self) -> Path:
        """Return the data folder that was meant.

        Raises: UsageError when it cannot be one.
        """
        from config_daemon.store.ground import find_folder

        folder = find_folder(self.data, os.environ)
        try:
            str(folder).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{str(folder)!a} is no path in UTF-8", suggestion="Name the data folder in UTF-8."
            ) from error
        there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not there.is_dir():
            raise UsageError(
                f"{there} is no folder",
                suggestion="Name the data folder with --data; its database is config.db in it.",
            )
        return folder

    @cached_property
    def files(self) -> Files:
        """Return the files whose places no setting moves: locks, status, requests."""
        from config_daemon.store.files import Files

        return Files.below(self.folder)

    @cached_property
    def ground(self) -> Ground:
        """Return the folder's settings, files and keys.

        Raises: SettingsError; StoreUnavailable when the folder may not be entered.
        """
        from config_daemon.store.ground import load_ground

        if self.folder.is_dir() and not os.access(self.folder, os.X_OK):
            raise self.forbidden(self.folder)
        return load_ground(self.folder, os.environ, {})

    @cached_property
    def catalog(self) -> Catalog:
        """Return all service definitions."""
        from config_daemon.catalog.catalog import Catalog

        return Catalog.load(self.ground.settings.schema_folder or self.ground.files.schemas)

    @cached_property
    def view(self) -> StatusView:
        """Return what the daemon last said.

        Raises: StoreUnavailable when this user may not read it.
        """
        from config_daemon.store.status import StatusView

        return StatusView(self._status_file)

    @cached_property
    def edge(self) -> EdgeView:
        """Return what the daemon last said of workers.

        Raises: StoreUnavailable when this user may not read it.
        """
        from config_daemon.store.edgeboard import EdgeView

        return EdgeView(self._status_file)

    @property
    def _status_file(self) -> Path:
        path = self.files.status
        try:
            path.stat()
        except PermissionError as error:
            raise self.forbidden(path) from error
        except OSError:
            pass  # not there: nothing was said yet
        else:
            if not os.access(path, os.R_OK):
                raise self.forbidden(path)
        return path

    def need_folder(self) -> None:
        """Go on only where there is a data folder.

        Raises: SettingsError.
        """
        if not os.path.lexists(self.folder):
            raise SettingsError(
                f"there is no data folder {self.folder}",
                suggestion=f"Name the right one with --data, or make it: `config-daemon init --data {self.folder}`.",
            )

    @property
    def daemon_alive(self) -> bool:
        """Tell whether a daemon runs on this folder.

        Raises: StoreUnavailable when its lock may not be looked at.
        """
        from config_daemon.store import locks

        try:
            return locks.is_held(self.files.daemon_lock)
        except PermissionError as error:
            raise self.forbidden(self.files.daemon_lock) from error

    @cached_property
    def database(self) -> Path:
        """Return the path of the database, which is there.

        Raises: StoreUnavailable naming the path that was looked at.
        """
        path = self.ground.files.database
        try:
            path.stat()
        except PermissionError as error:
            raise self.forbidden(path) from error
        except OSError as error:
            raise StoreUnavailable(f"there is no store at {path}", suggestion=self._beginning) from error
        return path

    @property
    def _beginning(self) -> str:
        """Return what to do where there is no store: `init` makes none anew where there was one."""
        if self.files.marks.exists() or self.ground.files.cache.exists():
            return "Make it anew with `config-daemon rebuild`, or put a copy back: `config-daemon restore --from FILE`."
        return f"Run `config-daemon init --data {self.folder}`, or name the right folder with --data."

    @cached_property
    def sealer(self) -> RowSealer:
        """Return what seals and checks rows.

        Raises: KeyUnavailable, saying so when `.env` is there and this user may not read it.
        """
        try:
            return self.ground.keys.row_sealer()
        except KeyUnavailable as error:
            env = self.ground.files.environment
            if self.ground.env_file is not None or not env.exists():
                raise
            raise KeyUnavailable(
                f"{env} may not be read by {user_name(os.getuid())}, and the key of the store is in it",
                suggestion=f"Run this as its owner: `sudo -u {user_name(env.stat().st_uid)} config-daemon …`.",
            ) from error

    def reader(self) -> SqliteReader:
        """Return a reader of the store.

        Raises: KeyUnavailable, StoreUnavailable.
        """
        from config_daemon.store.sqlite import SqliteReader

        return SqliteReader(self.database, self.sealer)

    @cached_property
    def reports(self) -> StoreReports:
        """Return what answers questions about the store.

        Raises: KeyUnavailable, StoreUnavailable.
        """
        from config_daemon.store.reports import StoreReports

        return StoreReports(self.database, self.sealer)

    def writer(self) -> SqliteWriter:
        """Return a writer of the store; it refuses what `.env` fixes and what a daemon in trouble forbids.

        Raises: KeyUnavailable, StoreUnavailable.
        """
        import time

        from config_daemon.cli.fixed import FixedValues
        from config_daemon.store.transaction import Rules
        from config_daemon.store.writer import SqliteWriter
        from config_daemon.wire.messages import timestamp

        return SqliteWriter(
            self.database,
            self.sealer,
            self.catalog,
            lock=self.files.store_lock,
            now=lambda: timestamp(time.time_ns() // 1_000_000),
            rules=Rules(
                fixed=FixedValues(self).place, max_message_bytes=self.ground.settings.max_message_bytes
            ),
            refusal=self.refusal,
        )

    def refusal(self, services: Collection[str], adopt: bool) -> str | None:
        """Return why a living daemon forbids this write now, None when it does not."""
        from config_daemon.store.refusal import refusal_of

        if not self.daemon_alive:
            return None
        return refusal_of(self.view.daemon(), self.view.conditions(), services, adopt)

    @property
    def actor(self) -> str:
        """Return who is acting, for the history."""
        return f"cli:{user_name(os.getuid())}"

    def show(self, data: Any, text: Callable[[], str | None]) -> None:
        """Print a result: as JSON when asked to, else as text; None prints nothing."""
        shown = json_text(data, sys.stdout) if self.as_json else text()
        if shown is not None:
            echo(shown)

    def say(self, text: str) -> None:
        """Tell a person something beside the result."""
        if not self.as_json:
            echo(text, err=True)

    def confirm(self, question: str, yes: bool) -> None:
        """Go on only when a person agrees.

        Raises: Declined; UsageError when nobody can be asked.
        """
        if yes:
            return
        if not self.as_json:
            prompt, is_answered = f"{question} [y/N] ", _is_answered()
            if not is_answered:
                click.echo(prompt, err=True, nl=False)
            try:
                answer = sys.stdin.readline() if sys.stdin is not None else ""
            except UnicodeDecodeError:
                answer = "?"
            if is_answered and answer:
                click.echo(prompt, err=True)
            if answer.strip().lower() in ("y", "yes"):
                return
            if answer:
                raise Declined("nothing was changed")
            if not is_answered:
                click.echo(err=True)
        raise UsageError(
            f"this needs a yes, and nobody can be asked here; nothing was changed. The question was: {question}",
            suggestion="Add --yes to go on without being asked.",
        )

    def forbidden(self, path: Path) -> StoreUnavailable:
        """Return the error for a path that this user may not use."""
        return StoreUnavailable(
            f"{user_name(os.getuid())} may not use {path}",
            suggestion=f"Run this as the owner of {self.folder}, or as a member of its group.",
        )


def _is_answered() -> bool:
    """Tell whether nobody has to be asked: without a terminal an answer is there already, or there is none."""
    try:
        return sys.stdin is None or (
            not sys.stdin.isatty() and bool(select.select([sys.stdin], [], [], 0)[0])
        )
    except (OSError, ValueError):  # closed, or no file of the system's
        return True


def user_name(uid: int) -> str:
    """Return a user's name, or `uid-N` where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def standard(command: Command) -> Command:
    """Give a command the options that every command has: `--json` and `--data`."""

    def keep_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Session).as_json = True

    def keep_data(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            if not value:
                raise UsageError("--data names no folder", suggestion="Write --data DIR.")
            context.ensure_object(Session).data = value

    for option in (
        click.option("--json", is_flag=True, expose_value=False, callback=keep_json, help="Print JSON, errors too."),
        click.option(
            "--data", metavar="DIR", expose_value=False, callback=keep_data, is_eager=True,
            type=click.Path(readable=False),
            help="The data folder (else $CONFIG_DAEMON_DATA, ./.config-daemon, /var/lib/config-daemon).",
        ),
    ):  # fmt: skip
        command = option(command)
    return command
