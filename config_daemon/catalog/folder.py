"""Look at the folder of schema files: which appeared, changed or went, without reading what did not.

Laws:
- names are read again when the folder's own time moved; files themselves are looked at 500 a call,
  in turn, or all at once when asked or when names were read;
- a time younger than 100 ms proves nothing, since a second change may carry the same one: look again;
- a folder that cannot be read takes nothing away; a file is gone only when the folder says so;
- a file that looks like a definition and is not called like one is told, never left out in silence;
- only regular files are opened, at most 1 MiB is read, and symbolic links are followed.

Source: inode(7), "The last modification timestamp"; git's "racy" index entries, the same problem.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config_daemon.catalog.shape import SchemaError, Shape

if TYPE_CHECKING:
    from config_daemon.catalog.schema_file import SchemaFiles

SUFFIX: Final = ".schema.json"
FILES_PER_LOOK: Final = 500
_ENDINGS: Final = (".json", ".schema", ".yaml", ".yml")  # what somebody may have meant for a definition
_USUAL_BYTES: Final = 1 << 16  # a buffer for the largest file would cost more than reading most of them
_SETTLED_NS: Final = 100_000_000

_Signature = bytes  # mtime_ns, size, inode: packed, since there may be very many
_UNSETTLED: Final[_Signature] = b""
_PACKED: Final = struct.Struct("=QQQ").pack
_ALL_BITS: Final = (1 << 64) - 1  # a file may be older than 1970, or newer than 2262
_UNLIKE_ANY: Final = _ALL_BITS - 1


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found out about one file: its shape, why it has none, or that it is gone."""

    file: str
    shape: Shape | None = None
    problem: SchemaError | None = None

    @property
    def is_gone(self) -> bool:
        """Tell that the folder no longer has the file."""
        return self.shape is None and self.problem is None


class SchemaFolder:
    """The folder of dropped-in schema files; `problem` says why it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: SchemaError | None = None
        self._known: dict[str, _Signature] = {}
        self._turn: list[str] = []
        self._names_as_of: _Signature = _UNSETTLED
        self._files: SchemaFiles | None = None

    def look(self, *, full: bool = False) -> list[Look]:
        """Return what changed since the last look; `full` looks at every file."""
        try:
            now = _signature(self.path.stat())
            if full or now != self._names_as_of or not self._turn:
                names = self._names()
                gone = [Look(name) for name in self._known if name not in names]
                for look in gone:
                    del self._known[look.file]
                self._turn = sorted(names, reverse=True)
                due = self._turn if full or now != self._names_as_of else self._next()
                self._names_as_of = now
            else:
                gone, due = [], self._next()
        except FileNotFoundError as error:
            self.problem = self._unreadable(error) if self._known else None
            return []
        except OSError as error:
            self.problem = self._unreadable(error)
            return []
        self.problem = None
        return gone + list(self._changed(due))

    def forget(self, file: str) -> None:
        """Read a file again when its turn comes, though it may not have changed."""
        self._known[file] = _UNSETTLED

    def _names(self) -> set[str]:
        with os.scandir(self.path) as entries:
            return {
                e.name for e in entries if e.name.lower().endswith(_ENDINGS) and not e.name.startswith(".")
            }

    def _next(self) -> list[str]:
        due, self._turn = self._turn[-FILES_PER_LOOK:], self._turn[:-FILES_PER_LOOK]
        return due

    def _changed(self, names: Iterable[str]) -> Iterator[Look]:
        folder = os.fspath(self.path)
        for name in names:
            try:
                status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - a Path for each costs three times as much
                signature = _signature(status)
                if signature == self._known.get(name):
                    continue
                self._known[name] = signature
                yield self._read(name, status)
            except FileNotFoundError:
                if (self.path / name).is_symlink():
                    self._known[name] = _UNSETTLED
                    yield Look(
                        name, problem=SchemaError("the link leads nowhere", "Mend or remove the link.")
                    )
                elif self._known.pop(name, None) is not None:
                    yield Look(name)
            except OSError as error:
                self._known[name] = _UNSETTLED
                yield Look(name, problem=SchemaError(f"the file cannot be read: {error.strerror}", _READABLE))

    def _read(self, name: str, status: os.stat_result) -> Look:
        if not name.endswith(SUFFIX):
            return Look(name, problem=SchemaError(f"a definition is called <service>{SUFFIX}", _RENAME))
        if not stat.S_ISREG(status.st_mode):
            return Look(name, problem=SchemaError("this is no regular file", "Put a JSON file here."))
        if self._files is None:
            from config_daemon.catalog.schema_file import SchemaFiles

            self._files = SchemaFiles()
        try:
            return Look(name, shape=self._files.shape(_bytes(f"{os.fspath(self.path)}/{name}")))
        except SchemaError as problem:
            return Look(name, problem=problem)

    def _unreadable(self, error: OSError) -> SchemaError:
        return SchemaError(f"the schema folder cannot be read: {error.strerror}", _READABLE)


_RENAME: Final = (
    "Rename it so that the service's name stands before that ending, or move it out of the folder."
)
_READABLE: Final = "Make it readable for the user that the daemon runs as."


def _bytes(path: str) -> bytes:
    """Return a file's bytes, one more than the limit at most; a file that became a pipe does not block."""
    from config_daemon.catalog.schema_file import MAX_BYTES

    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        content = os.read(descriptor, _USUAL_BYTES)
        while 0 < len(content) <= MAX_BYTES and (more := os.read(descriptor, MAX_BYTES + 1 - len(content))):
            content += more
        return content
    finally:
        os.close(descriptor)


def _signature(status: os.stat_result) -> _Signature:
    """Return what tells one state of a file from another, or a value that equals no state yet."""
    if abs(time.time_ns() - status.st_mtime_ns) < _SETTLED_NS:
        return _PACKED(_UNLIKE_ANY, status.st_size, time.monotonic_ns())
    return _PACKED(status.st_mtime_ns & _ALL_BITS, status.st_size, status.st_ino)
