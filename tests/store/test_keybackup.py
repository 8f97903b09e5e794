"""A backup of keys opens with its passphrase, on any machine, and every other file is refused for what it is."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl import pwhash

from config_daemon.errors import ConfigDaemonError, UsageError
from config_daemon.store import keybackup, keyrecord
from config_daemon.store.files import Files
from config_daemon.store.keybackup import BackupDamaged, Cost, WrongPassphrase, opened, sealed
from config_daemon.store.keybackup_file import MAX_BYTES, BackupUnwritable, read, write
from config_daemon.store.keylist import HeldKey
from config_daemon.wire.sealing import canonical
from tests.store.conftest import names
from tests.worker.full_disk import full_disk

CHEAP = Cost(1, 8192)
KEYS = {name: f"secret-of-{name}" for name in keybackup.REQUIRED}
NOW, LATER = "2026-01-02T03:04:05.678Z", "2026-02-02T03:04:05.678Z"
PHRASE = "correct horse"


def made(passphrase: str = PHRASE, **more: str) -> bytes:
    return sealed(KEYS | more, [("signing", "abc")], passphrase, NOW, CHEAP)


def altered(change: Callable[[dict[str, Any]], Any], *, summed: bool = True) -> bytes:
    """Return a backup after a change by somebody who has no passphrase; `summed`: and who knows the format."""
    content = json.loads(made())
    change(content)
    if summed:
        del content["sha256"]
        content["sha256"] = hashlib.sha256(canonical(content)).hexdigest()
    return json.dumps(content).encode()


def test_a_backup_opens_with_its_passphrase_and_shows_no_key_without_it() -> None:
    content = made()
    found = opened(content, PHRASE)
    assert (found.assignments, found.made_at) == (KEYS, NOW)
    assert "secret-of" not in content.decode() + repr(found)
    assert base64.b64encode(b"secret-of")[:8] not in content
    assert json.loads(content)["keys"] == [{"purpose": "signing", "key_id": "abc"}]


def test_two_backups_of_the_same_keys_have_nothing_in_common() -> None:
    one, other = json.loads(made()), json.loads(made())
    for member in ("ciphertext", "sha256"):
        assert one[member] != other[member]
    assert one["kdf"]["salt"] != other["kdf"]["salt"]
    assert one["cipher"]["nonce"] != other["cipher"]["nonce"]


def test_what_is_written_for_real_costs_what_libsodium_calls_moderate() -> None:
    assert (keybackup.COST.opslimit, keybackup.COST.memlimit_bytes) == (3, 256 << 20)


def test_a_wrong_passphrase_is_told_from_damage() -> None:
    with pytest.raises(WrongPassphrase) as caught:
        opened(made(), "correct mule")
    assert caught.value.exit_code == 1
    content = made()
    for broken in (content[:-20], content[:100], b"", b"\xff" + content, content.replace(b"2026", b"2025")):
        with pytest.raises(BackupDamaged) as damaged:
            opened(broken, PHRASE)
        assert damaged.value.exit_code == 1


def test_a_flipped_bit_anywhere_is_damage() -> None:
    content = made()
    for position in range(0, len(content), 7):
        broken = bytearray(content)
        broken[position] ^= 1
        if json_equal(bytes(broken), content):
            continue
        with pytest.raises(BackupDamaged):
            opened(bytes(broken), PHRASE)


def json_equal(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(made_at=LATER),
        lambda c: c.update(keys=[]),
        lambda c: c.update(extra=1),
        lambda c: c["kdf"].update(opslimit=2),
        lambda c: c["kdf"].update(memlimit_bytes=16384),
        lambda c: c["kdf"].update(salt=base64.b64encode(bytes(16)).decode()),
        lambda c: c.update(ciphertext=base64.b64encode(bytes(40)).decode()),
        lambda c: c.update(ciphertext=""),
    ],
)
def test_what_somebody_altered_on_purpose_does_not_open(change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(WrongPassphrase, match="altered it on purpose"):
        opened(altered(change), PHRASE)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("opslimit", 17), ("opslimit", 0), ("opslimit", 1 << 62), ("opslimit", True), ("opslimit", 3.0),
        ("memlimit_bytes", (1 << 30) + 1), ("memlimit_bytes", 1 << 45), ("memlimit_bytes", -1),
        ("memlimit_bytes", 8191), ("memlimit_bytes", "8192"), ("memlimit_bytes", None),
    ],
)  # fmt: skip
def test_what_a_file_demands_is_bounded_before_it_is_given(
    member: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    demanding = altered(lambda c: c["kdf"].update({member: value}))
    monkeypatch.setattr(pwhash.argon2id, "kdf", lambda *_a, **_k: pytest.fail("it was computed"))
    with pytest.raises(BackupDamaged, match=member):
        opened(demanding, PHRASE)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("kdf"), lambda c: c.pop("ciphertext"), lambda c: c.update(kdf=[]),
        lambda c: c["kdf"].update(name="scrypt"), lambda c: c["cipher"].update(name="rot13"),
        lambda c: c["kdf"].update(salt="AAAA"), lambda c: c["kdf"].update(salt=7),
        lambda c: c["cipher"].update(nonce="*"), lambda c: c.update(cipher=None),
        lambda c: c.update(ciphertext=["A"]), lambda c: c.update(ciphertext="ä"),
    ],
)  # fmt: skip
def test_a_part_that_is_missing_or_nonsense_is_damage(change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(BackupDamaged):
        opened(altered(change), PHRASE)


@pytest.mark.parametrize("version", [3, 0, "1", True, None, 1.0])
def test_another_version_is_named_as_such(version: Any) -> None:
    with pytest.raises(BackupDamaged, match="another version"):
        opened(altered(lambda c: c.update(version=version), summed=False), PHRASE)


@pytest.mark.parametrize(
    "content",
    [
        b"[]", b"null", b"{}", b'{"format": "tar"}', b"CONFIG_MASTER_KEY_ID=master-1", b"[" * 60_000,
        b'{"format": "config-daemon-key-backup", "version": 1, "x": ' + b"9" * 5000 + b"}",
        b'{"format": "config-daemon-key-backup", "format": "config-daemon-key-backup", "version": 1}',
        b'{"format": "config-daemon-key-backup", "version": 1, "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_backup_is_refused_quickly(content: bytes) -> None:
    before = time.process_time()
    with pytest.raises(BackupDamaged):
        opened(content, PHRASE)
    assert time.process_time() - before < 0.5


def test_a_passphrase_is_the_same_on_every_keyboard() -> None:
    composed, decomposed = "sch\u00f6n \U0001f511", "scho\u0308n \U0001f511"
    assert opened(made(composed), decomposed).assignments == KEYS


@pytest.mark.parametrize("passphrase", ["", " ", "\t\n", "x" * 1025, "\ud800"])
def test_a_passphrase_that_is_none_is_refused_and_not_repeated(passphrase: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(passphrase)
    assert passphrase.strip() == "" or passphrase not in f"{caught.value}{caught.value.contexts}"
    assert caught.value.__context__ is None


def test_a_backup_that_would_set_anything_else_is_not_taken() -> None:
    """Whoever can make a backup must not get to choose the broker."""
    with pytest.raises(BackupDamaged):
        opened(made(MQTT_URL="mqtt://elsewhere"), PHRASE)
    lacking = sealed({"CONFIG_MASTER_KEY_ID": "master-1"}, [], PHRASE, NOW, CHEAP)
    with pytest.raises(BackupDamaged):
        opened(lacking, PHRASE)


def test_too_little_memory_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    content = sealed(KEYS, [], PHRASE, NOW, Cost(1, 512 << 20))
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + (100 << 20), before[1]))
    try:
        with pytest.raises(ConfigDaemonError, match="512 MiB"):
            opened(content, PHRASE)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


# the file -----------------------------------------------------------------------------------------


def test_a_backup_is_private_and_never_written_upon(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write(path, b"content", lambda there: there == b"content")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BackupUnwritable, match="left alone") as caught:
        write(path, b"other", lambda _: True)
    assert caught.value.exit_code == 1
    assert read(path) == b"content"


def test_a_backup_that_does_not_open_does_not_stay(tmp_path: Path) -> None:
    with pytest.raises(BackupUnwritable, match="does not hold"):
        write(tmp_path / "keys", b"content", lambda _: False)
    with full_disk(3), pytest.raises(BackupUnwritable, match="cannot be written: File too large"):
        write(tmp_path / "keys", b"content", lambda _: True)
    assert names(tmp_path) == []


def test_nothing_is_written_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for path in (
        tmp_path,
        tmp_path / "link",
        tmp_path / "no" / "folder",
        tmp_path / ("x" * 300),
        Path("a\0b"),
        Path("/proc/keys.bak"),
    ):
        with pytest.raises(BackupUnwritable):
            write(path, b"content", lambda _: True)
    assert names(tmp_path) == ["link"]


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UsageError):
            read(path)
    (tmp_path / "long").write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(BackupDamaged):
        read(tmp_path / "long")


# the record ---------------------------------------------------------------------------------------


def test_a_key_is_known_again_by_its_bytes_and_not_by_its_name(tmp_path: Path) -> None:
    files = Files.below(tmp_path)
    key, renewed = HeldKey("master", "master-1", "aa", None), HeldKey("master", "master-1", "bb", None)
    not_here = HeldKey("master", "master-1", None, None)
    assert keyrecord.backed_up(files, [key]) == {key: None}
    keyrecord.note(files, [key], NOW)
    assert keyrecord.backed_up(files, [key, renewed, not_here]) == {key: NOW, renewed: None, not_here: NOW}
    keyrecord.note(files, [renewed], LATER)
    assert keyrecord.backed_up(files, [key, renewed]) == {key: NOW, renewed: LATER}


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b'{"version": 2, "keys": []}', b'{"version": 1, "keys": [7]}', b"[" * 60_000],
)
def test_a_record_that_cannot_be_read_counts_as_none(tmp_path: Path, content: bytes) -> None:
    files, key = Files.below(tmp_path), HeldKey("master", "master-1", "aa", None)
    keyrecord.record(files).write_bytes(content)
    assert keyrecord.backed_up(files, [key]) == {key: None}
    keyrecord.note(files, [key], NOW)
    assert keyrecord.backed_up(files, [key]) == {key: NOW}


def test_a_signing_key_is_the_same_one_before_and_after_it_was_activated(tmp_path: Path) -> None:
    files = Files.below(tmp_path)
    staged, signing = HeldKey("signing-next", "ab", "aa", None), HeldKey("signing", "ab", "aa", None)
    hmac, old = HeldKey("lkg-hmac", "hmac-1", "cc", None), HeldKey("lkg-hmac-old", "hmac-1", "cc", None)
    keyrecord.note(files, [staged, hmac], NOW)
    assert keyrecord.backed_up(files, [signing, old]) == {signing: NOW, old: NOW}
    other = HeldKey("signing", "ab", "bb", None)
    assert keyrecord.backed_up(files, [other]) == {other: None}
    assert keyrecord.is_backed_up(files, "ab")
    assert not keyrecord.is_backed_up(files, "hmac-1")


# keyrings -----------------------------------------------------------------------------------------


def test_keyrings_and_the_next_key_make_it_a_backup_of_version_2() -> None:
    rings = (b'{"number":1}', b'{"number":2}')
    content = sealed(KEYS, [], PHRASE, NOW, CHEAP, keyrings=rings)
    assert json.loads(content)["version"] == 2
    assert (opened(content, PHRASE).keyrings, opened(content, PHRASE).assignments) == (rings, KEYS)
    following = made(CONFIG_SIGNATURE_NEXT_PRIVATE_KEY="secret-of-next", LKG_HMAC_KEY_OLD_BASE64="x")
    assert json.loads(following)["version"] == 2
    assert opened(following, PHRASE).assignments["CONFIG_SIGNATURE_NEXT_PRIVATE_KEY"] == "secret-of-next"
    assert json.loads(made())["version"] == 1, "older programs read what they can hold"
    with pytest.raises(WrongPassphrase):
        opened(altered_version(content), PHRASE)


def altered_version(content: bytes) -> bytes:
    members = json.loads(content) | {"version": 1}
    del members["sha256"]
    members["sha256"] = hashlib.sha256(canonical(members)).hexdigest()
    return json.dumps(members).encode()


def test_a_backup_holds_the_newest_keyrings_that_fit() -> None:
    large = [bytes([65 + number]) * (900 << 10) for number in range(4)]
    assert keybackup.newest_that_fit(large) == tuple(large[2:])
    content = sealed(KEYS, [], PHRASE, NOW, CHEAP, keyrings=large)
    assert len(content) < MAX_BYTES
    assert opened(content, PHRASE).keyrings == tuple(large[2:])


@pytest.mark.parametrize("keyrings", [[7], "text", {"a": 1}, None, [None]])
def test_keyrings_that_are_none_make_it_no_backup(keyrings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = keybackup.canonical

    def other(members: Any) -> bytes:
        return real(members | {"keyrings": keyrings} if "assignments" in members else members)

    monkeypatch.setattr(keybackup, "canonical", other)
    content = sealed(KEYS, [], PHRASE, NOW, CHEAP, keyrings=[b"x"])
    monkeypatch.setattr(keybackup, "canonical", real)
    with pytest.raises(BackupDamaged, match="does not hold the keys"):
        opened(content, PHRASE)
