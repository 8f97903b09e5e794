"""Damage to a database file, as disks, people and programs do it: each injection by its name.

Laws: files are changed while nothing in this process has them open; every injection changes something.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import apsw

PAGE = 4096
MASTER = "sqlite_schema"


@dataclass(frozen=True)
class Layout:
    """Where everything lies in a database file: the pages of each table and index, its root first."""

    pages: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, path: Path) -> Layout:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            found: dict[str, tuple[int, ...]] = {}
            for name, page in connection.execute("SELECT name, pageno FROM dbstat ORDER BY path"):
                found[name] = (*found.get(name, ()), page)
        finally:
            connection.close(True)
        return cls(found)

    def at(self, name: str, place: int = 0) -> int:
        """Return the offset of a page in the file."""
        return (self.pages[name][place] - 1) * PAGE


Injection = Callable[[Path, Layout], None]


def patch(path: Path, at: int, content: bytes) -> None:
    """Write into the middle of a file, as a disk does: same inode, same length."""
    with path.open("r+b") as stream:
        stream.seek(at)
        assert stream.read(len(content)) != content, "this would change nothing"
        stream.seek(at)
        stream.write(content)


def patched(at: int, content: bytes) -> Injection:
    return lambda path, _layout: patch(path, at, content)


def page_zeroed(name: str, place: int = 0) -> Injection:
    return lambda path, layout: patch(path, layout.at(name, place), bytes(PAGE))


def rewritten(content: bytes) -> Injection:
    return lambda path, _layout: _ignore(path.write_bytes(content))


def cut_to(share: float = 0.0, size: int = 0) -> Injection:
    """Truncate a file to a share of its pages, or to a size; a negative one counts from its end."""

    def inject(path: Path, _layout: Layout) -> None:
        whole = path.stat().st_size
        length = int(whole // PAGE * share) * PAGE if share else size % whole
        with path.open("r+b") as stream:
            stream.truncate(length)

    return inject


def by_sql(*statements: str) -> Injection:
    """Change it as somebody with a shell does."""

    def inject(path: Path, _layout: Layout) -> None:
        connection = apsw.Connection(str(path))
        try:
            for statement in statements:
                connection.execute(statement)
        finally:
            connection.close(True)

    return inject


def _ignore(_value: object) -> None:
    return None


def _master_cell_zeroed(path: Path, layout: Layout) -> None:
    start = layout.at(MASTER, -1)
    content = path.read_bytes()[start : start + PAGE]
    cell = int.from_bytes(content[8:10])  # the first of the leaf's pointers
    patch(path, start + cell, bytes(20))


def _in_a_value(content: bytes) -> int:
    """Return the offset of a byte of the values of stt-worker."""
    return content.index(b"MARKED") if b"MARKED" in content else content.index(b'"vad_threshold":0.2') + 18


def _payload_byte_flipped(path: Path, _layout: Layout) -> None:
    content = path.read_bytes()
    at = _in_a_value(content)
    patch(path, at, bytes([content[at] ^ 1]))


def _not_utf8(path: Path, _layout: Layout) -> None:
    patch(path, _in_a_value(path.read_bytes()), b"\xff")


def _torn(path: Path, layout: Layout) -> None:
    patch(path, layout.at("service_configs", -1) + PAGE // 2, bytes(PAGE // 2))


def _misdirected(path: Path, layout: Layout) -> None:
    source = layout.at("config_history", -1)
    patch(path, layout.at("service_configs", -1), path.read_bytes()[source : source + PAGE])


def _appended(path: Path, _layout: Layout) -> None:
    with path.open("ab") as stream:
        stream.write(random.Random(5000).randbytes(5000))  # noqa: S311 - replayable


def _removed(path: Path, _layout: Layout) -> None:
    path.unlink()


def _folder(path: Path, _layout: Layout) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path, _layout: Layout) -> None:
    path.unlink()
    os.mkfifo(path)


# what is done to the file -> the event that health has then; None: nothing is wrong that anybody could miss
FILE: dict[str, tuple[Injection, str | None]] = {
    "first 16 bytes zeroed": (patched(0, bytes(16)), "db-corrupted"),
    "first 100 bytes zeroed": (patched(0, bytes(100)), "db-corrupted"),
    "page 1 zeroed": (patched(0, bytes(PAGE)), "db-corrupted"),
    "random bytes": (rewritten(random.Random(1).randbytes(20 * PAGE)), "db-corrupted"),  # noqa: S311
    "a text file": (rewritten(b"this is no database\n" * 400), "db-corrupted"),
    "page size 0": (patched(16, bytes(2)), "db-corrupted"),
    "format version 9": (patched(19, b"\x09"), "db-corrupted"),
    "0 bytes": (rewritten(b""), "db-corrupted"),
    "missing": (_removed, "db-missing"),
    "a folder": (_folder, "db-cantopen"),
    "a pipe": (_pipe, "db-cantopen"),
    "truncated to 50 bytes": (cut_to(size=50), "db-corrupted"),
    "truncated to 512 bytes": (cut_to(size=512), "db-corrupted"),
    "truncated to half": (cut_to(share=0.5), "db-corrupted"),
    "last page cut by 1000 bytes": (cut_to(size=-1000), "db-corrupted"),
    "a cell of sqlite_master zeroed": (_master_cell_zeroed, "db-corrupted"),
    "one byte of a value flipped": (_payload_byte_flipped, "rows-corrupted:1"),
    "invalid UTF-8 in a value": (_not_utf8, "rows-corrupted:1"),
    "an index's page type": (
        lambda path, layout: patch(path, layout.at("idx_config_items_key"), b"\x03"), "db-corrupted",
    ),
    "an index's page zeroed": (page_zeroed("idx_config_history_time"), "db-corrupted"),
    "the table's page zeroed": (page_zeroed("service_configs"), "db-corrupted"),
    "the table's own index zeroed": (page_zeroed("sqlite_autoindex_service_configs_1"), "db-corrupted"),
    "a torn page": (_torn, "db-corrupted"),
    "a page in another one's place": (_misdirected, "db-corrupted"),
    "write version 9": (patched(18, b"\x09"), "db-readonly"),
    "user_version 99": (by_sql("PRAGMA user_version = 99"), "schema-too-new"),
    "a table dropped": (by_sql("DROP TABLE service_configs"), "schema-too-new"),
    "rubbish appended": (_appended, None),
}  # fmt: skip


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _wal_flipped(path: Path, _layout: Layout) -> None:
    at = 32 + 3 * (24 + PAGE) + 24 + 100  # in the fourth frame, behind the head of the file
    content = _wal(path).read_bytes()
    patch(_wal(path), at, bytes([content[at] ^ 1]))


def _wal_cut(path: Path, _layout: Layout) -> None:
    with _wal(path).open("r+b") as stream:
        stream.truncate(_wal(path).stat().st_size - 100)


# the last commits are in the `-wal` only; what SQLite then reads is whole, and older
WAL: dict[str, tuple[Injection, str | None]] = {
    "intact": (lambda _path, _layout: None, None),
    "-wal deleted": (lambda path, _: _wal(path).unlink(), "not-the-newest"),
    "-wal's head zeroed": (lambda path, _: patch(_wal(path), 0, bytes(32)), "not-the-newest"),
    "-wal truncated to 0": (lambda path, _: _ignore(_wal(path).write_bytes(b"")), "not-the-newest"),
    "-wal cut by 100 bytes": (_wal_cut, "not-the-newest"),
    "a byte of the -wal flipped": (_wal_flipped, "not-the-newest"),
}
