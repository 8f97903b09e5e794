"""`keys`: the keys of this data folder."""

from __future__ import annotations

import click

from config_daemon.cli.session import Session, standard


@click.group()
@standard
def command() -> None:
    """Show the keys of this data folder; no private key is ever printed."""


@command.command()
@click.option("--hex", "as_hex", is_flag=True, help="As 64 hex digits instead of PEM.")
@standard
@click.pass_obj
def public(session: Session, as_hex: bool) -> None:
    """Print the public key that workers trust.

    \b
    config-daemon keys public > /etc/config-daemon/public.pem
    CONFIG_SIGNATURE_PUBLIC_KEY=$(config-daemon keys public --hex)
    """
    from config_daemon.wire.keys import key_id, public_key_pem

    key = session.ground.keys.public_key()
    pem, digits = public_key_pem(key), bytes(key).hex()
    facts = {"key_id": key_id(bytes(key)), "pem": pem, "hex": digits}
    session.show(facts, lambda: digits if as_hex else pem.removesuffix("\n"))
