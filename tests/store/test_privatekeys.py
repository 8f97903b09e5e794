"""A signing key in a file of its own is made once, whole and private, and never written upon."""

from __future__ import annotations

from pathlib import Path

import pytest

from config_daemon.errors import KeyUnavailable
from config_daemon.store.privatekeys import key_in, made_or_found
from tests.store.conftest import names
from tests.worker.full_disk import full_disk


def test_a_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "root.pem"
    key = made_or_found(path)
    before = path.read_bytes()
    assert made_or_found(path) == key == key_in(path)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (before, 0o600)
    assert made_or_found(tmp_path / "other.pem") != key
    assert names(tmp_path) == ["other.pem", "root.pem"]


def test_what_is_there_and_no_private_key_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    path.chmod(0o600)
    with pytest.raises(KeyUnavailable, match="file: this is no Ed25519 private key"):
        made_or_found(path)
    path.chmod(0o644)
    with pytest.raises(KeyUnavailable, match="others may read"):
        made_or_found(path)
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for wrong in (tmp_path / "link", tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(KeyUnavailable):
            made_or_found(wrong)
    assert (path.read_text(), names(tmp_path)) == ("mine", ["file", "link"])


def test_a_disk_that_is_full_and_a_run_that_was_killed_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "root.pem"
    with full_disk(5), pytest.raises(KeyUnavailable, match="cannot be made"):
        made_or_found(path)
    assert names(tmp_path) == []
    (tmp_path / ".root.pem.4711.new").write_text("half of a key")
    made_or_found(path)
    (tmp_path / ".root.pem.4711.new").write_text("a key with two names")
    made_or_found(path)
    assert names(tmp_path) == ["root.pem"]
