"""`verify` judges every kind of signed message by the keyring, and says which topics it knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from config_daemon.core.health import Facts, make_health
from config_daemon.store.ground import load_ground
from config_daemon.wire.messages import CONFIG_UPDATE, HEALTH, NIL_EPOCH, Envelope, health_body, update_body
from config_daemon.wire.sealing import seal
from tests.cli.conftest import Cli, refused

AT = "2026-01-02T03:04:05.678Z"


@pytest.fixture
def message(cli: Cli, tmp_path: Path) -> Path:
    """A health message of the folder's daemon."""
    signer = load_ground(cli.folder, {}, {}).keys.signer()
    facts = Facts("healthy", "normal", NIL_EPOCH, 1, True, None, 0, 0)
    health = make_health(facts, [], NIL_EPOCH, generation=1, sequence=7, issued_at=AT, key_id=signer.key_id)
    path = tmp_path / "message.json"
    path.write_bytes(seal(health_body(health), HEALTH, signer.key))
    return path


def test_health_is_judged_by_the_keyring(cli: Cli, message: Path) -> None:
    told = cli.ok("verify", str(message), "--topic", "system/health/config-daemon")
    assert "good: health (ok, normal" in told.out
    assert cli.json("verify", str(message), "--topic", "a/b/health/x")["sequence"] == 7
    message.write_bytes(message.read_bytes().replace(b'"services":0', b'"services":1'))
    result = cli("verify", str(message), "--topic", "system/health/config-daemon")
    assert (result.code, "bad-signature" in result.out) == (1, True)


@pytest.mark.parametrize(
    "topic", ["system/helth/x", "x", "", "system/config/keyring", "system/config/\x1b[2J"]
)
def test_a_topic_of_no_signed_message_is_a_wrong_use(cli: Cli, message: Path, topic: str) -> None:
    result = cli("verify", str(message), "--topic", topic)
    refused(result, 2, "is no topic of a signed message", "PREFIX/health/DAEMON")
    assert "\x1b" not in result.err


def test_a_message_of_a_later_generation_needs_the_keyring_file(cli: Cli, tmp_path: Path) -> None:
    signer = load_ground(cli.folder, {}, {}).keys.signer()
    config = b'{"channels":2}'
    envelope = Envelope("stt-worker", NIL_EPOCH, 1, 2, 9, signer.key_id, AT)
    path, key = tmp_path / "m", tmp_path / "key"
    path.write_bytes(seal(update_body(config, envelope), CONFIG_UPDATE, signer.key))
    key.write_text(bytes(signer.verify_key).hex())
    words = ["verify", str(path), "--topic", "system/config/stt-worker"]
    told = cli(*words, "--public-key", str(key))
    assert (told.code, "keyring-behind" in told.out) == (1, True), told
    assert "--keyring FILE" in told.err and "keys public --keyring" in told.err
    assert "--keyring" not in cli(*words).err
