"""Says who else can touch a file that holds a key.

Laws: modes and owners of the file and of the links to it count, not the folders around it; a file that
cannot be examined counts as touched.
"""

from __future__ import annotations

import errno
import os
import shlex
from typing import TYPE_CHECKING

from config_daemon.errors import ErrorContext

if TYPE_CHECKING:
    from pathlib import Path


def check_private(path: Path) -> tuple[ErrorContext, ...]:
    """Return why a key must not be taken from this file; nothing when only root and we can touch it.

    A file that cannot be examined is a reason too. Modes and owners count, not the folders around it.
    """
    word, ours, found = shlex.quote(str(path)), (0, os.geteuid()), []
    try:
        seen = path.stat()  # first: it fails on a loop of links
        foreign = sorted(link for link in _links(path.absolute(), set()) if link.lstat().st_uid not in ours)
    except (OSError, ValueError) as error:
        name = errno.errorcode.get(getattr(error, "errno", 0), "not a path")
        return (_exposed(path, f"it cannot be examined: {name}", f"Look at it with `namei -l {word}`."),)
    for link in foreign:
        what = f"the link {link} on the way to it belongs to user {link.lstat().st_uid}"
        found.append(_exposed(path, what, "Give the path without that link, or remake the link as root."))
    if seen.st_uid not in ours:
        mend = f"Run `chown {os.geteuid()} {word}` once you know that nobody has changed it."
        found.append(
            _exposed(path, f"it belongs to user {seen.st_uid}, neither root nor the one reading it", mend)
        )
    if seen.st_mode & 0o066:
        what = f"others may read or write it: mode {seen.st_mode & 0o7777:04o}"
        found.append(_exposed(path, what, f"Run `chmod 600 {word}`; replace the keys if others were there."))
    return tuple(found)


def _exposed(path: Path, what: str, mend: str) -> ErrorContext:
    return ErrorContext("not_private", "ENV_NOT_PRIVATE", f"{what} ({path})", mend, path.name)


def _links(path: Path, found: set[Path]) -> set[Path]:
    for part in (*reversed(path.parents), path):
        if part not in found and part.is_symlink():
            found.add(part)
            _links(part.parent / part.readlink(), found)
    return found
