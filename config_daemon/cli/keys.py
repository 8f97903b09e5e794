"""`keys`: the keys of this data folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.keys_backup import backup, restore, warn_unless_backed_up
from config_daemon.cli.session import Session, standard
from config_daemon.cli.tables import table
from config_daemon.errors import KeyUnavailable

if TYPE_CHECKING:
    from config_daemon.store.keyfiles import Source


@click.group()
@standard
def command() -> None:
    """Show, back up and restore the keys of this data folder; no private key is ever printed."""


command.add_command(backup)
command.add_command(restore)


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


@command.command("list")
@standard
@click.pass_obj
def list_(session: Session) -> None:
    """List the keys: what each is for, its id, where it comes from, when it was backed up."""
    from config_daemon.store.keylist import encryption_metadata, held
    from config_daemon.store.keyrecord import backed_up

    found = backed_up(session.ground.files, held(session.ground.keys))
    if not any(key.key_id for key in found):
        raise KeyUnavailable(f"no key can be had in {session.folder}")
    facts = encryption_metadata(tuple(found)) | {
        "keys": [
            {"purpose": key.purpose, "key_id": key.key_id, "source": _facts(key.source), "backed_up": at}
            for key, at in found.items()
        ]
    }
    rows = [
        (key.purpose, key.key_id or "unknown", str(key.source or "not to be had here"), at or "never")
        for key, at in found.items()
    ]
    session.show(facts, lambda: table(("key", "id", "from", "backed up"), rows))
    warn_unless_backed_up(session)


def _facts(source: Source | None) -> dict[str, Any] | None:
    return {"kind": source.kind, "path": str(source.path), "line": source.line} if source else None
