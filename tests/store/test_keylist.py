"""What is told of keys knows them again, names their places, and gives nothing of them away."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from config_daemon.store import dotenv
from config_daemon.store.dotenv_new import write_new
from config_daemon.store.keyfiles import KeyFiles, new_key_text
from config_daemon.store.keylist import assignments, encryption_metadata, held
from config_daemon.wire.keys import key_id, signing_key_pem
from tests.store.test_keyfiles import HMAC, MASTER, OTHER, PAIR, SECRETS, SIGNING, key_file, refused, without

Keys = Callable[..., KeyFiles]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Make keys from a `.env`; environment variables come by keyword."""

    def make(entries: Mapping[str, str] = PAIR, **environ: str) -> KeyFiles:
        path = tmp_path / ".env"
        path.unlink(missing_ok=True)
        write_new(path, list(entries.items()), "for a test")
        return KeyFiles(environ, dotenv.read(path))

    return make


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CONFIG_MASTER_KEY_BASE64", "LKG_HMAC_KEY_BASE64"),
        ("LKG_HMAC_KEY_BASE64", "CONFIG_SIGNATURE_PRIVATE_KEY"),
        ("CONFIG_MASTER_KEY_BASE64", "CONFIG_SIGNATURE_PUBLIC_KEY"),
        ("CONFIG_MASTER_KEY_OLD_BASE64", "LKG_HMAC_KEY_BASE64"),
    ],
)
def test_one_key_for_two_purposes_is_refused_naming_both(keys: Keys, one: str, other: str) -> None:
    texts = {
        "CONFIG_SIGNATURE_PRIVATE_KEY": new_key_text(bytes(SIGNING)),
        "CONFIG_SIGNATURE_PUBLIC_KEY": new_key_text(bytes(SIGNING.verify_key)),
        "LKG_HMAC_KEY_BASE64": new_key_text(HMAC),
    }
    told = refused(lambda: held(keys({**PAIR, one: texts[other]})))
    assert "is the same key as" in told
    assert one.replace("OLD_", "") in told or one in told
    assert other in told


def test_the_daemon_refuses_one_key_for_two_purposes_when_it_takes_the_second(keys: Keys) -> None:
    found = keys({**PAIR, "LKG_HMAC_KEY_BASE64": new_key_text(MASTER)})
    assert found.row_sealer()
    refused(found.hmac_key)


def test_what_is_told_of_keys_knows_them_again_and_gives_nothing_away(keys: Keys, tmp_path: Path) -> None:
    file = key_file(tmp_path / "hmac", new_key_text(HMAC))
    old = {"CONFIG_MASTER_KEY_OLD_BASE64": new_key_text(b"O" * 32), "CONFIG_MASTER_KEY_OLD_ID": "master-6"}
    found = held(keys({**PAIR, **old}, LKG_HMAC_KEY_BASE64_FILE=file))
    assert [(key.purpose, key.key_id, str(key.source)) for key in found] == [
        ("signing", key_id(bytes(SIGNING.verify_key)), f"{tmp_path}/.env:2"),
        ("master", "master-7", f"{tmp_path}/.env:4"),
        ("lkg-hmac", "hmac-7", f"file {file}"),
        ("master-old", "master-6", f"{tmp_path}/.env:8"),
    ]
    assert not [secret for secret in SECRETS if secret in f"{found!r}"]
    same_ids = held(keys({**PAIR, "CONFIG_MASTER_KEY_BASE64": new_key_text(b"N" * 32)}))
    assert same_ids[1].key_id == found[1].key_id
    assert same_ids[1].digest != found[1].digest
    assert encryption_metadata(found) == {
        "master_key_id": "master-7",
        "hmac_key_id": "hmac-7",
        "signature_public_key_hash": hashlib.sha256(bytes(SIGNING.verify_key)).hexdigest(),
        "rotation_status": "in-progress",
        "grace_window_until": None,
    }


def test_a_private_key_that_another_process_has_is_listed_by_its_public_half(keys: Keys) -> None:
    signing, *_ = held(keys(without("CONFIG_SIGNATURE_PRIVATE_KEY")))
    assert (signing.key_id, signing.source) == (key_id(bytes(SIGNING.verify_key)), None)


def test_the_next_key_is_told_of_and_backed_up(keys: Keys) -> None:
    found = keys({**PAIR, "CONFIG_SIGNATURE_NEXT_PRIVATE_KEY": signing_key_pem(OTHER)})
    told = held(found)
    assert [(key.purpose, key.key_id) for key in told][:2] == [
        ("signing", key_id(bytes(SIGNING.verify_key))),
        ("signing-next", key_id(bytes(OTHER.verify_key))),
    ]
    assert told[1].digest == hashlib.sha256(bytes(OTHER.verify_key)).hexdigest()
    metadata = encryption_metadata(told, "2026-01-02T03:04:05.678Z")
    assert (metadata["rotation_status"], metadata["grace_window_until"]) == (
        "in-progress", "2026-01-02T03:04:05.678Z",
    )  # fmt: skip
    assert assignments(found)["CONFIG_SIGNATURE_NEXT_PRIVATE_KEY"] == signing_key_pem(OTHER)
    assert not [secret for secret in SECRETS if secret in f"{told!r}"]
