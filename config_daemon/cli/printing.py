"""How results and errors reach a person or a program.

Laws: data goes to stdout, everything else to stderr; what is stored cannot steer a terminal; colour
only where somebody looks and nobody objects (`NO_COLOR`); JSON is whole and valid in every encoding.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import click

from config_daemon.errors import ConfigDaemonError, ErrorContext, VersionConflict

SHOWN_CHARACTERS = 60


def prepare_streams() -> None:
    """Let every text be printed, whatever the terminal's encoding: what it lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def painted(text: str, err: bool = False, **style: Any) -> str:
    """Return text in a style where a person sees it on a terminal and does not object."""
    stream = sys.stderr if err else sys.stdout
    if stream is None or os.environ.get("NO_COLOR") or not stream.isatty():
        return text
    return click.style(text, **style)


def echo(text: str, err: bool = False) -> None:
    """Print one text.

    Raises: ConfigDaemonError when stdout does not take it; BrokenPipeError when its reader is gone.
    """
    try:
        click.echo(text, err=err, color=True)  # or click would take escapes out of values
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigDaemonError(
            f"the output cannot be written: {error.strerror}",
            suggestion="Look at where it goes. A change that was asked for is stored all the same.",
        ) from error


def json_text(data: Any, stream: TextIO | None, indent: int | None = None) -> str:
    """Return data as JSON that the stream can carry."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    plain = encoding.lower().replace("-", "") != "utf8"
    return json.dumps(data, ensure_ascii=plain, default=str, indent=indent)


def quoted(text: str) -> str:
    """Return text between quotes, short and without anything that a terminal would obey."""
    shown = text[:SHOWN_CHARACTERS] + ("…" if len(text) > SHOWN_CHARACTERS else "")
    return f"'{visible(shown)}'"


def visible(text: str) -> str:
    """Return text in which everything that cannot be seen is written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def change_line(key: str, before: str | None, after: str | None) -> str:
    """Return one changed key with its JSON text before and after, None where absent."""
    absent = painted("unset", dim=True)
    old, new = (absent if text is None else visible(text) for text in (before, after))
    return f"  {visible(key)}: {old} → {new}"


def difference_lines(changed: Mapping[str, tuple[str | None, str | None]], err: bool = False) -> list[str]:
    """Return a difference as lines that begin with - and +, for stdout or stderr."""
    lines = []
    for key, (before, after) in changed.items():
        if before is not None:
            lines.append(painted(f"  - {visible(key)}: {visible(before)}", err, fg="red"))
        if after is not None:
            lines.append(painted(f"  + {visible(key)}: {visible(after)}", err, fg="green"))
    return lines


def print_error(error: ConfigDaemonError, as_json: bool) -> None:
    """Print an error with everything that helps to mend it."""
    if as_json:
        body: dict[str, Any] = {"error": error.code, "message": error.message, "exit_code": error.exit_code}
        if isinstance(error, VersionConflict):
            body |= {
                "service": error.service,
                "expected_version": error.expected,
                "current_version": error.current,
            }
        body["errors"] = [context.as_dict() for context in error.contexts]
        echo(json_text(body, sys.stderr), err=True)
        return
    echo(painted("error: ", err=True, fg="red", bold=True) + _lines(error.message), err=True)
    contexts = error.contexts
    if len(contexts) == 1:
        echo(f"  {_lines(contexts[0].suggestion or error.suggestion)}", err=True)
        return
    for context in contexts:
        echo(f"  {_told(context)}", err=True)


def _told(context: ErrorContext) -> str:
    return f"{_lines(context.message)} — {_lines(context.suggestion)}"


def _lines(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))
