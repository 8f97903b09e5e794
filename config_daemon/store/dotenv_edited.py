"""Replaces and removes assignments in a `.env`, without touching what else stands in it.

Laws: all of it happens in one replacement, durable and private, or nothing does; every byte that belongs to
no changed assignment stays, a comment behind a replaced value too; what is new comes last; before the file is
replaced it was read back, and everything else reads as before.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from config_daemon.errors import SettingsError
from config_daemon.store.dotenv import MAX_BYTES, Entry, content_of, decoded, parse, unusable
from config_daemon.store.dotenv_new import quote
from config_daemon.store.files import replace_durably
from config_daemon.store.privacy import refuse_exposed

if TYPE_CHECKING:
    from pathlib import Path

_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_ASSIGNMENT = re.compile(
    r"""(?P<head>[^=]*=[^\S\r\n]*+)(?:"(?:\\.|[^"\\])*+"|'(?:\\.|[^'\\])*+'|[^\r\n]*?)"""
    r"""(?P<tail>(?:[^\S\r\n]+\#[^\r\n]*)?\s*)""",
    re.DOTALL,
)


def edit(path: Path, changes: Mapping[str, str | None]) -> None:
    """Give names other values in a `.env`; None removes an assignment, a name that is not there is added.

    Raises: SettingsError when the file is a symbolic link, is not there, cannot be written, or would not
    read back as before but for these; KeyUnavailable when others can touch it.
    """
    try:
        for left in path.parent.glob(f".{path.name}.*.new"):
            left.unlink()
        if path.is_symlink():
            what = "the file is a symbolic link, and nothing is written through one"
            raise unusable(path, "symbolic_link", what, "Put a file there.")
        before = content_of(path)
        refuse_exposed(path)
        after = _edited(before, path, changes)
        if after != before:
            replace_durably(path, after)
    except OSError as error:
        what = f"the file cannot be written: {errno.errorcode.get(error.errno or 0, '?')}"
        raise unusable(path, "unwritable", what, "Make room, or make the folder writable.") from error


def _edited(before: bytes, path: Path, changes: Mapping[str, str | None]) -> bytes:
    entries = decoded(before, path).entries
    text = before.decode()
    lines = [found[0] for found in _LINES.finditer(text) if found[0]]
    for name in [name for name in entries if name in changes]:
        first, last = entries[name].line - 1, _end(lines, entries[name], path)
        value, source = changes[name], "".join(lines[first:last])
        lines[first] = _mark(source) if value is None else _replaced(source, value)
        lines[first + 1 : last] = [""] * (last - first - 1)  # the numbers of later lines stay
    after = "".join(lines)
    new = [(name, value) for name, value in changes.items() if name not in entries and value is not None]
    if new:
        after += "" if not after or after.endswith(("\n", "\r")) else "\n"
        after += "".join(f"{name}={quote(value)}\n" for name, value in new)
    _check(after, path, entries, changes)
    return after.encode()


def _check(after: str, path: Path, entries: Mapping[str, Entry], changes: Mapping[str, str | None]) -> None:
    wanted = {name: changes.get(name, entry.value) for name, entry in entries.items()} | dict(changes)
    found = {name: entry.value for name, entry in decoded(after.encode(), path).entries.items()}
    there = {name: value for name, value in wanted.items() if value is not None}
    if len(after.encode()) > MAX_BYTES or list(found.items()) != list(there.items()):
        what = "the file would be too long, or would not read as before"
        raise unusable(path, "unwritable", what, "Write each key in a line of its own, and shorten the file.")


def _end(lines: list[str], entry: Entry, path: Path) -> int:
    """Return the index behind an assignment's last line: a value in quotes may have several."""
    first = entry.line - 1
    for last in range(entry.line, len(lines) + 1):
        try:
            alone = parse("".join(lines[first:last]), path).entries
        except SettingsError:
            continue
        if alone and alone[entry.name].value == entry.value:
            return last
    what = f"line {entry.line} cannot be told from what follows it"
    raise unusable(path, "unwritable", what, "Write that value in one line, in double quotes.")


def _mark(source: str) -> str:
    """Return the byte order mark that a removed first line began with."""
    return "\ufeff" * (len(source) - len(source.lstrip("\ufeff")))


def _replaced(source: str, value: str) -> str:
    found = _ASSIGNMENT.fullmatch(source)
    assert found is not None, "there is an = in every assignment"
    return f"{found['head']}{quote(value)}{found['tail']}"
