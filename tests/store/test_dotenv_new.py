"""A new `.env` is read back exactly, is private, and is whole or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_daemon.errors import SettingsError
from config_daemon.store.dotenv import read
from config_daemon.store.dotenv_new import quote, write_new
from config_daemon.store.privacy import check_private
from tests.store.test_dotenv import PEM, TRICKY, values


@given(st.text(), TRICKY)
def test_quote_round_trips(value: str, tricky: str) -> None:
    expected = {"A": value.replace("\0", ""), "B": tricky, "C": tricky + "\\"}
    assert values("".join(f"{name}={quote(value)}\n" for name, value in expected.items())) == expected


@pytest.mark.parametrize("value", [" " * 5_000, "\n" * 10_000, "'\"\\" * 1_000, PEM, ""])
def test_quote_round_trips_long_values_on_one_line(value: str) -> None:
    assert "\n" not in quote(value)
    assert values(f"A={quote(value)}\nB=1") == {"A": value, "B": "1"}


@pytest.mark.parametrize("value", ["a\0b", "a\ud800b"])
def test_quote_refuses_what_no_file_can_hold(value: str) -> None:
    with pytest.raises(SettingsError):
        quote(value)


def test_write_new_is_read_back_exactly_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, lines = (
        tmp_path / ".env",
        [("KEY", PEM), ("EMPTY", ""), ("MONEY", "a $HOME #x"), ("BOTH", "'\"$\\")],
    )
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode)))
    before = os.umask(0o277)
    try:
        write_new(path, lines, "made by init\nA=not this")
    finally:
        os.umask(before)
    assert [(entry.name, entry.value) for entry in read(path).entries.values()] == lines
    assert synced == [False, True]  # the file, then the folder that names it
    assert not check_private(path)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert 'KEY="-----BEGIN PRIVATE KEY-----\\nMC4' in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("nameless", [True, False])
def test_write_new_never_overwrites_and_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    if not nameless:  # what a file system without O_TMPFILE does with the flag
        monkeypatch.setattr(os, "O_TMPFILE", os.O_TMPFILE | os.O_CREAT, raising=True)
    there, link, new = tmp_path / "there", tmp_path / "link", tmp_path / "new"
    there.write_text("A=old")
    link.symlink_to(new)
    for path in (there, link):
        with pytest.raises(SettingsError, match="left alone"):
            write_new(path, [("A", "new")], "")
    assert there.read_text() == "A=old"
    assert not new.exists()

    def full(descriptor: int) -> None:
        raise OSError(28, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SettingsError, match="ENOSPC"):
            write_new(new, [("A", "new")], "")
    assert sorted(tmp_path.iterdir()) == [link, there]
    write_new(new, [("A", "new")], "")
    assert read(new).get("A") == "new"


@pytest.mark.parametrize(
    "lines",
    [
        [("A\nB", "1")],
        [("export A", "1")],
        [("A=B", "1")],
        [("a-b", "1")],
        [("A", "1"), ("A", "2")],
        [("A", "\0")],
    ],
)
def test_write_new_refuses_what_it_could_not_read_back(tmp_path: Path, lines: list[tuple[str, str]]) -> None:
    with pytest.raises(SettingsError):
        write_new(tmp_path / ".env", lines, "")
    assert not list(tmp_path.iterdir())
