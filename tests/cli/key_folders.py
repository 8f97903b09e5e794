"""What the keys of a folder are, read past the program; a passphrase, and a cost at which tests can guess it."""

from __future__ import annotations

import re

from config_daemon.store.ground import load_ground
from config_daemon.store.keybackup import Cost
from config_daemon.store.keyrecord import backup_missing
from tests.cli.conftest import Cli

PHRASE = "correct horse \N{WHITE SMILING FACE}"
CHEAP = Cost(1, 8192)


def secrets_in(text: str) -> list[str]:
    """Return the core of each secret in a `.env`, as it would be shown."""
    found = re.findall(r"(?:BASE64=|PRIVATE KEY-----\\n)([A-Za-z0-9+/]{20,})", text)
    assert len(found) == 3
    return found


def secrets_of(cli: Cli) -> list[str]:
    return secrets_in(cli.files.environment.read_text())


def keys_of(cli: Cli) -> dict[str, str]:
    return {
        line.partition("=")[0]: line for line in cli.files.environment.read_text().splitlines() if "=" in line
    }


def missing(cli: Cli) -> str | None:
    return backup_missing(load_ground(cli.folder, {}, {}))
