"""A folder is made whole or mended; what cannot be made anew is asked back, and what must be kept is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, refused

KEY = "A" * 43 + "="


@pytest.fixture
def new(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "new")


def test_it_ends_by_naming_what_must_be_backed_up_and_how(new: Cli, tmp_path: Path) -> None:
    said = new.ok("init").err
    assert "no backup of the keys was made yet" in said
    assert f"config-daemon keys backup FILE --data {new.folder}" in said
    assert str(new.files.database) in said
    assert "never marks.json" in said
    again = new.ok("init")
    assert "nothing was changed" in again.out
    assert "keys backup FILE" in again.err, "until there is one"
    new.ok("keys", "backup", str(tmp_path / "stick"), text="a passphrase")
    assert new.ok("init").err == ""
    assert new.json("init")["back_up_keys_with"] is None


def test_keys_are_added_to_settings_that_were_there_first(new: Cli) -> None:
    new.folder.mkdir()
    new.files.environment.write_text("ENVIRONMENT=staging")
    new.files.environment.chmod(0o600)
    assert new.json("init")["made"] == ["keys", "store"]
    assert new.files.environment.read_text().startswith("ENVIRONMENT=staging\n")
    assert {key["source"]["kind"] for key in new.json("keys", "list")["keys"]} == {".env"}
    assert new.json("init")["made"] == []


def test_a_key_that_is_given_elsewhere_is_not_made_a_second_time(
    new: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "master.key").write_text(KEY)
    (tmp_path / "master.key").chmod(0o600)
    monkeypatch.setenv("CONFIG_MASTER_KEY_BASE64_FILE", str(tmp_path / "master.key"))
    new.ok("init")
    assert "CONFIG_MASTER_KEY_BASE64" not in new.files.environment.read_text()
    assert {key["purpose"]: key["source"]["kind"] for key in new.json("keys", "list")["keys"]} == {
        "signing": ".env", "master": "file", "lkg-hmac": ".env",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["CONFIG_SIGNATURE_PRIVATE_KEY", "CONFIG_MASTER_KEY_BASE64", "LKG_HMAC_KEY_BASE64"]
)
def test_a_key_that_something_was_sealed_with_is_asked_back(cli: Cli, name: str) -> None:
    text = cli.files.environment.read_text()
    cli.files.environment.write_text(re.sub(f"{name}=.*\n", "", text))
    before = cli.files.environment.read_bytes()
    refused(cli("init"), 78, name, f"config-daemon keys restore FILE --data {cli.folder}")
    assert cli.files.environment.read_bytes() == before
    cli.files.environment.unlink()
    refused(cli("init"), 78, f"config-daemon keys restore FILE --data {cli.folder}")
    assert not cli.files.environment.exists()


def test_a_public_key_whose_private_half_is_elsewhere_gets_no_new_one(cli: Cli, new: Cli) -> None:
    new.folder.mkdir()
    public = cli.json("keys", "public")["hex"]
    new.files.environment.write_text(f"CONFIG_SIGNATURE_PUBLIC_KEY={public}\n")
    new.files.environment.chmod(0o600)
    refused(new("init"), 78, "CONFIG_SIGNATURE_PRIVATE_KEY", "CONFIG_SIGNATURE_PUBLIC_KEY shows")
    assert not new.files.database.exists()
