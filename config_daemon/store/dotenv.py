"""Reads one `.env` file strictly.

Laws: one bad line and the file gives no value, yet every bad line is told at once. No message, repr or
exception holds a value, nor a name that may be a torn-off piece of one. Nothing is expanded; `os.environ`
is neither read nor changed. python-dotenv's tokeniser does the parsing; what it swallows in silence (a
quote that runs on into a later line, a name set twice) and what would make it slow is found here.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from config_daemon.errors import ErrorContext, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from dotenv.parser import Binding

MAX_BYTES = 1 << 17  # up to 150 ms a MiB, in the loop that also publishes
MAX_LINES = 1_500  # 10 to 20 µs each
MAX_ESCAPES = 10_000  # 1 µs each
MAX_BLANKS = 256  # its search for an inline comment is quadratic in a run of blanks: 16 000 take 350 ms
MAX_SQUARES = 1_000_000  # of all such runs together

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TELLABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")  # what a line of a torn PEM block is not
_HEAD = r"""(?:export[^\S\n]+)?+(?:'[^']+'|[^'=\#\s][^=\#\s]*)[^\S\n]*=[^\S\n]*"""
_OPENED = re.compile(rf"{_HEAD}[\"']")
_CLOSED = re.compile(rf"""{_HEAD}(?:"(?:\\.|[^"\\])*+"|'(?:\\.|[^'\\])*+')""", re.DOTALL)
_QUOTED_OR_COMMENT = re.compile(rf"[^\S\n]*+(?:\#|{_HEAD}[\"'])")
_BLANKS = re.compile(rf"\S[^\S\n]{{{MAX_BLANKS + 1},}}")
_SOME_BLANKS = re.compile(r"\S[^\S\n]{32,}")
_KEY_OPENED = re.compile(r"[^\S\n]*+(?:export[^\S\n]+)?'[^'\n]*$")
_SETTING_OR_COMMENT = re.compile(r"\s*(?:\#|(?:export\s+)?[A-Za-z_][A-Za-z0-9_.-]*\s*=)")
_Fault = tuple[str, str, str]  # error_type, what is wrong, how to mend it


class EnvMissing(SettingsError):
    """There is no `.env` file at this path."""

    code = "ENV_MISSING"
    suggestion = "Run `config-daemon init` to make one, or put the file back from its backup."


@dataclass(frozen=True, slots=True)
class Entry:
    """One assignment; `line` is where it begins, counted from 1."""

    name: str
    value: str = field(repr=False)
    line: int


@dataclass(frozen=True, slots=True)
class EnvFile:
    """Every assignment of one valid file, in the file's order."""

    path: Path
    entries: Mapping[str, Entry]

    def get(self, name: str) -> str | None:
        """Return the value of `name`, or None when the file does not set it."""
        entry = self.entries.get(name)
        return None if entry is None else entry.value


def _refusal(path: Path, faults: Sequence[tuple[int, _Fault]]) -> SettingsError:
    """Return the error for faults and their lines; line 0 means the file as a whole."""
    problems = []
    for line, (kind, what, mend) in faults:
        where, place = (f"line {line}: ", f"{path.name}:{line}") if line else ("", path.name)
        problems.append(ErrorContext(kind, "ENV_INVALID", f"{where}{what} ({path})", mend, place))
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return SettingsError(problems[0].message + more, suggestion=problems[0].suggestion, contexts=problems)


def unusable(path: Path, kind: str, what: str, mend: str) -> SettingsError:
    """Return the error that refuses a file as a whole."""
    return _refusal(path, [(0, (kind, what, mend))])


def parse(text: str, path: Path) -> EnvFile:
    """Return the assignments in the text of a `.env` file; `path` only names it in messages.

    A byte order mark is dropped, and CR LF or CR count as LF, inside of quotes too.
    Raises: SettingsError with one ErrorContext per problem; its `failed_field` is `<file name>:<line>`.
    """
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if faults := list(_slow(lines)):
        raise _refusal(path, faults)
    nul = ("nul_character", "there is a NUL character", "Delete it, and save the file as UTF-8 text.")
    faults = [(number, nul) for number, line in enumerate(lines, 1) if "\0" in line]
    entries: dict[str, Entry] = {}
    for number, binding, source in _bindings(text):
        if fault := _fault(binding, source, entries):
            faults.append((number, fault))
        elif binding.key is not None and binding.value is not None:
            entries[binding.key] = Entry(binding.key, binding.value, number)
    if faults:
        raise _refusal(path, sorted(faults, key=lambda found: found[0]))
    return EnvFile(path, MappingProxyType(entries))


def _slow(lines: Sequence[str]) -> Iterator[tuple[int, _Fault]]:
    if len(lines) > MAX_LINES + 1:
        mend = "Delete lines; a line break in a value can be written as \\n."
        yield 0, ("too_many_lines", f"there are more than {MAX_LINES} lines", mend)
        return
    if sum(line.count("\\") for line in lines) > MAX_ESCAPES:
        mend = "Put long values in files of their own."
        yield 0, ("too_many_escapes", f"there are more than {MAX_ESCAPES} backslashes", mend)
        return
    what, mend = (
        "blanks stand in a row outside of quotes",
        "Delete the blanks, or put the whole value in quotes.",
    )
    # a key in quotes that runs on into later lines may end where one of them seems to begin a value in quotes
    torn = any(map(_KEY_OPENED.match, lines))
    squares = 0
    for number, line in enumerate(lines, 1):
        if len(line) < MAX_BLANKS or (not torn and _QUOTED_OR_COMMENT.match(line)):
            continue
        squares += sum(len(run) ** 2 for run in _SOME_BLANKS.findall(line))
        if _BLANKS.search(line):
            yield number, ("too_many_blanks", f"more than {MAX_BLANKS} {what}", mend)
        elif squares > MAX_SQUARES:
            yield number, ("too_many_blanks", f"too many {what}", mend)
            return


def _bindings(text: str) -> Iterator[tuple[int, Binding, str]]:
    """Yield line, binding and source; the tokeniser's own line is that of the blank lines before it."""
    from dotenv.parser import parse_stream  # its package takes 25 ms to import: only when there is a file

    line = 1
    for binding in parse_stream(io.StringIO(text)):
        whole = binding.original.string
        source = whole.lstrip()
        yield line + whole.count("\n", 0, len(whole) - len(source)), binding, source
        line += whole.count("\n")


def _fault(binding: Binding, source: str, entries: Mapping[str, Entry]) -> _Fault | None:
    key = binding.key
    if binding.error and _OPENED.match(source):
        return _quote_fault(source, broken=True)
    if key is None:
        mend = "Write NAME=value, or # before a comment; a value of several lines goes in double quotes."
        if binding.error or source[:1] not in ("", "#"):
            return "not_an_assignment", "this is neither an assignment nor a comment", mend
        return None
    if binding.value is None:
        mend = "Write NAME= for an empty value; a value of several lines goes in double quotes."
        return "missing_equals", "there is a name without = after it", mend
    valid = _NAME.match(key)
    if valid is None or valid.end() < len(key):
        what = f"character {valid.end() + 1 if valid else 1} of the name is not allowed there"
        mend = "Use letters, digits and _ only, no digit first; write _ instead of a dot or a dash."
        return "invalid_name", what, mend
    if "\n" in source.rstrip("\n") and (fault := _quote_fault(source, broken=False)):
        return fault
    if key in entries:
        shown = key if _TELLABLE.fullmatch(key) else "the name"
        what = f"{shown} is set a second time; line {entries[key].line} has set it already"
        return "duplicate_name", what, "Keep the line that is right and delete the other one."
    return None


def _quote_fault(source: str, *, broken: bool) -> _Fault | None:
    """Tell what is wrong with a quoted value, or None; `broken` says that the tokeniser refused it.

    A value whose quote was forgotten ends at the first quote in a later line, and what stands before
    that one in its line begins an assignment or a comment. To the tokeniser such a file can be valid.
    """
    closed = _CLOSED.match(source)
    _, several, last = closed[0].rpartition("\n") if closed else ("", "", "")
    if closed is None or (several and _SETTING_OR_COMMENT.match(last)):
        mend = 'Close it in the line where it belongs; inside, a line break is \\n and a quote is \\".'
        below = f", up to a later one {closed[0].count(several)} lines below" if closed else ""
        return "unterminated_quote", f"a quote is opened and not closed{below}", mend
    mend = "Put the whole value inside of the quotes, and # before a comment."
    return ("text_after_quote", "there is text after the closing quote", mend) if broken else None


def read(path: Path) -> EnvFile:
    """Return the assignments in the `.env` file at `path`, opened once; symbolic links are followed.

    Raises: EnvMissing when there is none; SettingsError when it cannot be read, is no regular file, is
    longer than MAX_BYTES, is not UTF-8, or when `parse` refuses it.
    """
    return decoded(content_of(path), path)


def content_of(path: Path) -> bytes:
    """Return the bytes of the file at `path`.

    Raises: as `read`, but for what they mean.
    """
    try:
        # O_NONBLOCK: opening a FIFO that somebody put there must not wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            mode = os.fstat(descriptor).st_mode
            content = bytearray()
            while stat.S_ISREG(mode) and len(content) <= MAX_BYTES:
                if not (piece := os.read(descriptor, MAX_BYTES + 1 - len(content))):
                    break
                content += piece
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise EnvMissing(f"there is no file {path}") from error
    except PermissionError as error:
        raise unusable(path, *_forbidden(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        name = errno.errorcode.get(getattr(error, "errno", 0), "not a path")
        mend = "Give the path of a readable file on a healthy disk."
        raise unusable(path, "unreadable", f"the file cannot be read: {name}", mend) from error
    if not stat.S_ISREG(mode):
        what = "this is a folder" if stat.S_ISDIR(mode) else "this is no regular file"
        raise unusable(path, "not_a_file", what, "Give the path of the `.env` file itself.")
    if len(content) > MAX_BYTES:
        mend = "Keep only settings in it; long values belong in files of their own."
        raise unusable(path, "too_large", f"the file is longer than {MAX_BYTES} bytes", mend)
    return bytes(content)


def _forbidden(path: Path) -> _Fault:
    word = shlex.quote(str(path))
    try:
        seen = path.stat()
    except OSError:
        what = "a folder on the way to the file may not be entered"
        return "unreadable", what, f"See which one with `namei -l {word}`, and allow it with `chmod u+x`."
    what = f"the file has mode {seen.st_mode & 0o7777:04o} and belongs to user {seen.st_uid}, not readable"
    owner = "" if seen.st_uid == os.geteuid() else f"chown {os.geteuid()} {word} && "
    return "unreadable", f"{what} for user {os.geteuid()}", f"Run `{owner}chmod 600 {word}`."


def decoded(content: bytes, path: Path) -> EnvFile:
    """Return the assignments in bytes that `content_of` returned.

    Raises: SettingsError when they are not UTF-8 or `parse` refuses them.
    """
    try:
        return parse(content.decode(), path)
    except UnicodeDecodeError as error:
        offset = error.start
    # Outside of the handler: the error in its context would carry the whole content along.
    utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    what = f"byte {offset} is not UTF-8" + (" (this looks like UTF-16)" if utf_16 else "")
    line = content.count(b"\n", 0, offset) + 1
    raise _refusal(path, [(line, ("not_utf_8", what, "Save the file as UTF-8."))])
