"""Gets a passphrase from a person or from another program.

Laws: never from the command line, which everybody on the machine can read; never shown while it is typed;
a file that holds one must be as private as a key.
"""

from __future__ import annotations

import getpass
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from config_daemon.errors import ConfigDaemonError, UsageError

if TYPE_CHECKING:
    from config_daemon.cli.session import Session

MAX_BYTES = 64 * 1024
_ELSEWHERE = "Pipe it in, or name a private file with --passphrase-file."


class PassphrasesDiffer(ConfigDaemonError):
    """The second passphrase is not the first one."""

    code = "PASSPHRASES_DIFFER"
    suggestion = "Run the command again, and type the same passphrase twice."


def passphrase_for(session: Session, file: str | None, twice: bool) -> str:
    """Return the passphrase: from a file, from a terminal (asked a second time when `twice`), or from stdin.

    Raises: UsageError when there is none; KeyUnavailable for a file that others can read; PassphrasesDiffer.
    """
    if file is not None:
        from config_daemon.store.privacy import read_named

        return _line(read_named(Path(file)))
    if sys.stdin is None:
        raise UsageError("there is nobody to ask for a passphrase", suggestion=_ELSEWHERE)
    if not sys.stdin.isatty():
        return _piped()
    if session.as_json:
        raise UsageError("with --json nobody is asked for a passphrase", suggestion=_ELSEWHERE)
    first = _typed("Passphrase: ")
    if twice and first.strip() and _typed("Once more: ") != first:
        raise PassphrasesDiffer("the two passphrases differ; nothing was written")
    return first


def _typed(prompt: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(prompt, sys.stderr)
    except getpass.GetPassWarning as error:
        raise UsageError(
            "this terminal would show the passphrase while it is typed", suggestion=_ELSEWHERE
        ) from error


def _piped() -> str:
    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UsageError("standard input is too long for a passphrase", suggestion=_ELSEWHERE)
    try:
        return _line(content.decode())
    except UnicodeDecodeError:
        pass
    # outside of the handler: the error in its context would carry the passphrase along
    raise UsageError("the passphrase on standard input is no UTF-8", suggestion=_ELSEWHERE)


def _line(text: str) -> str:
    line = text.removesuffix("\n").removesuffix("\r")
    if "\n" in line or "\r" in line:
        raise UsageError("the passphrase has more than one line", suggestion="Give it in one line.")
    return line
