"""Every damage of the tables under a running daemon: nothing altered goes out, and health says what happened."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.e2e.house import until
from tests.e2e.living import NORMAL, Living
from tests.e2e.strace import failing, options
from tests.e2e.test_weather import confirmed
from tests.e2e.wire import SERVICES, Said
from tests.fleet_host import by_hand
from tests.injections import FILE, Layout

RECOVERED = NORMAL._replace(event="recovered")
# these are found when the file is opened, however long the daemon has had it open
HEAD = [
    name for name, (_, event) in FILE.items()
    if event == "db-corrupted" and name.startswith(("first", "page", "random", "a text", "format", "0", "trunc"))
]  # fmt: skip


def said_of(event: str | None) -> Said:
    """Return what health says together with an event."""
    if event is None:
        return NORMAL._replace(event="db-replaced")
    status = {"db-readonly": "healthy", "not-the-newest": "healthy", "schema-too-new": "schema-mismatch"}
    return Said(status.get(event, "corrupted"), "read-only-fallback", False, True, event)


@contextlib.contextmanager
def nothing_published(living: Living) -> Iterator[None]:
    before = {service: living.wire.configs(service) for service in SERVICES}
    yield
    assert {service: living.wire.configs(service) for service in SERVICES} == before


# the last page of a copy that was just vacuumed has nothing at its end
@pytest.mark.parametrize("name", [name for name in FILE if name != "last page cut by 1000 bytes"])
def test_a_damaged_file_in_the_databases_place(name: str, living: Living) -> None:
    inject, event = FILE[name]
    said = len(living.wire.said)
    with nothing_published(living):
        with living.swapped(lambda copy: inject(copy, Layout.of(copy))):
            living.wire.until_says(said_of(event), since=said)
        living.wire.until_says(RECOVERED if event else said_of(None), since=said)


@pytest.mark.parametrize("name", HEAD)
def test_a_file_damaged_in_its_place(name: str, living: Living) -> None:
    """Without a new inode, under the open connection: what a failing disk or a careless `dd` does."""
    inject, event = FILE[name]
    said, database = len(living.wire.said), living.folder / "config.db"
    with nothing_published(living), living.swapped(lambda _copy: None):
        living.wire.until_says(NORMAL._replace(event="db-replaced"), since=max(0, said - 1))
        by_hand(database, "PRAGMA wal_checkpoint(TRUNCATE)")
        inject(database, Layout({}))
        living.wire.until_says(said_of(event), since=said)
    living.wire.until_says(RECOVERED, since=said)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_journal_deleted_under_the_daemon(suffix: str, living: Living) -> None:
    """With the `-wal` the last commits are gone, and that is told; without the `-shm` nothing is lost."""
    by_hand(living.folder / "config.db", "PRAGMA wal_checkpoint(TRUNCATE)")
    volume = Cli(living.folder).json("get", "tts-worker", "volume_percent")["value"] % 100 + 1
    confirmed(living.house, living.house.set("tts-worker", volume_percent=volume), "tts-worker")
    said = len(living.wire.said)
    with nothing_published(living):
        with living.given_back():
            (living.folder / f"config.db{suffix}").unlink()
            if suffix == "-wal":
                living.wire.until_says(said_of("not-the-newest"), since=said)
        living.wire.until_says(RECOVERED if suffix == "-wal" else said_of(None), since=said)
    confirmed(living.house, living.house.set("tts-worker", volume_percent=volume % 100 + 1), "tts-worker")


def wal(living: Living) -> Path:
    return living.folder / "config.db-wal"


def emptied(living: Living) -> None:
    """Have the `-wal` hold hardly anything, and the daemon know that."""
    by_hand(living.folder / "config.db", "PRAGMA wal_checkpoint(TRUNCATE)")
    version = living.house.set("router", router_stream_min_chars=living.number())
    confirmed(living.house, version, "router")


def flipped(path: Path, at: int) -> None:
    """Flip one bit, and flip it back the next time."""
    with path.open("r+b") as file:
        file.seek(at)
        found = file.read(1)[0]
        file.seek(at)
        file.write(bytes([found ^ 1]))


@contextlib.contextmanager
def asleep(living: Living) -> Iterator[None]:
    """Keep the daemon from looking."""
    os.kill(living.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(living.pid, signal.SIGCONT)


@pytest.mark.parametrize("left", ["nothing", "all but 100 bytes"])
def test_the_end_of_the_wal_cut_off_under_the_daemon(left: str, living: Living) -> None:
    """What was published from it is gone from the disk, whatever memory still says: that is told."""
    emptied(living)
    confirmed(living.house, living.house.set("tts-worker", volume_percent=51), "tts-worker")
    said = len(living.wire.said)
    with nothing_published(living):
        with living.given_back():
            os.truncate(wal(living), 0 if left == "nothing" else wal(living).stat().st_size - 100)
            living.wire.until_says(said_of("not-the-newest"), since=said)
        living.wire.until_says(RECOVERED, since=said)
    confirmed(living.house, living.house.set("tts-worker", volume_percent=52), "tts-worker")


def test_the_end_of_the_wal_cut_off_before_the_daemon_has_read_it(living: Living) -> None:
    """Nobody but who committed knows of it: that something is cut off is told, and what was before goes on."""
    emptied(living)
    said = len(living.wire.said)
    with nothing_published(living):
        with asleep(living):
            living.house.set("tts-worker", volume_percent=54)
            os.truncate(wal(living), wal(living).stat().st_size - 100)
        living.wire.until_says(said_of("io-error:IOERR_SHORT_READ"), since=said)
        living.wire.until_says(RECOVERED, since=said)
    emptied(living)


def test_a_byte_of_a_value_flipped_in_the_wal_before_the_daemon_has_read_it(living: Living) -> None:
    emptied(living)
    said = len(living.wire.said)
    with nothing_published(living):
        with asleep(living):
            living.house.set("tts-worker", volume_percent=55)
            at = wal(living).read_bytes().rindex(b'"volume_percent":55') + len('"volume_percent":5')
            flipped(wal(living), at)
        living.wire.until_says(said_of("rows-corrupted:1"), since=said)
    flipped(wal(living), at)
    by_hand(
        living.folder / "config.db",
        "UPDATE service_configs SET service = service WHERE service = 'tts-worker'",
    )
    living.wire.until_says(RECOVERED, since=said)


def test_a_byte_flipped_in_the_wal_that_the_daemon_has_read(living: Living) -> None:
    """While anybody has it open, SQLite goes by its index in shared memory, and hides it; the next start tells."""
    emptied(living)
    confirmed(living.house, living.house.set("tts-worker", volume_percent=56), "tts-worker")
    said = len(living.wire.said)
    with nothing_published(living):
        flipped(wal(living), 32 + 24 + 100)
        confirmed(living.house, living.house.set("router", router_stream_min_chars=living.number()), "router")
        assert len(living.wire.said) == said
        os.kill(living.pid, signal.SIGKILL)
        living.house.daemon()
        living.wire.until_says(said_of("not-the-newest"), since=said)


# disks that fail ------------------------------------------------------------------------------------


def files(living: Living) -> list[Path]:
    return [living.folder / f"config.db{suffix}" for suffix in ("", "-wal")]


def test_one_failed_read_is_tried_again_and_two_are_told(living: Living, tmp_path: Path) -> None:
    house, wire, said = living.house, living.wire, len(living.wire.said)
    with failing(living.pid, tmp_path / "once", "pread64", "EIO", "1", files(living)) as once:
        confirmed(house, house.set("tts-worker", volume_percent=31), "tts-worker")
        until(lambda: once.hits == 1, "the failed read")
    assert {one[:4] for one in wire.said[said:]} <= {NORMAL[:4]}
    with failing(living.pid, tmp_path / "ever", "pread64", "EIO", "1+", files(living)) as ever:
        version = house.set("tts-worker", volume_percent=32)
        wire.client.wait_for(lambda _: not wire.said[-1].ok)
        assert wire.said[-1][:4] == ("corrupted", "read-only-fallback", False, True)
        assert wire.said[-1].event == "db-corrupted" or wire.said[-1].event.startswith("io-error:")
        until(lambda: ever.hits >= 2, "the second failure")
    wire.until_says(RECOVERED)
    confirmed(house, version, "tts-worker")


@pytest.mark.parametrize(
    ("call", "error"), [("pwrite64", "EIO"), ("fdatasync", "EIO"), ("pwrite64", "ENOSPC")]
)
def test_a_write_that_the_disk_refuses_is_not_acknowledged(
    call: str, error: str, living: Living, tmp_path: Path
) -> None:
    cli, said = Cli(living.folder), len(living.wire.said)
    before = [cli.json("get", "stt-worker")[name] for name in ("config", "config_version")]
    with nothing_published(living):
        refused = subprocess.run(
            [
                *options(tmp_path / "log", call, error, "1+", files(living)), sys.executable, "-m",
                "config_daemon.cli.main", "set", "stt-worker", "vad_threshold=0.9", "--data", str(living.folder),
            ],
            capture_output=True, text=True, timeout=60, env=dict(os.environ),
        )  # fmt: skip
        assert "(INJECTED)" in (tmp_path / "log").read_text()
        assert refused.returncode == 69, refused.stderr
        assert "is at version" not in refused.stdout
    assert [cli.json("get", "stt-worker")[name] for name in ("config", "config_version")] == before
    assert {one[:4] for one in living.wire.said[said:]} <= {NORMAL[:4]}
    confirmed(living.house, living.house.set("stt-worker", vad_threshold=0.3))
    confirmed(living.house, living.house.set("stt-worker", vad_threshold=0.2))
