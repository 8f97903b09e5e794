"""`status` and `keys list` say that a rotation is open, and what it waits for."""

from __future__ import annotations

import pytest

from config_daemon.store import keybackup
from tests.cli.conftest import Cli
from tests.cli.key_folders import CHEAP, PHRASE
from tests.cli.keyring_folders import held, ids, note_signing


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passphrases cost half a second each otherwise, and memory."""
    monkeypatch.setattr(keybackup.sealed, "__defaults__", (CHEAP,))


def _both(cli: Cli) -> str:
    said = [cli.ok("keys", "list").out, cli("status").out]
    lines = {next((line for line in text.splitlines() if line.startswith("a rotation")), "") for text in said}
    assert len(lines) == 1, "both say the same"
    return lines.pop()


def test_a_rotation_is_told_at_each_step(cli: Cli) -> None:
    old = ids(cli)["signing"]
    assert (_both(cli), cli("status", "--json").data["rotation"]) == ("", None)
    staged = cli.json("keys", "rotate")
    new, at = staged["key_id"], staged["activates_at"]
    assert f"key {new} is staged, and waits for a backup" in _both(cli)
    cli.ok("keys", "backup", str(cli.folder.parent / "stick"), text=PHRASE)
    assert f"key {new} is staged, and signs from {at} on" in _both(cli)
    note_signing(cli.files, held(cli), new)
    line = _both(cli)
    assert f"key {new} signs, and {old} is old" in line and "keys rotate --retire" in line
    assert cli("status", "--json").data["rotation"] == {
        "state": "activated", "key_id": new, "backed_up": True, "activates_at": None, "old": [old],
    }  # fmt: skip
    assert f"{old}  config, root  old" in cli.ok("keys", "list").out
    cli.ok("keys", "rotate", "--retire")
    assert _both(cli) == ""
