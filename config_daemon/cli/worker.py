"""`worker`: who is expected to run which service, and how they are."""

from __future__ import annotations

import click

from config_daemon.cli.session import standard
from config_daemon.cli.worker_add import add
from config_daemon.cli.worker_list import list_
from config_daemon.cli.worker_remove import remove


@click.group()
@standard
def command() -> None:
    """Say which workers are expected, with which keys, and see what they run.

    \b
    config-daemon worker add box-7 --service stt-worker --keys box-7.json
    config-daemon worker list
    """


for _each in (add, list_, remove):
    command.add_command(_each)
