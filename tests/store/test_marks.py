"""A number is used once in the life of a fleet, whatever dies in between, and marks that lie are not believed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from config_daemon.errors import CacheError
from config_daemon.store import files, marks
from config_daemon.store.marks import RESERVE, Marks, Numbers, load
from config_daemon.store.ports import Place
from config_daemon.wire.mac import seal_hmac, unseal_hmac
from config_daemon.wire.sealing import canonical
from config_daemon.wire.values import MAX_INTEGER

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
FIRST = Marks(generation=1, reserved=0, epoch="", feed=None)
PLACE = Place(7, "00ff00ff00ff00ff")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "marks.json"


def start(path: Path, clock: int = 0) -> Numbers:
    """Begin as the daemon does."""
    known = load(path, (KEY,)) or FIRST
    return Numbers(path, KEY, known, last=max(known.reserved, clock))


def reserved_on_disk(path: Path) -> int:
    known = load(path, (KEY,))
    return known.reserved if known else 0


def put(path: Path, members: object, key: bytes = KEY, kind: str = "marks") -> None:
    path.write_bytes(seal_hmac(canonical(members), kind, key))


def refused(path: Path, *keys: bytes) -> str:
    with pytest.raises(CacheError) as error:
        load(path, keys or (KEY,))
    return error.value.message


def test_without_marks_there_are_none(path: Path) -> None:
    assert load(path, (KEY,)) is None


def test_what_was_written_is_read(path: Path) -> None:
    numbers = Numbers(path, KEY, FIRST, last=41)
    numbers.write(generation=3, epoch="e", feed=PLACE, reserved=99)
    assert load(path, (KEY,)) == Marks(generation=3, reserved=99, epoch="e", feed=PLACE) == numbers.marks
    assert load(path, (OTHER_KEY, KEY)) is not None  # a rotation accepts two keys
    assert oct(path.stat().st_mode)[-3:] == "600"


def test_no_number_is_handed_out_that_the_disk_does_not_cover(path: Path) -> None:
    numbers = start(path, clock=1000)
    for expected in range(1001, 1001 + 3 * RESERVE):
        assert numbers.next() == expected
        assert expected <= reserved_on_disk(path)


def test_after_a_crash_numbers_go_on_above_all_that_may_have_been_used(path: Path) -> None:
    used = [start(path, clock=5000).next()]
    for _ in range(5):
        used.append(start(path, clock=0).next())
    assert used == sorted(set(used))


def test_a_clean_stop_wastes_no_number(path: Path) -> None:
    numbers = start(path, clock=1000)
    last = [numbers.next() for _ in range(3)][-1]
    numbers.note(PLACE, "")
    numbers.close()
    assert load(path, (KEY,)) == Marks(generation=1, reserved=last, epoch="", feed=PLACE)
    assert start(path).next() == last + 1


def test_numbers_taken_after_a_clean_stop_are_reserved_again(path: Path) -> None:
    numbers = start(path)
    numbers.next()
    numbers.close()
    assert numbers.next() <= reserved_on_disk(path)


def test_numbers_rise_above_what_was_seen_elsewhere(path: Path) -> None:
    numbers = start(path)
    numbers.next()
    numbers.raise_to(10**9)
    numbers.raise_to(5)
    assert numbers.next() == 10**9 + 1 <= reserved_on_disk(path)


def test_a_disk_that_refuses_ends_the_numbers_and_burns_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the second try must not take the refused reservation for granted."""
    numbers = start(path)
    numbers.next()
    with monkeypatch.context() as full:
        full.setattr(marks, "replace_durably", _no_space)
        while numbers.last < reserved_on_disk(path):
            numbers.next()
        for _ in range(3):
            with pytest.raises(OSError):
                numbers.next()
        assert numbers.last == reserved_on_disk(path)
        assert numbers.trouble
    numbers.reserve()  # what the daemon tries until there is room again
    assert numbers.trouble is None
    assert numbers.next() <= reserved_on_disk(path)


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_last_number_of_all_is_the_last(path: Path) -> None:
    """One more would be no integer that every reader of JSON keeps, and the marks could not be read again."""
    numbers = start(path, clock=MAX_INTEGER - 2)
    assert [numbers.next(), numbers.next()] == [MAX_INTEGER - 1, MAX_INTEGER]
    for _ in range(2):
        with pytest.raises(OSError):
            numbers.next()
    assert reserved_on_disk(path) == MAX_INTEGER
    numbers.close()
    assert reserved_on_disk(path) == MAX_INTEGER


@pytest.mark.parametrize("at", [0, 1, 30, -61, -40, -3, -1])
def test_every_altered_byte_is_noticed(path: Path, at: int) -> None:
    start(path, clock=10).next()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("size", [0, 1, 59, 60, 61, -1])
def test_a_cut_file_is_noticed(path: Path, size: int) -> None:
    start(path, clock=10).next()
    path.write_bytes(path.read_bytes()[:size])
    refused(path)


def test_marks_of_another_key_or_another_kind_are_not_believed(path: Path) -> None:
    start(path, clock=10).next()
    refused(path, OTHER_KEY)
    put(path, {"version": 1}, kind="lkg")
    refused(path)


def test_marks_that_cannot_be_a_file_of_ours_are_not_read(path: Path, tmp_path: Path) -> None:
    start(path, clock=10).next()
    real = tmp_path / "real"
    path.rename(real)
    path.symlink_to(real)
    refused(path)
    path.unlink()
    path.mkdir()
    refused(path)
    path.rmdir()
    os.mkfifo(path)
    refused(path)
    path.unlink()
    path.write_bytes(b"{" + b" " * marks.MAX_BYTES)
    assert "longer" in refused(path)


GOOD = {"version": 1, "generation": 1, "reserved": 5, "epoch": "e", "feed": [1, "t"]}


@pytest.mark.parametrize(
    "members",
    [
        [], 5, {}, {**GOOD, "reserved": -1}, {**GOOD, "reserved": 1.0}, {**GOOD, "reserved": True},
        {**GOOD, "reserved": MAX_INTEGER + 1}, {**GOOD, "generation": "1"}, {**GOOD, "feed": []}, {**GOOD, "feed": 5},
        {**GOOD, "feed": ["1", "t"]}, {**GOOD, "feed": {}}, {k: v for k, v in GOOD.items() if k != "epoch"},
        {**GOOD, "version": 2}, {k: v for k, v in GOOD.items() if k != "version"},
    ],
)  # fmt: skip
def test_sealed_marks_of_another_shape_are_not_guessed_at(path: Path, members: object) -> None:
    """A newer program's marks hold more than this one would write back."""
    put(path, members)
    refused(path)


def test_the_file_is_tail_signed_json(path: Path) -> None:
    numbers = start(path, clock=10)
    numbers.write(feed=PLACE)
    body = unseal_hmac(path.read_bytes(), "marks", (KEY,))
    feed = b'"feed":[7,"00ff00ff00ff00ff"]'
    null = b'"held":null,"key":null,"keyring":null'
    assert body == b'{"audit":null,"epoch":"",%s,"generation":1,%s,"purged":{},"reserved":0,"version":1}' % (
        feed,
        null,
    )


def test_marks_and_numbers_show_no_key(path: Path) -> None:
    numbers = start(path, clock=10)
    numbers.next()
    path.write_bytes(b"{}")
    shown = f"{numbers!r}{numbers.marks!r}{refused(path)}"
    assert "kkkk" not in shown
    assert KEY.hex() not in shown


class Daemons(RuleBasedStateMachine):
    """Daemons that start, use numbers, crash, stop and meet full disks, one after the other on one folder."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "marks.json"
        self.used: list[int] = []
        self.numbers: Numbers | None = None
        self.full = False
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(marks, "replace_durably", self.replace)

    def replace(self, path: Path, content: bytes) -> None:
        if self.full:
            _no_space()
        files.replace_durably(path, content)

    @initialize()
    def begin(self) -> None:
        self.start(0)

    @rule(clock=st.integers(0, 5000))
    def start(self, clock: int) -> None:
        """Begin anew, mostly after a crash: the one before gave nothing back."""
        self.numbers = start(self.path, clock)

    @rule(count=st.integers(1, 2 * RESERVE))
    def use(self, count: int) -> None:
        assert self.numbers is not None
        for _ in range(count):
            try:
                number = self.numbers.next()
            except OSError:
                assert self.full or self.numbers.trouble
                return
            assert not self.used or number > self.used[-1]
            self.used.append(number)

    @rule(above=st.integers(0, 3000))
    def see_a_higher_number(self, above: int) -> None:
        assert self.numbers is not None
        self.numbers.raise_to((self.used or [0])[-1] + above)

    @rule()
    def try_to_reserve(self) -> None:
        assert self.numbers is not None
        self.numbers.reserve()

    @rule(full=st.booleans())
    def disk(self, full: bool) -> None:
        self.full = full

    @precondition(lambda self: not self.full)
    @rule()
    def stop_and_start(self) -> None:
        assert self.numbers is not None
        self.numbers.note(PLACE, "")
        self.numbers.close()
        self.start(0)

    @invariant()
    def disk_covers_all_that_was_used(self) -> None:
        assert not self.used or self.used[-1] <= reserved_on_disk(self.path)

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder)


TestDaemons = Daemons.TestCase
TestDaemons.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
