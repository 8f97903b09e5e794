"""`keys rotate`: bring another signing key, in three steps that may be days apart, or another HMAC key."""

from __future__ import annotations

import click

from config_daemon.cli.session import Session, standard
from config_daemon.errors import UsageError

root_key_option = click.option(
    "--root-key",
    metavar="FILE",
    help="A private root key (PEM, mode 0600), where the root is kept elsewhere.",
)


@click.command(short_help="Bring another signing key, or another HMAC key.")
@click.option("--activate", is_flag=True, help="Have the daemon sign with the staged key now.")
@click.option("--retire", is_flag=True, help="Take the old key out, once the new one signs.")
@click.option("--hmac", is_flag=True, help="Rotate the key of the LKG and the marks instead.")
@root_key_option
@click.option(
    "--new-key-file", metavar="FILE", help="Where the new key goes, when keys are not kept in .env."
)
@click.option("--without-backup", is_flag=True, help="Activate a key that is in no backup.")
@standard
@click.pass_obj
def rotate(
    session: Session, activate: bool, retire: bool, hmac: bool, root_key: str | None, new_key_file: str | None,
    without_backup: bool,
) -> None:  # fmt: skip
    """Stage a new signing key; later activate it and retire the old one. Safe to repeat at every step.

    Staging makes the key and issues a keyring that lists both. The new key signs by itself once the grace
    window is over (CONFIG_DAEMON_KEY_GRACE_SECONDS) and it is in a backup; --activate does not wait.

    \b
    config-daemon keys rotate
    config-daemon keys backup /media/stick/fleet-2.keys
    config-daemon keys rotate --activate        (or wait)
    config-daemon keys rotate --retire

    \b
    config-daemon keys rotate --hmac
    config-daemon keys rotate --hmac --retire
    """
    _refuse_mixtures(activate, retire, hmac, root_key, new_key_file, without_backup)
    from config_daemon.cli import keys_activate, keys_hmac, keys_retire, keys_stage
    from config_daemon.cli.keys_desk import at_desk

    with at_desk(session) as desk:
        if hmac:
            (keys_hmac.retire if retire else keys_hmac.rotate)(desk)
        elif activate:
            keys_activate.activate(desk, without_backup)
        elif retire:
            keys_retire.retire(desk, root_key)
        else:
            keys_stage.stage(desk, root_key, new_key_file)


def _refuse_mixtures(
    activate: bool, retire: bool, hmac: bool, root_key: str | None, new_key_file: str | None, without_backup: bool
) -> None:  # fmt: skip
    mend = "See `config-daemon keys rotate --help`."
    if activate and (retire or hmac):
        raise UsageError("--activate goes with neither --retire nor --hmac", suggestion=mend)
    if without_backup and not activate:
        raise UsageError("--without-backup goes with --activate only", suggestion=mend)
    if new_key_file is not None and (activate or retire or hmac):
        raise UsageError("--new-key-file goes with staging only", suggestion=mend)
    if root_key is not None and (activate or hmac):
        raise UsageError("--root-key is not needed here: no keyring is issued", suggestion=mend)
