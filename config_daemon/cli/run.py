"""`run`: the daemon in the foreground."""

from __future__ import annotations

import os

import click

from config_daemon.cli.session import Session, standard


@click.command()
@standard
@click.pass_obj
def command(session: Session) -> int:
    """Run the daemon in the foreground, until SIGTERM or Ctrl-C."""
    from config_daemon.daemon.main import run

    return run(session.folder, os.environ, {})
