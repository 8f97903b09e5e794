"""Keys come from private places in a fixed order, fit together, and are shown to nobody."""

from __future__ import annotations

import base64
import os
import traceback
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from config_daemon.errors import ConfigDaemonError, KeyUnavailable
from config_daemon.store import dotenv
from config_daemon.store.dotenv_new import write_new
from config_daemon.store.keyfiles import KeyFiles, new_key_text
from config_daemon.store.privacy import MAX_BYTES
from config_daemon.wire.keys import key_id, public_key_pem, signing_key_pem

SIGNING, OTHER = SigningKey(bytes(range(32))), SigningKey(bytes(range(1, 33)))
MASTER, HMAC = b"M" * 32, b"H" * 32
PAIR = {
    "CONFIG_SIGNATURE_PRIVATE_KEY": signing_key_pem(SIGNING),
    "CONFIG_SIGNATURE_PUBLIC_KEY": public_key_pem(SIGNING.verify_key),
    "CONFIG_MASTER_KEY_BASE64": new_key_text(MASTER),
    "CONFIG_MASTER_KEY_ID": "master-7",
    "LKG_HMAC_KEY_BASE64": new_key_text(HMAC),
    "LKG_HMAC_KEY_ID": "hmac-7",
}
SECRETS = [
    *(base64.b64encode(key).decode().rstrip("=") for key in (MASTER, HMAC, bytes(SIGNING), bytes(OTHER))),
    *(key.hex() for key in (MASTER, HMAC, bytes(SIGNING), bytes(OTHER))),
    "MC4CAQAwBQYDK2Vw", "MMMM", "HHHH",
]  # fmt: skip
Keys = Callable[..., KeyFiles]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Make keys from a `.env`; environment variables come by keyword."""

    def make(entries: Mapping[str, str] = PAIR, mode: int = 0o600, **environ: str) -> KeyFiles:
        path = tmp_path / ".env"
        path.unlink(missing_ok=True)
        write_new(path, list(entries.items()), "for a test")
        path.chmod(mode)
        return KeyFiles(environ, dotenv.read(path))

    return make


def key_file(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in PAIR.items() if name not in names}


def refused(use: Callable[[], Any]) -> str:
    """Return everything that is shown of a refusal, and make sure that no key is in it."""
    with pytest.raises(KeyUnavailable) as caught:
        use()
    error: ConfigDaemonError = caught.value
    assert error.exit_code == 78
    assert all(context.suggestion for context in error.contexts)
    told = f"{error!r}{error}{error.suggestion}{error.contexts}{''.join(traceback.format_exception(error))}"
    assert not [secret for secret in SECRETS if secret in told]
    return told


def test_all_keys_are_found_in_the_environment_file(keys: Keys) -> None:
    found = keys()
    assert bytes(found.signer().key) == bytes(SIGNING)
    assert found.signer().key_id == key_id(bytes(SIGNING.verify_key))
    assert found.signer().verify_key == found.public_key() == SIGNING.verify_key
    assert found.row_sealer().key_id == "master-7"
    assert found.hmac_key() == ("hmac-7", HMAC)


def test_without_an_environment_file_only_what_it_would_name_is_missing(tmp_path: Path) -> None:
    found = KeyFiles({"LKG_HMAC_KEY_BASE64_FILE": key_file(tmp_path / "k", new_key_text(HMAC))}, None)
    assert found.hmac_key() == ("hmac-1", HMAC)
    for name, use in (
        ("CONFIG_SIGNATURE_PRIVATE_KEY", found.signer),
        ("CONFIG_MASTER_KEY_BASE64", found.row_sealer),
    ):
        assert name in refused(use)


def test_a_credential_goes_before_a_file_and_a_file_before_the_environment_file(
    keys: Keys, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    by_environ = key_file(tmp_path / "by-environ", new_key_text(b"2" * 32))
    by_env_file = key_file(tmp_path / "by-env-file", new_key_text(b"3" * 32))
    everywhere = {**PAIR, "LKG_HMAC_KEY_BASE64_FILE": by_env_file}
    key_file(credentials / "lkg-hmac-key", new_key_text(b"1" * 32), 0o440)  # as systemd leaves it
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "LKG_HMAC_KEY_BASE64_FILE": by_environ}

    def first() -> bytes:
        return keys(everywhere, **environ).hmac_key()[1]

    assert first() == b"1" * 32
    (credentials / "lkg-hmac-key").unlink()
    assert first() == b"2" * 32
    del environ["LKG_HMAC_KEY_BASE64_FILE"]
    assert first() == b"3" * 32
    del everywhere["LKG_HMAC_KEY_BASE64_FILE"]
    assert first() == HMAC


def test_the_process_environment_itself_holds_no_key(keys: Keys) -> None:
    """It is inherited by every child and shown by `ps`."""
    found = keys(without("CONFIG_MASTER_KEY_BASE64"), CONFIG_MASTER_KEY_BASE64=new_key_text(MASTER))
    refused(found.row_sealer)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o666, 0o602, 0o644])
def test_an_environment_file_that_others_can_touch_gives_no_key(keys: Keys, mode: int) -> None:
    found = keys(mode=mode)
    for use in (found.signer, found.row_sealer, found.hmac_key):
        told = refused(use)
        assert "chmod 600" in told
    assert found.public_key() == SIGNING.verify_key  # that one is no secret


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o666])
def test_a_key_file_that_others_can_touch_is_refused(keys: Keys, tmp_path: Path, mode: int) -> None:
    file = key_file(tmp_path / "signing-key.pem", PAIR["CONFIG_SIGNATURE_PRIVATE_KEY"], mode)
    told = refused(keys(CONFIG_SIGNATURE_PRIVATE_KEY_FILE=file).signer)
    assert f"{mode:04o}" in told


@pytest.mark.parametrize("name", ["CONFIG_SIGNATURE_PUBLIC_KEY", "CONFIG_MASTER_KEY_ID", "LKG_HMAC_KEY_ID"])
def test_what_is_no_secret_may_lie_in_a_file_for_all(keys: Keys, tmp_path: Path, name: str) -> None:
    file = key_file(tmp_path / "public", PAIR[name], 0o644)
    found = keys(without(name), **{f"{name}_FILE": file})
    assert found.public_key() == SIGNING.verify_key
    assert found.signer().verify_key == SIGNING.verify_key
    assert (found.row_sealer().key_id, found.hmac_key()[0]) == ("master-7", "hmac-7")


def test_keys_that_do_not_belong_together_are_refused(keys: Keys) -> None:
    mismatched = {**PAIR, "CONFIG_SIGNATURE_PUBLIC_KEY": public_key_pem(OTHER.verify_key)}
    assert "CONFIG_SIGNATURE_PUBLIC_KEY" in refused(keys(mismatched).signer)


def test_a_public_key_may_be_absent_or_written_in_hex(keys: Keys) -> None:
    assert keys(without("CONFIG_SIGNATURE_PUBLIC_KEY")).signer().key == SIGNING
    in_hex = {**PAIR, "CONFIG_SIGNATURE_PUBLIC_KEY": bytes(SIGNING.verify_key).hex()}
    assert keys(in_hex).signer().key == SIGNING


@pytest.mark.parametrize(
    "text",
    [
        "", " ", base64.b64encode(b"M" * 31).decode(), base64.b64encode(b"M" * 33).decode(), "M" * 32, MASTER.hex(),
        "MMMM-not_base64-MMMM", new_key_text(MASTER)[:-1], new_key_text(MASTER) + "=", "M" * 40 + "ä", "😀" * 11,
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["CONFIG_MASTER_KEY_BASE64", "LKG_HMAC_KEY_BASE64"])
def test_what_is_no_key_of_32_bytes_is_refused_and_not_repeated(keys: Keys, name: str, text: str) -> None:
    found = keys({**PAIR, name: text})
    assert name in refused(found.row_sealer if "MASTER" in name else found.hmac_key)


@pytest.mark.parametrize(
    "text",
    [
        "", "MC4CAQAwBQYDK2Vw-canary", public_key_pem(SIGNING.verify_key), signing_key_pem(SIGNING)[:-40],
        signing_key_pem(SIGNING).replace("MC4C", "MC5C"), signing_key_pem(SIGNING).replace("PRIVATE", "RSA PRIVATE"),
    ],
)  # fmt: skip
def test_what_is_no_signing_key_is_refused_and_not_repeated(keys: Keys, text: str) -> None:
    refused(keys({**PAIR, "CONFIG_SIGNATURE_PRIVATE_KEY": text}).signer)


@pytest.mark.parametrize("text", ["", "00" * 32, "zz" * 32, signing_key_pem(SIGNING), "01" + "00" * 31])
def test_what_is_no_public_key_is_refused(keys: Keys, text: str) -> None:
    refused(keys({**PAIR, "CONFIG_SIGNATURE_PUBLIC_KEY": text}).public_key)


def test_key_files_that_cannot_be_read_are_refused(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff" * 32)
    (tmp_path / "binary").chmod(0o600)
    for bad in (
        str(tmp_path / "missing"),
        str(tmp_path),
        str(tmp_path / "binary"),
        key_file(tmp_path / "long", "M" * (MAX_BYTES + 1)),
    ):
        refused(keys(CONFIG_MASTER_KEY_BASE64_FILE=bad).row_sealer)
    assert keys(CONFIG_MASTER_KEY_BASE64_FILE="").row_sealer()  # set to nothing is not set


def test_a_key_file_of_any_length_takes_little_memory(keys: Keys, tmp_path: Path) -> None:
    file = key_file(tmp_path / "sparse", "")
    os.truncate(file, 100 << 20)
    found = keys(CONFIG_MASTER_KEY_BASE64_FILE=file)
    tracemalloc.start()
    try:
        assert "too long" in refused(found.row_sealer)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_a_key_file_that_the_environment_file_names_lies_beside_it(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon and a person's shell stand in different folders."""
    key_file(tmp_path / "master.key", new_key_text(MASTER) + "\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = keys({**without("CONFIG_MASTER_KEY_BASE64"), "CONFIG_MASTER_KEY_BASE64_FILE": "master.key"})
    assert found.row_sealer().key_id == "master-7"


@pytest.mark.parametrize("mode", [0o404, 0o444, 0o460, 0o602, 0o620])
def test_a_credential_that_others_can_touch_is_refused(keys: Keys, tmp_path: Path, mode: int) -> None:
    """systemd leaves them readable for root and one user; whoever sets the variable may not have."""
    credential = key_file(tmp_path / "master-key", new_key_text(MASTER), mode)
    told = refused(keys(CREDENTIALS_DIRECTORY=str(tmp_path)).row_sealer)
    assert credential in told
    assert f"{mode:04o}" in told


def test_a_credential_that_leads_nowhere_is_refused_and_nothing_weaker_taken(
    keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "master-key").symlink_to(tmp_path / "nothing")
    assert "there is no file" in refused(keys(CREDENTIALS_DIRECTORY=str(tmp_path)).row_sealer)


def test_a_key_file_behind_somebody_elses_link_is_refused(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file(tmp_path / "master.key", new_key_text(MASTER))
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "master.key")
    found = keys(CONFIG_MASTER_KEY_BASE64_FILE=str(link))
    assert found.row_sealer()
    if os.geteuid() == 0:  # only root can give files away; anybody else becomes somebody else instead
        os.chown(link, 65534, 65534, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    told = refused(found.row_sealer)
    assert "CONFIG_MASTER_KEY_BASE64_FILE" in told
    assert f"the link {link}" in told


def test_a_pipe_in_the_place_of_a_key_is_refused_and_not_waited_for(keys: Keys, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    told = refused(keys(CONFIG_MASTER_KEY_BASE64_FILE=str(tmp_path / "pipe")).row_sealer)
    assert "no regular file" in told


def test_a_pair_that_does_not_fit_names_both_places(keys: Keys, tmp_path: Path) -> None:
    file = key_file(tmp_path / "signing.pem", signing_key_pem(OTHER))
    told = refused(keys(CONFIG_SIGNATURE_PRIVATE_KEY_FILE=file).signer)
    assert f"CONFIG_SIGNATURE_PRIVATE_KEY (file {file})" in told
    assert f"CONFIG_SIGNATURE_PUBLIC_KEY ({tmp_path}/.env:3)" in told


@pytest.mark.parametrize(
    "public", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f"]
)
def test_a_public_key_that_is_no_point_is_refused_with_its_place(
    keys: Keys, tmp_path: Path, public: str
) -> None:
    """Small order, or not canonical: anybody could sign for some of them."""
    found = keys({**PAIR, "CONFIG_SIGNATURE_PUBLIC_KEY": public})
    for use in (found.public_key, found.signer):
        assert f"CONFIG_SIGNATURE_PUBLIC_KEY ({tmp_path}/.env:3)" in refused(use)


def test_nothing_that_holds_a_key_shows_it(keys: Keys) -> None:
    found = keys()
    shown = "".join(
        f"{each!r}{each!s}"
        for each in (found, found.signer(), found.row_sealer(), found._env_file, vars(found))
    )
    assert not [secret for secret in SECRETS if secret in shown]


def test_a_new_key_is_its_bytes_in_base64() -> None:
    key = os.urandom(32)
    assert base64.b64decode(new_key_text(key), validate=True) == key
    assert new_key_text(b"\xff" * 32) == "/" * 42 + "8="
