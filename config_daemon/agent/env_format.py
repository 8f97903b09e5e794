"""Write values as a `.env` that python-dotenv, a POSIX shell (`. file`) and systemd read alike.

Laws: what one of the three would read as something else is refused and named, never written; a name is
its key in upper case, with `_` for dots and hyphens; null is a name that is not set; a list is JSON.

Sources: POSIX.1-2017 "Shell Command Language" §2.2; systemd.exec(5) `EnvironmentFile=`; python-dotenv's
`parser.py` and `variables.py` (which expands `${…}` even between single quotes).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from config_daemon.errors import ErrorContext, InvalidConfig

_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_BARE = re.compile(r"[A-Za-z0-9_./:@%+,-]+")
# what systemd takes for no text: control characters but tab and newline, and Unicode's non-characters
_UNREADABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
)
# a shell cannot set these, or reads them as something else, or other code would be run because of them
_TAKEN = re.compile(
    r"PATH|HOME|SHELL|IFS|ENV|PWD|OLDPWD|SHLVL|CDPATH|UID|EUID|PPID|_|PS[0-4]|LINENO|OPT(IND|ARG|ERR)|TMOUT"
    r"|BASH|BASH_.*|BASHOPTS|BASHPID|SHELLOPTS|POSIXLY_CORRECT|PROMPT_COMMAND|SECONDS|S?RANDOM|EPOCH(SECONDS|REALTIME)"
    r"|GROUPS|DIRSTACK|HISTCMD|FUNCNAME|PIPESTATUS|COMP_.*|(GLOB|EXEC)IGNORE"
    r"|LD_.*|DYLD_.*|GCONV_PATH|GLIBC_TUNABLES|LOCPATH|PYTHON[A-Z]+|NODE_(OPTIONS|PATH)|PERL(5OPT|5LIB|5DB|LIB)"
    r"|RUBY(OPT|LIB)|_JAVA_OPTIONS|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS|CLASSPATH|LUA_(PATH|CPATH|INIT)"
    r"|DOTNET_STARTUP_HOOKS|OPENSSL_(CONF|MODULES|ENGINES)"
)
_TEMPLATE = "Render this service with a template, where you choose the names and how they are written."


def env_text(values: Mapping[str, Any]) -> str:
    """Return one assignment a line.

    Raises: InvalidConfig with every key that cannot be written.
    """
    lines: dict[str, str] = {}
    keys: dict[str, str] = {}
    problems: list[ErrorContext] = []
    for key, value in _leaves(values):
        name = re.sub(r"[.-]", "_", key).upper()
        if why := _unusable(name, keys):
            problems.append(_problem("UNUSABLE_NAME", key, why))
            continue
        keys[name] = key
        try:
            lines[name] = f"{name}={quoted(value)}\n"
        except ValueError as error:
            problems.append(_problem("UNWRITABLE_VALUE", key, str(error)))
    if problems:
        raise InvalidConfig(problems[0].message, contexts=problems, suggestion=problems[0].suggestion)
    return "".join(lines.values())


def quoted(value: Any) -> str:
    """Return a value as it stands behind the `=`: text as it is, anything else as JSON.

    Raises: ValueError saying why no way of writing it is read alike by all; it does not repeat the value.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if _UNREADABLE.search(text):
        raise ValueError("has a control character, or one that is no text")
    if "${" in text:
        raise ValueError("has ${ in it, which python-dotenv would expand")
    if _BARE.fullmatch(text):
        return text
    if "'" not in text and "\\" not in text:
        return f"'{text}'"
    if "$" in text or "`" in text:
        raise ValueError(
            "has a quote or a backslash together with $ or `, for which readers have different escapes"
        )
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", value


def _unusable(name: str, keys: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name):
        return "makes no name of a variable: only letters, digits and _ can be in one"
    if _TAKEN.fullmatch(name):
        return f"would be {name}, which means something to shells or to the system"
    return f"would be {name}, which is {keys[name]} already" if name in keys else ""


def _problem(code: str, key: str, why: str) -> ErrorContext:
    return ErrorContext("cannot_render", code, f"{key[:100]} {why}", _TEMPLATE, failed_field=key[:100])
