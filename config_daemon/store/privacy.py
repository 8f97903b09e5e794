"""Says who else can touch a file that holds a key, and reads such a file only when nobody can.

Laws: modes and owners of the file and of the links to it count, not the folders around it; a file that
cannot be examined counts as touched; what was examined is what is read; no message holds what is in it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shlex
import stat
from typing import TYPE_CHECKING

from config_daemon.errors import ErrorContext, KeyUnavailable, UsageError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 64 * 1024
_OTHERS = 0o066
_OTHERS_OF_CREDENTIALS = 0o026  # systemd lets one user in by an ACL, which shows as readable by the group


def check_private(
    path: Path, seen: os.stat_result | None = None, *, others: int = _OTHERS
) -> tuple[ErrorContext, ...]:
    """Return why a key must not be taken from this file; nothing when only root and we can touch it.

    A file that cannot be examined is a reason too; `seen` is what an opened one said about itself.
    """
    word, ours, found = shlex.quote(str(path)), (0, os.geteuid()), []
    try:
        seen = seen or path.stat()  # first: it fails on a loop of links
        foreign = sorted(link for link in _links(path.absolute(), set()) if link.lstat().st_uid not in ours)
    except (OSError, ValueError) as error:
        name = errno.errorcode.get(getattr(error, "errno", 0), "not a path")
        return (_exposed(path, f"it cannot be examined: {name}", f"Look at it with `namei -l {word}`."),)
    for link in foreign:
        what = f"the link {link} on the way to it belongs to user {link.lstat().st_uid}"
        found.append(_exposed(path, what, "Give the path without that link, or remake the link as root."))
    if seen.st_uid not in ours:
        mend = _as_owner(path, seen) or (
            f"Run `chown {os.geteuid()} {word}` once you know that nobody has changed it."
        )
        found.append(
            _exposed(path, f"it belongs to user {seen.st_uid}, neither root nor the one reading it", mend)
        )
    if seen.st_mode & others:
        what = f"others may read or write it: mode {seen.st_mode & 0o7777:04o}"
        found.append(_exposed(path, what, f"Run `chmod 600 {word}`; replace the keys if others were there."))
    return tuple(found)


def refuse_exposed(path: Path, seen: os.stat_result | None = None, *, others: int = _OTHERS) -> None:
    """Go on only when nobody else can touch a file.

    Raises: KeyUnavailable with everything that `check_private` found.
    """
    problems = check_private(path, seen, others=others)
    if problems:
        raise KeyUnavailable(problems[0].message, suggestion=problems[0].suggestion, contexts=problems)


def read_named(path: Path) -> str:
    """Return the text of a private file that a person named.

    Raises: UsageError when there is no such file; KeyUnavailable, as `read_private`.
    """
    if not os.path.lexists(path):
        raise UsageError(f"there is no file {path}", suggestion="Name the right file.")
    return read_private(path)


def read_private(path: Path, *, credential: bool = False) -> str:
    """Return the text of a file that holds a secret; a credential may be as systemd leaves it.

    Raises: KeyUnavailable when others can touch it, when it cannot be read, or is no short text.
    """
    return _read(path, _OTHERS_OF_CREDENTIALS if credential else _OTHERS)


def read_public(path: Path) -> str:
    """Return the text of a file whose content is no secret.

    Raises: KeyUnavailable when it cannot be read, or is no short text.
    """
    return _read(path, None)


def _read(path: Path, others: int | None) -> str:
    try:
        # not blocking: a pipe of this name could else stop us for ever
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode):
                raise KeyUnavailable(f"{path} is no regular file", suggestion="Name the file itself.")
            if others is not None:
                refuse_exposed(path, seen, others=others)
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                content = stream.read(MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if len(content) > MAX_BYTES:
        raise KeyUnavailable(f"{path} is too long for a secret", suggestion="Name the right file.")
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass
    # outside of the handler: the error in its context would carry the content along
    raise KeyUnavailable(
        f"{path} is no text in UTF-8", suggestion="Name the right file; a key is PEM or base64."
    )


def _unreadable(path: Path, error: OSError | ValueError) -> KeyUnavailable:
    word = shlex.quote(str(path))
    if isinstance(error, FileNotFoundError):
        mend = "Name the right file, or put it back: `config-daemon keys restore FILE` restores keys."
        return KeyUnavailable(f"there is no file {path}", suggestion=mend)
    if isinstance(error, PermissionError):
        what = f"{path} may not be read by user {os.geteuid()}"
        return KeyUnavailable(
            what, suggestion=f"See who may with `namei -l {word}`, and run this as that user."
        )
    name = errno.errorcode.get(getattr(error, "errno", None) or 0, "not a path")
    return KeyUnavailable(f"{path} cannot be read: {name}", suggestion=f"Look at it with `namei -l {word}`.")


def _as_owner(path: Path, seen: os.stat_result) -> str | None:
    """Return how root goes on as the owner of a file in the owner's own folder; None where that is not so.

    To root's own `chown` a daemon that runs as the owner would lose its keys.
    """
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(OSError):
        if path.absolute().parent.stat().st_uid != seen.st_uid:
            return None
        try:
            run = f"runuser -u {shlex.quote(pwd.getpwuid(seen.st_uid).pw_name)} --"
        except KeyError:
            run = f"sudo -u '#{seen.st_uid}'"
        return (
            f"Run this as its owner: `{run} config-daemon …`; leave the file's owner as it is, for a daemon that"
            " runs as that user."
        )
    return None


def _exposed(path: Path, what: str, mend: str) -> ErrorContext:
    return ErrorContext("not_private", "ENV_NOT_PRIVATE", f"{what} ({path})", mend, path.name)


def _links(path: Path, found: set[Path]) -> set[Path]:
    for part in (*reversed(path.parents), path):
        if part not in found and part.is_symlink():
            found.add(part)
            _links(part.parent / part.readlink(), found)
    return found
