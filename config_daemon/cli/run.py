"""`run`: the daemon in the foreground."""

from __future__ import annotations

import os

import click

from config_daemon.cli.session import Session, standard
from config_daemon.errors import SettingsError


@click.command()
@standard
@click.pass_obj
def command(session: Session) -> int:
    """Run the daemon in the foreground, until SIGTERM or Ctrl-C.

    \b
    config-daemon run --data /var/lib/config-daemon
    """
    if not session.folder.is_dir():
        raise SettingsError(
            f"there is no data folder {session.folder}",
            suggestion=f"Run `config-daemon init --data {session.folder}`, or name the right one with --data.",
        )
    if not os.access(session.folder, os.W_OK | os.X_OK):
        raise session.forbidden(session.folder)
    from config_daemon.daemon.main import run

    return run(session.folder, os.environ, {})
