"""Bits that flip in a stopped database: how many change a value or lose a row, and how many of those are noticed.

Each flip is of one random bit, in a copy. What a reader then returns is compared with what was stored; it is
noticed where an error, a row with a bad seal, or a published service without a row says so. SQLite's own
`quick_check` is asked beside it.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import apsw

from bench.figure import Line, Outcome, Scope
from bench.scene import scene
from config_daemon.errors import StoreError
from config_daemon.store.ground import load_ground
from config_daemon.store.ports import BadRow, Row
from config_daemon.store.seals import RowSealer
from config_daemon.store.sqlite import SqliteReader

SERVICES = 200
SEED = 20260314
Verdict = Literal["same", "noticed", "altered"]


def measure(scope: Scope) -> Outcome:
    """Flip bits until as many as asked for have changed content."""
    wanted, flips, rng = scope.of(1_000, 10), 0, random.Random(SEED)
    with scene(SERVICES, relaxed=True) as here, tempfile.TemporaryDirectory() as folder:
        sealer = load_ground(here.data, {}, {}).keys.row_sealer()
        stored = _read(here.files.database, sealer, here.services)
        plain = _whole(here.files.database, Path(folder) / "plain.db")
        counts = {"same": 0, "noticed": 0, "altered": 0, "quick_check": 0}
        while counts["noticed"] + counts["altered"] < wanted:
            flips += 1
            copy = Path(folder) / "copy.db"
            content = bytearray(plain)
            place = rng.randrange(len(content) * 8)
            content[place // 8] ^= 1 << place % 8
            for one in Path(folder).glob("copy.db*"):
                one.unlink()
            copy.write_bytes(content)
            is_known_to_sqlite = not _sqlite_is_content(copy)
            verdict = _judge(copy, sealer, here.services, stored)
            counts[verdict] += 1
            counts["quick_check"] += is_known_to_sqlite and verdict != "same"
    told = f"{counts['noticed']} of {wanted}"
    lines = [
        Line(
            "bit flips that change content, noticed",
            "all",
            "",
            told,
            not counts["altered"],
            not counts["altered"],
        ),
        Line("the same flips, noticed by SQLite's quick_check", "", "", str(counts["quick_check"]), None),
    ]
    return Outcome(lines, {"seed": SEED, "flips": flips, **counts})


def _whole(database: Path, target: Path) -> bytes:
    connection, other = apsw.Connection(str(database)), apsw.Connection(str(target))
    with other.backup("main", connection, "main") as backup:
        backup.step()
    connection.close()
    other.pragma("journal_mode", "DELETE")
    other.close()
    return target.read_bytes()


def _read(database: Path, sealer: RowSealer, services: list[str]) -> dict[str, Any]:
    reader = SqliteReader(database, sealer)
    try:
        reader.facts()
        reader.changes(None)
        return dict(reader.read(services))
    finally:
        reader.close()


def _judge(copy: Path, sealer: RowSealer, services: list[str], stored: dict[str, Any]) -> Verdict:
    try:
        found = _read(copy, sealer, services)
    except StoreError:
        return "noticed"
    if found == stored:
        return "same"
    wrong = [
        name for name in services if found.get(name) != stored[name] and isinstance(found.get(name), Row)
    ]
    is_told = any(isinstance(found.get(name, None), BadRow | None) for name in services)
    return "noticed" if is_told and not wrong else "altered"


def _sqlite_is_content(copy: Path) -> bool:
    beside = copy.with_name("copy.db-checked")
    shutil.copy(copy, beside)
    connection = apsw.Connection(str(beside))
    try:
        return list(connection.execute("PRAGMA quick_check")) == [("ok",)]
    except (apsw.Error, UnicodeDecodeError):
        return False
    finally:
        connection.close()
