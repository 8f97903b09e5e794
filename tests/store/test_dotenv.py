"""What a person who edits `.env` by hand would notice, and what an attacker would try."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_daemon.errors import SettingsError
from config_daemon.store import dotenv
from config_daemon.store.dotenv import EnvMissing, parse, read
from config_daemon.store.privacy import check_private

ENV = Path("/srv/.env")
NOBODY = 65534
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIDzy+/9=\n-----END PRIVATE KEY-----\n"
TRICKY = st.text(st.sampled_from("aA1_ =#'\"\\\n\r\t\v$`{}\ufeff\u00a0\u2028\x85\x1b"))


def values(text: str) -> dict[str, str]:
    return {name: entry.value for name, entry in parse(text, ENV).entries.items()}


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(SettingsError) as refused:
        parse(text, ENV)
    assert all(context.error_code == "ENV_INVALID" for context in refused.value.contexts)
    return [(context.failed_field, context.error_type) for context in refused.value.contexts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n\n  \n# only talk\n", {}),
        ("A=1\nexport B=2\n  C = 3  \nD=", {"A": "1", "B": "2", "C": "3", "D": ""}),
        ("\ufeffA=1\r\nB='x'\r\n", {"A": "1", "B": "x"}),
        (
            "A=1 # why\nB=1#2\nC= # none\nD='#' # x\nE=\"\"",
            {"A": "1", "B": "1#2", "C": "", "D": "#", "E": ""},
        ),
        (r'A="\n\t\\\"\a\b\f\r\v"', {"A": '\n\t\\"\a\b\f\r\v'}),
        (r'A="\u00e4\x41\$\ \0"', {"A": r"\u00e4\x41\$\ \0"}),
        (r"A='\n\\\'\"'", {"A": r"\n\'\""}),
        (r"A=\n\\'", {"A": r"\n\\'"}),
        ("A=${HOME}$HOME`id`", {"A": "${HOME}$HOME`id`"}),
        ('A="x\\\\"\nB="y"', {"A": "x\\", "B": "y"}),
        (f'K="{PEM}"\nB=1'.replace("\n", "\r\n"), {"K": PEM, "B": "1"}),
        ('A="# Role\nkey=value\nand so on"\n', {"A": "# Role\nkey=value\nand so on"}),
        ("A==x==\nB=a b  c\t\n", {"A": "=x==", "B": "a b  c"}),
    ],
)
def test_reads_what_a_person_means(text: str, expected: dict[str, str]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('A=1\nB="open\nC=3', [(2, "unterminated_quote")]),
        ('A="open\nB="closed"\nC=1', [(1, "unterminated_quote")]),
        ('A="open\nB=2\nC="#"\nD=4', [(1, "unterminated_quote")]),
        ("A='open\nB=2\n# the workers'\nD=4", [(1, "unterminated_quote")]),
        ('A="one" two', [(1, "text_after_quote")]),
        ('A="one"B="two"', [(1, "text_after_quote")]),
        ("= 1\nexport # what\n'A=1\n-- x", [(n, "not_an_assignment") for n in (1, 2, 3, 4)]),
        ("export ='x'\nexport=1", [(1, "not_an_assignment")]),
        ("A\nexport B\nexport", [(n, "missing_equals") for n in (1, 2, 3)]),
        ("a.b=1\na-b=1\n1A=1\nÄ=1\n'A B'=1\nA\ufeff=1", [(n, "invalid_name") for n in range(1, 7)]),
        ("A=1\n\nA=1\nB=2\nA=3", [(3, "duplicate_name"), (5, "duplicate_name")]),
        ("A=1\0\nB=2\nC='\0'", [(1, "nul_character"), (3, "nul_character")]),
        ("\r\n\r\n??\r\n\r\nA\r\n", [(3, "missing_equals"), (5, "missing_equals")]),
        ("? ?\r\n? ?\r\nA\r\n", [(1, "not_an_assignment"), (2, "not_an_assignment"), (3, "missing_equals")]),
        ("A=x" + " " * 1_000_000 + "y", [(1, "too_many_blanks")]),
    ],
)
def test_tells_every_problem_with_its_line(text: str, expected: list[tuple[int, str]]) -> None:
    assert problems(text) == [(f".env:{line}", kind) for line, kind in expected]


def test_a_duplicate_names_both_lines() -> None:
    with pytest.raises(SettingsError, match=r"line 3: MQTT_URL is set a second time; line 1 "):
        parse("MQTT_URL=a\n\nMQTT_URL=b\n", ENV)


def test_line_counts_past_blank_lines_and_values_of_several_lines() -> None:
    entries = parse(f'# head\n\n\nA="{PEM}"\n\nB=1\n', ENV).entries
    assert (entries["A"].line, entries["B"].line) == (4, 9)


def test_too_many_lines_are_refused_before_they_cost_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems("A\n" * (dotenv.MAX_LINES + 1)) == [(".env", "too_many_lines")]
    monkeypatch.setattr(dotenv, "MAX_LINES", 3)
    assert len(values("A=1\nB=1\nC=1\n")) == 3


@given(st.lists(TRICKY, max_size=5), st.sampled_from(["{}=x", "A={}", "A='{}", 'A="{}', "{}", "A='x'{}"]))
def test_line_ends_and_byte_order_mark_never_matter(pieces: list[str], template: str) -> None:
    text = "\n".join(template.format(piece.replace("\r", "")) for piece in pieces)
    outcomes = []
    for same in (text, text.replace("\n", "\r\n"), "\ufeff" + text):
        try:
            outcomes.append(repr(values(same)))
        except SettingsError as refused:
            outcomes.append(repr(refused.contexts))
    assert len(set(outcomes)) == 1


@given(
    st.lists(st.sampled_from(["A", "A=", "A='", 'B="', "\0", "C==", "x\n", "\n", "'", '"', " ", "#", "é"]))
)
def test_no_message_and_no_repr_holds_a_value(pieces: list[str]) -> None:
    text = "s3cret".join(pieces)
    try:
        names = "".join(parse(text, ENV).entries)
        assert repr(parse(text, ENV)).count("s3cret") == 2 * names.count("s3cret")  # key and Entry.name
    except SettingsError as refused:
        shown = f"{refused} {refused!r} {refused.suggestion} {refused.contexts}"
        assert "s3cret" not in shown
        assert all(context.suggestion and not context.received_value for context in refused.contexts)


def test_a_torn_key_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(f"K={PEM}L={PEM}")
    with pytest.raises(SettingsError) as refused:
        read(path)
    assert "MC4CAQ" not in str(refused.value.contexts)
    path.write_text("K=MIGH\nAgEAMBM=\nL=MIGH\nAgEAMBM=\n")  # the end of a key, twice: valid as a name
    with pytest.raises(SettingsError) as refused:
        read(path)
    assert "AgEAMBM" not in str(refused.value.contexts)
    path.write_bytes(b"K=MC4CAQ\xff")
    with pytest.raises(SettingsError) as refused:
        read(path)
    assert refused.value.__context__ is None  # a UnicodeDecodeError carries the whole file


def test_ten_thousand_random_files_are_read_or_refused_quickly(tmp_path: Path) -> None:
    rng, path, accepted = random.Random(48), tmp_path / ".env", 0  # noqa: S311  # a seed, not a secret
    alphabet = [b"A", b"b=", b"=", b"'", b'"', b"\\", b"\n", b"\r\n", b" ", b"#", b"\0", b"\xff", b"export "]
    for turn in range(10_000):
        size = rng.choice((8, 64, 512))
        content = (
            rng.randbytes(size) if turn % 4 == 0 else b"".join(rng.choices(alphabet[: 10 + turn % 4], k=size))
        )
        path.write_bytes(content)
        began = time.process_time()
        with contextlib.suppress(SettingsError):
            read(path)
            accepted += 1
        assert time.process_time() - began < 0.05, content
    assert accepted > 50


@pytest.mark.parametrize("piece", ["A", "=", "A='\n", 'A="\n', "A=' ", "A=\t", "\\'", "#\n", "'\n", "A \n"])
def test_no_repetition_makes_the_reader_slow(piece: str) -> None:
    began = time.process_time()
    with contextlib.suppress(SettingsError):
        parse(piece * (dotenv.MAX_BYTES // len(piece)), ENV)
    assert time.process_time() - began < 1


def test_neither_exports_nor_expands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "from outside")
    before = dict(os.environ)
    (tmp_path / ".env").write_text("A=inside\nB=${A}\n")
    assert read(tmp_path / ".env").get("B") == "${A}"
    assert read(tmp_path / ".env").get("C") is None
    assert dict(os.environ) == before


def test_import_loads_neither_the_tokeniser_nor_what_it_drags_in() -> None:
    code = (
        "import sys, config_daemon.store.dotenv, config_daemon.store.dotenv_looks;"
        "print({'dotenv', 'logging', 'tempfile', 'hashlib', 'random', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@contextlib.contextmanager
def an_ordinary_user() -> Iterator[Path]:
    """Yield a folder of an ordinary user's and be that user: root may read everything."""
    folder, was = Path(tempfile.mkdtemp()), os.geteuid()
    try:
        if was == 0:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield folder
    finally:
        os.seteuid(was)
        folder.chmod(0o700)
        shutil.rmtree(folder)


def refusal(path: Path) -> SettingsError:
    with pytest.raises(SettingsError) as refused:
        read(path)
    return refused.value


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert isinstance(refusal(path), EnvMissing)
    assert isinstance(refusal(Path(__file__) / ".env"), EnvMissing)
    assert [context.error_code for context in refusal(path).contexts] == ["ENV_MISSING"]
    assert "folder" in str(refusal(tmp_path))
    path.write_bytes(b"A=1\nB=\xc3\xa4\nC=\xff\n")
    assert "line 3: byte 11 is not UTF-8" in str(refusal(path))
    path.write_bytes("A=1\n".encode("utf-16"))
    assert "UTF-16" in str(refusal(path))
    path.write_bytes(b"#" * dotenv.MAX_BYTES)
    assert not read(path).entries
    path.write_bytes(b"#" * (dotenv.MAX_BYTES + 1))
    assert refusal(path).contexts[0].error_type == "too_large"
    path.unlink()
    os.mkfifo(path)
    assert refusal(path).contexts[0].error_type == "not_a_file"
    path.unlink()
    path.symlink_to(path)
    assert "ELOOP" in str(refusal(path))
    assert "not a path" in str(refusal(Path("a\0b")))


def test_a_forbidden_file_names_its_mode_and_the_remedy() -> None:
    with an_ordinary_user() as folder:
        path = folder / ".env"
        path.write_text("A=1")
        path.chmod(0)
        assert "mode 0000" in str(refusal(path))
        assert f"`chmod 600 {path}`" in refusal(path).suggestion
        folder.chmod(0)
        assert "folder on the way" in str(refusal(path))
        assert [context.error_code for context in check_private(path)] == ["ENV_NOT_PRIVATE"]


def test_check_private_tells_who_else_can_touch_a_key(tmp_path: Path) -> None:
    path, folder = tmp_path / ".env", tmp_path / "link"
    path.write_text("A=1")
    folder.symlink_to(tmp_path, target_is_directory=True)
    for mode, expected in ((0o600, 0), (0o400, 0), (0o640, 1), (0o620, 1), (0o604, 1), (0o602, 1)):
        path.chmod(mode)
        assert len(check_private(path)) == len(check_private(folder / ".env")) == expected
    assert len(check_private(tmp_path / "absent")) == 1


def test_check_private_refuses_foreign_owners_and_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, first = tmp_path / ".env", tmp_path / "first"
    path.write_text("A=1")
    path.chmod(0o600)
    first.symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "second").symlink_to(first / ".env")
    if os.geteuid() == 0:  # only root can give files away; anybody else becomes somebody else instead
        os.chown(first, NOBODY, NOBODY, follow_symlinks=False)
        assert ["link" in context.message for context in check_private(tmp_path / "second")] == [True]
        os.chown(path, NOBODY, NOBODY)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    messages = " ".join(context.message for context in check_private(tmp_path / "second"))
    assert f"link {first} " in messages
    assert "it belongs to user" in messages
