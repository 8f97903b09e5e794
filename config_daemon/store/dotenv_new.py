"""Writes a new `.env` that `dotenv` reads back exactly.

Laws: what is there is never overwritten; the file is there whole, durable and private, or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from config_daemon.errors import SettingsError
from config_daemon.store.dotenv import MAX_BYTES, parse, unusable

if TYPE_CHECKING:
    from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
_SINGLE = re.compile(r"[^'\\\x00-\x1f\x7f]+")
_ESCAPES = {ord(raw): "\\" + letter for raw, letter in zip('\\"\a\b\f\n\r\t\v', '\\"abfnrtv', strict=True)}


def quote(value: str) -> str:
    """Return `value` written so that `parse` reads it back exactly; line breaks become `\\n`.

    Raises: SettingsError for a NUL or half of a surrogate pair, which no `.env` can hold.
    """
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        what = "a NUL or a lone surrogate cannot be written to a `.env` file"
        raise SettingsError(what, suggestion="Encode the value, as base64 for instance.")
    if _PLAIN.fullmatch(value):
        return value
    # Single quotes where they can hold the value: other readers of the file expand nothing in them.
    return f"'{value}'" if _SINGLE.fullmatch(value) else f'"{value.translate(_ESCAPES)}"'


def write_new(path: Path, lines: Sequence[tuple[str, str]], comment: str) -> None:
    """Make a `.env` of mode 0600 that holds `comment` and the assignments, whole or not at all, durably.

    Raises: SettingsError when the file is there already (it is never overwritten), when it cannot be
    written, or when `read` would not give back exactly these assignments.
    """
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    text = head + "".join(f"{name}={quote(value)}\n" for name, value in lines)
    content = text.encode(errors="replace")
    entries = parse(text, path).entries.values()
    if len(content) > MAX_BYTES or [(entry.name, entry.value) for entry in entries] != list(lines):
        what = "the file would be too long, or a name is not one"
        raise unusable(path, "unwritable", what, "Use letters, digits and _ in names.")
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _create(folder, path.name, content)
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError as error:
        what, mend = "the file is there already and was left alone", "Move it away first."
        raise unusable(path, "exists", what, mend) from error
    except OSError as error:
        what = f"the file cannot be written: {errno.errorcode.get(error.errno or 0, '?')}"
        raise unusable(path, "unwritable", what, "Make room, or make the folder writable.") from error


def _create(folder: int, name: str, content: bytes) -> None:
    """Write a file without a name, then name it: a crash leaves all of it or nothing.

    A file system that has no nameless files gets the name first.
    """
    flags, named = os.O_WRONLY | os.O_CLOEXEC, False
    try:
        descriptor = os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        descriptor = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        named = True
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o600)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
            if not named:
                os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=folder, follow_symlinks=True)
    except BaseException:
        if named:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
        raise
