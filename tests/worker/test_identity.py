"""A worker's own keys and the number of its start: made once, kept, and never replaced in silence."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from config_daemon.errors import KeyUnavailable
from config_daemon.wire.values import MAX_INTEGER
from config_daemon.wire.workerkeys import PublicKeys
from config_daemon.worker.durable import framed, replace
from config_daemon.worker.identity import BOOT, KEYS, PUBLIC, next_boot, own_keys
from tests.worker.full_disk import full_disk


def test_keys_are_made_once_and_only_their_public_halves_are_for_others(tmp_path: Path) -> None:
    keys = own_keys(tmp_path / "state", "kitchen")
    assert own_keys(tmp_path / "state", "kitchen").public == keys.public
    assert own_keys(tmp_path / "other", "kitchen").public != keys.public
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    assert files == {KEYS: 0o600, PUBLIC: 0o644}
    told = (tmp_path / "state" / PUBLIC).read_text()
    assert PublicKeys.from_text(told) == keys.public
    assert "seed" not in told


def test_a_worker_may_get_another_name_and_keeps_its_keys(tmp_path: Path) -> None:
    before = own_keys(tmp_path, "kitchen").public
    after = own_keys(tmp_path, "hall").public
    assert (after.worker, after.verify_key) == ("hall", before.verify_key)
    assert PublicKeys.from_text((tmp_path / PUBLIC).read_text()).worker == "hall"


@pytest.mark.parametrize("content", [b"", b"torn", b"{}", b"\n{}"])
def test_damaged_keys_are_an_error_and_no_reason_for_new_ones(tmp_path: Path, content: bytes) -> None:
    own_keys(tmp_path, "kitchen")
    (tmp_path / KEYS).write_bytes(content)
    with pytest.raises(KeyUnavailable, match="damaged") as refusal:
        own_keys(tmp_path, "kitchen")
    assert "worker add NAME --keys" in refusal.value.suggestion
    assert (tmp_path / KEYS).read_bytes() == content


def test_the_keys_of_another_worker_program_are_not_called_damaged(tmp_path: Path) -> None:
    content = framed({"signing": "ab" * 32, "box": "cd" * 32})  # as examples/node writes them
    (tmp_path / KEYS).write_bytes(content)
    (tmp_path / KEYS).chmod(0o600)
    with pytest.raises(KeyUnavailable, match="belongs to another worker program") as refusal:
        own_keys(tmp_path, "kitchen")
    assert "a state folder of its own" in refusal.value.suggestion
    told = "".join(traceback.format_exception(refusal.value))
    assert told.count("Traceback") == 1, "not our insides before it"
    assert told.endswith("Give this one a state folder of its own.\n"), (
        "a program that lets it pass says how to mend it"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {KEYS: content}


def test_the_number_of_a_start_stays_one_that_a_status_takes(tmp_path: Path) -> None:
    replace(tmp_path / BOOT, framed({"boot": MAX_INTEGER - 1}))
    assert [next_boot(tmp_path, 5) for _ in range(3)] == [MAX_INTEGER] * 3


@pytest.mark.parametrize("witness", [PUBLIC, BOOT])
def test_keys_that_are_gone_are_not_made_anew(tmp_path: Path, witness: str) -> None:
    own_keys(tmp_path, "kitchen")
    next_boot(tmp_path, 1)
    for name in {KEYS, PUBLIC, BOOT} - {witness}:
        (tmp_path / name).unlink()
    with pytest.raises(KeyUnavailable, match="gone"):
        own_keys(tmp_path, "kitchen")
    assert not (tmp_path / KEYS).exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_keys_that_others_may_read_are_refused(tmp_path: Path, mode: int) -> None:
    own_keys(tmp_path, "kitchen")
    (tmp_path / KEYS).chmod(mode)
    with pytest.raises(KeyUnavailable, match="others than its owner"):
        own_keys(tmp_path, "kitchen")


def test_a_link_is_no_file_of_keys(tmp_path: Path) -> None:
    own_keys(tmp_path / "elsewhere", "kitchen")
    (tmp_path / KEYS).symlink_to(tmp_path / "elsewhere" / KEYS)
    with pytest.raises(KeyUnavailable):
        own_keys(tmp_path, "kitchen")


def test_keys_that_cannot_be_made_durable_are_not_used(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(KeyUnavailable, match="cannot be read or made"):
        own_keys(tmp_path, "kitchen")
    assert own_keys(tmp_path, "kitchen").public == own_keys(tmp_path, "kitchen").public


def test_the_number_of_a_start_grows_whatever_the_clock_does(tmp_path: Path) -> None:
    boots = [next_boot(tmp_path, clock) for clock in (5_000, 5_000, 70, 0, 5_001, 9_000)]
    assert boots == [5_000, 5_001, 5_002, 5_003, 5_004, 9_000]


def test_a_damaged_number_gives_way_to_the_clock(tmp_path: Path) -> None:
    next_boot(tmp_path, 5_000)
    (tmp_path / BOOT).write_bytes(b"torn")
    assert next_boot(tmp_path, 6_000) == 6_000


def test_a_number_that_is_not_on_disk_is_not_used(tmp_path: Path) -> None:
    next_boot(tmp_path, 5_000)
    with full_disk(), pytest.raises(OSError, match="large"):
        next_boot(tmp_path, 9_000)
    assert next_boot(tmp_path, 0) == 5_001
