"""Adds assignments to a `.env` that may be there already, without touching what stands in it.

Laws: what the file sets is never set anew; it is the old file or the whole new one, durable and private;
what an interrupted run left beside it is removed, because keys are in it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from config_daemon.errors import SettingsError
from config_daemon.store.dotenv import MAX_BYTES, content_of, decoded, unusable
from config_daemon.store.dotenv_new import quote, write_new
from config_daemon.store.files import replace_durably
from config_daemon.store.privacy import refuse_exposed

if TYPE_CHECKING:
    from pathlib import Path


def add(path: Path, lines: Sequence[tuple[str, str]], comment: str) -> None:
    """Add assignments at the end of a `.env`, or make one of mode 0600 that holds them.

    Raises: SettingsError when the file sets one of the names, is a symbolic link, cannot be written, or
    would not read back as before plus these; KeyUnavailable when others can touch it.
    """
    try:
        for left in path.parent.glob(f".{path.name}.*.new"):
            left.unlink()
        if path.is_symlink():
            what, mend = (
                "the file is a symbolic link, and nothing is written through one",
                "Put a file there.",
            )
            raise unusable(path, "symbolic_link", what, mend)
        if not path.exists():
            write_new(path, lines, comment)
            return
        refuse_exposed(path)
        replace_durably(path, _content(path, lines, comment))
    except OSError as error:
        what = f"the file cannot be written: {errno.errorcode.get(error.errno or 0, '?')}"
        raise unusable(path, "unwritable", what, "Make room, or make the folder writable.") from error


def _content(path: Path, lines: Sequence[tuple[str, str]], comment: str) -> bytes:
    before = content_of(path)
    entries = decoded(before, path).entries
    for name, _ in lines:
        if entry := entries.get(name):
            raise SettingsError(
                f"{path}:{entry.line} sets {name} already",
                suggestion="Delete that line if nothing is to the right of its =, then run this again.",
            )
    text = f"\n# {comment}\n" + "".join(f"{name}={quote(value)}\n" for name, value in lines)
    after = before + b"\n" * (not before.endswith(b"\n")) + text.encode()
    wanted = [(entry.name, entry.value) for entry in entries.values()] + list(lines)
    found = [(entry.name, entry.value) for entry in decoded(after, path).entries.values()]
    if len(after) > MAX_BYTES or found != wanted:
        what = "the file would be too long, or would not read as before"
        raise unusable(path, "unwritable", what, "Look at its last line, and shorten the file.")
    return after
