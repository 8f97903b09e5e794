"""Every reader stands ten thousand inputs that are almost right, and all that were saved: `make fuzz` in little."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config_daemon.errors import RejectedUpdate, SettingsError
from config_daemon.store import dotenv
from tools.fuzz.__main__ import CORPUS, SEED, main, save
from tools.fuzz.large import VALUES
from tools.fuzz.loop import PART, SLOW_MS, Finding, Tally, feed, fuzz, quiet
from tools.fuzz.readers import Reader, readers, scratch

NAMES = ("unseal", "health", "beacon", "keyring", "marks", "lkg", "env", "state")
PARTS = range(10_000 // PART)


@pytest.fixture(autouse=True, scope="module")
def once_quiet() -> Iterator[None]:
    """Collect once for all of these tests: it takes long beside everything that was collected to be run."""
    with quiet():
        yield


@pytest.fixture
def every() -> Iterator[dict[str, Reader]]:
    with scratch() as folder:
        yield readers(folder)


def expect_nothing_found(reader: Reader, tally: Tally, folder: Path) -> None:
    found = [
        f"{finding.what}: {save(finding, folder)}"
        for finding in tally.findings
        if not finding.what.startswith("slow: ") or is_always_slow(reader, finding)
    ]
    assert not found, found


def is_always_slow(reader: Reader, finding: Finding) -> bool:
    """Try again and again: beside tests that use the same caches, CPU time is half as much again, for a while."""
    for _ in range(5):
        again = Tally()
        feed(reader, finding.raw, again, finding.what)
        if not again.findings:
            return False
    return True


def test_no_reader_is_left_out(every: dict[str, Reader]) -> None:
    assert set(NAMES) == every.keys() == {folder.name for folder in CORPUS.iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_ten_thousand_inputs_meet_typed_refusals_only(
    every: dict[str, Reader], name: str, tmp_path: Path
) -> None:
    tally = fuzz(every[name], SEED, PARTS)
    print("\n" + "\n".join(tally.lines(name, SEED)))
    expect_nothing_found(every[name], tally, tmp_path)
    assert tally.inputs == 10_000
    # behind the seal, too: a reader that only ever saw bad seals was not tried
    assert tally.outcomes["accepted"] > 100
    assert sum(count for made, count in tally.made.items() if made.startswith("body")) > 5_000


@pytest.mark.parametrize("name", NAMES)
def test_all_that_was_saved_meets_typed_refusals_only(
    every: dict[str, Reader], name: str, tmp_path: Path
) -> None:
    tally, saved = Tally(), sorted((CORPUS / name).iterdir())
    feed(every[name], every[name].good[0], Tally(), "what is imported late")
    with quiet():
        for path in saved:
            feed(every[name], path.read_bytes(), tally, path.name)
    expect_nothing_found(every[name], tally, tmp_path)
    assert tally.outcomes.total() == len(saved)


def slow_members() -> Iterator[tuple[str, bytes, str]]:
    """Yield members that took seconds once, with the reader that they belong to."""
    yield "health", b"conditions", "{} many"
    yield "health", b"conditions", "integers"
    yield "beacon", b"shards", "keys"
    yield "keyring", b"revoked", "{} many"
    yield "keyring", b"keys", "integers"
    yield "unseal", b"x", "[[[[ many"
    yield "unseal", b"x", "{{{{ many"
    yield "unseal", b"x", "long integers"
    yield "marks", b"epoch", "long integers"
    yield "marks", b"epoch", "[[[[ many"
    yield "lkg", b"x", "[[[[ many"
    yield "state", b"x", "[[[[ many"


@pytest.mark.parametrize(("name", "member", "shape"), [*slow_members()])
@pytest.mark.parametrize("size", [20_000, 200_000, 1_000_000])
def test_what_was_slow_is_refused_soon(
    every: dict[str, Reader], name: str, member: bytes, shape: str, size: int, tmp_path: Path
) -> None:
    reader, tally = every[name], Tally()
    feed(reader, reader.good[0], Tally(), "what is imported late")
    body = reader.plain[0][:-1] + b',"_%s":0}' % member
    body = body.replace(b'"%s":' % member, b'"_":') if b'"%s":' % member in body else body
    raw = reader.seal(body.replace(b'"_%s":0' % member, b'"%s":%s' % (member, VALUES[shape](size))))
    with quiet():
        feed(reader, raw, tally, shape)
    expect_nothing_found(reader, tally, tmp_path)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"'x\nA='=y" + b" " * 100_000 + b"z", "too_many_blanks"),  # once 14 s
        (b"A=" + (b"x" + b" " * 255) * 400, "too_many_blanks"),
        (b'A="' + b"\\n" * 50_000 + b'"', "too_many_escapes"),
        (b"A\n" * 20_000, "too_many_lines"),
    ],
    ids=["key of two lines", "runs", "escapes", "lines"],
)
def test_slow_env_files_are_refused_soon(text: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(text)
    with pytest.raises(SettingsError) as refused:
        dotenv.read(tmp_path / ".env")
    assert refused.value.contexts[0].error_type == kind


def test_blanks_in_quotes_and_comments_stay_allowed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(
        b"A='" + b" " * 5000 + b"'\n#" + b" " * 5000 + b"\nB=1" + b" " * 200 + b"# note\n"
    )
    assert dotenv.read(tmp_path / ".env").get("B") == "1"


def test_text_may_look_like_many_parts(every: dict[str, Reader]) -> None:
    reader = every["unseal"]
    text = rb"[{,:" * 100_000 + rb"\\" + rb"\"{[" * 50_000
    reader.reads[0](reader.seal(reader.plain[0][:-1] + b',"x":"%s"}' % text))


def test_the_fuzzer_finds(every: dict[str, Reader], tmp_path: Path) -> None:
    """A reader that raises what it may not, one that is slow and one that refuses everything are findings."""
    good = every["env"]

    def foreign(raw: bytes) -> object:
        return {}[raw]

    def slow(raw: bytes) -> object:
        until = time.thread_time_ns() + int(1.2 * SLOW_MS * 1e6)
        while time.thread_time_ns() < until:
            pass
        return raw

    def deaf(raw: bytes) -> object:
        raise RejectedUpdate("wiped", 1, "nothing is good enough")

    for read, what in ((foreign, "raised KeyError"), (slow, "slow: ")):
        tally, bad = Tally(), replace(good, reads=[read])
        feed(bad, b"x", tally, "x")
        assert [finding.what.startswith(what) for finding in tally.findings] == [True]
        with pytest.raises(AssertionError, match=what):
            expect_nothing_found(bad, tally, tmp_path)
    tally = fuzz(replace(good, reads=[deaf], refusals=(RejectedUpdate,)), SEED, range(0))
    assert {finding.what for finding in tally.findings} == {"a good input was refused: wiped"}
    assert save(tally.findings[0], tmp_path).read_bytes() == tally.findings[0].raw


def test_a_run_tells_what_it_did(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = [
        "fuzz",
        "env",
        "--count",
        "1000",
        "--seed",
        "3",
        "--processes",
        "1",
        "--corpus",
        str(tmp_path),
    ]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 0
    shown = capsys.readouterr().out
    assert "env: 1000 inputs" in shown
    assert "seed 3" in shown
    assert "0 findings" in shown
