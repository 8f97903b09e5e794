"""Assignments of a `.env` are replaced and removed, and nothing else in it changes by a byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config_daemon.errors import SettingsError
from config_daemon.store.dotenv import parse, read
from config_daemon.store.dotenv_edited import _edited, edit
from config_daemon.store.dotenv_new import quote
from tests.store.conftest import names
from tests.worker.full_disk import full_disk

PEM = "-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n"
BEFORE = (
    "# mine\n  export  A = 'one'  # why\nB=two # here\n\nSTT_WORKER__CHANNELS=2\n"
    'C="-----BEGIN KEY-----\nBBBB\n-----END KEY-----"  # torn over lines\nD=\n# the end'
)


@pytest.fixture
def env(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text(BEFORE)
    path.chmod(0o600)
    return path


def test_what_is_changed_is_changed_where_it_stands(env: Path) -> None:
    edit(env, {"A": PEM, "B": "z", "C": PEM, "D": "d", "E": "e"})
    long = quote(PEM)
    assert env.read_text() == (
        f"# mine\n  export  A = {long}  # why\nB=z # here\n\nSTT_WORKER__CHANNELS=2\n"
        f"C={long}  # torn over lines\nD=d\n# the end\nE=e\n"
    )
    assert env.stat().st_mode & 0o777 == 0o600
    assert names(env.parent) == [".env"]


def test_what_is_removed_is_gone_with_its_lines(env: Path) -> None:
    edit(env, {"A": None, "C": None, "NOT_THERE": None})
    assert env.read_text() == "# mine\nB=two # here\n\nSTT_WORKER__CHANNELS=2\nD=\n# the end"
    edit(env, {"B": None, "STT_WORKER__CHANNELS": None, "D": None})
    assert env.read_text() == "# mine\n\n# the end"


def test_a_key_that_came_and_went_leaves_no_trace(env: Path) -> None:
    env.write_text(BEFORE + "\n")
    edit(env, {"NEXT": PEM})
    assert read(env).get("NEXT") == PEM
    edit(env, {"NEXT": None})
    assert env.read_text() == BEFORE + "\n"


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_another_systems_line_ends_and_mark_stay(env: Path, ending: str) -> None:
    text = f"\ufeffA=1{ending}B='2'{ending}C=3{ending}"
    env.write_bytes(text.encode())
    edit(env, {"B": "zwei"})
    assert env.read_bytes().decode() == text.replace("'2'", "zwei")
    edit(env, {"A": None})
    assert env.read_bytes().decode() == f"\ufeffB=zwei{ending}C=3{ending}"


def test_nothing_is_written_where_nothing_changes(env: Path) -> None:
    before = env.stat()
    edit(env, {"B": "two", "NOT_THERE": None})
    assert env.stat().st_ino == before.st_ino


def test_a_full_disk_a_link_and_an_open_file_leave_it_as_it_was(env: Path, tmp_path: Path) -> None:
    with full_disk(5), pytest.raises(SettingsError, match="EFBIG"):
        edit(env, {"A": "z"})
    env.chmod(0o640)
    with pytest.raises(SettingsError, match="others may read"):
        edit(env, {"A": "z"})
    (tmp_path / "below").mkdir()
    link = tmp_path / "below" / ".env"
    link.symlink_to(env)
    with pytest.raises(SettingsError, match="symbolic link"):
        edit(link, {"A": "z"})
    with pytest.raises(SettingsError, match="no file"):
        edit(tmp_path / "none", {"A": "z"})
    env.chmod(0o600)
    with pytest.raises(SettingsError, match="too long"):
        edit(env, {"A": "x" * (1 << 18)})
    env.write_text("A='open\n")
    with pytest.raises(SettingsError, match="not closed"):
        edit(env, {"A": "z"})
    assert env.read_text() == "A='open\n"
    assert names(tmp_path) == [".env", "below"]


def test_what_a_killed_run_left_is_removed_since_keys_are_in_it(env: Path) -> None:
    (env.parent / "..env.4711.new").write_text("A=half")
    edit(env, {"A": "z"})
    assert names(env.parent) == [".env"]


VALUES = st.one_of(
    st.sampled_from(["", "a", "a b", "#", " # ", "'", '"', "it's", 'x"y', "a\\", "\n", PEM, "=", "A=1", "ä"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
)
NAMES = st.sampled_from(["A", "B", "C", "D"])
PARTS = st.lists(
    st.one_of(
        st.tuples(st.just("# "), st.sampled_from(["", "comment", "A=1", "'quoted"])),
        st.tuples(st.sampled_from(["", " ", "export ", "\t"]), VALUES),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(PARTS, st.dictionaries(NAMES, st.none() | VALUES, max_size=4), st.sampled_from(["", " # why", "  "]))
def test_everything_else_reads_as_before(
    parts: list[tuple[str, str]], changes: dict[str, str | None], tail: str
) -> None:
    lines, free = [], iter("ABCDEF")
    for head, text in parts:
        lines.append(f"{head}{text}" if head == "# " else f"{head}{next(free)}={quote(text)}{tail}")
    path, before = Path(".env"), "\n".join(lines)
    entries = {name: entry.value for name, entry in parse(before, path).entries.items()}
    after = _edited(before.encode(), path, changes).decode()
    wanted = {name: value for name, value in {**entries, **changes}.items() if value is not None}
    assert {name: entry.value for name, entry in parse(after, path).entries.items()} == wanted
    kept = [line for line in lines if line.startswith("# ")]
    assert [line for line in kept if line not in after] == []
