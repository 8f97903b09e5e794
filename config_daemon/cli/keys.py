"""`keys`: the keys of this data folder, and the keyring that says which of them may sign."""

from __future__ import annotations

import click

from config_daemon.cli.keys_backup import backup
from config_daemon.cli.keys_list import list_, public
from config_daemon.cli.keys_restore import restore
from config_daemon.cli.keys_revoke import revoke
from config_daemon.cli.keys_root import merge, split_root
from config_daemon.cli.keys_rotate import rotate
from config_daemon.cli.session import standard


@click.group()
@standard
def command() -> None:
    """Show, back up, restore, rotate and revoke the keys of this data folder; no private key is ever printed."""


for _each in (list_, public, backup, restore, rotate, revoke, split_root, merge):
    command.add_command(_each)
