"""Turn a config into the bytes of a file: a format, or a Jinja2 template.

Laws: the same config gives the same bytes; nothing empty is ever returned; a name that a template uses and
the config lacks is an error; no message repeats a value.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import (
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
)
from jinja2.exceptions import SecurityError
from jinja2.nodes import Const, Getattr, Name
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tomli_w import dumps

from config_daemon.agent.env_format import env_text, quoted
from config_daemon.errors import ConfigDaemonError, ErrorContext, InvalidConfig
from config_daemon.yaml_writing import lines_of

_T = TypeVar("_T")
_MEND = "Mend the template, or the values of the service."


@dataclass(frozen=True, slots=True)
class Config:
    """What is rendered: one service's whole values, and which version of them."""

    service: str
    version: int
    values: Mapping[str, Any]


def rendered(source: str, config: Config) -> bytes:
    """Return the bytes of a file made by a format (a key of FORMATS) or by the template at a path.

    Raises: InvalidConfig.
    """
    if not config.values:
        raise _refused("EMPTY_CONFIG", source, "the config has no values", "Set values of the service.")
    text = FORMATS[source](config.values) if source in FORMATS else _from_template(Path(source), config)
    if not text.strip():
        raise _refused("EMPTY_FILE", source, "nothing comes of it but an empty file", _MEND)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _refused("NO_TEXT", source, "it gives characters that are no Unicode text", _MEND) from None


def check_template(source: str) -> None:
    """Read a template without rendering it; a format needs no check.

    Raises: InvalidConfig.
    """
    if source not in FORMATS:
        _guarded(source, lambda: _environment(Path(source)).get_template(Path(source).name), ())


def _from_template(path: Path, config: Config) -> str:
    names = {**config.values, "config": config.values, "service": config.service, "version": config.version}
    return _guarded(str(path), lambda: _environment(path).get_template(path.name).render(names), names)


def _environment(path: Path) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,  # files of programs, not pages
        keep_trailing_newline=True,
        loader=FileSystemLoader(path.parent),
    )
    environment.filters["env"] = quoted
    return environment


def _guarded(source: str, work: Callable[[], _T], names: Iterable[str]) -> _T:
    try:
        return work()
    except TemplateNotFound as error:
        is_own = error.name == Path(source).name
        named = (
            f" {error.name}"
            if is_own or error.name in _written(error, source)
            else ", where a value names it,"
        )
        why, mend = f"there is no file{named}", "Name a template that is there and can be read."
        if is_own and error.name and "." not in error.name:
            why = f"there is no format {error.name!r} ({', '.join(FORMATS)}) and no file of that name"
    except UndefinedError as error:
        message = _undefined(str(error.message), _written(error, source))
        why, mend = f"{_place(error, source)[0]}{message}", _meant(message, names)
    except TemplateSyntaxError as error:
        why, mend = f"line {error.lineno}: {error.message or type(error).__name__}", _MEND
    except SecurityError as error:
        why, mend = f"{_place(error, source)[0]}it wants something unsafe, which the sandbox refuses", _MEND
    except OSError as error:
        why, mend = f"it cannot be read: {error.strerror}", "Name a template that is there and can be read."
    except Exception as error:  # noqa: BLE001 - whatever a template's expressions provoke
        place, used = _place(error, source)
        an_expression = f"an expression with {', '.join(used)}" if used else "an expression"
        why, mend = (
            f"{place}{an_expression} ends in {type(error).__name__}",
            _MEND,
        )  # its text may hold values
    raise _refused("TEMPLATE", source, why, mend)


def _undefined(message: str, written: Set[str]) -> str:
    """Return what is undefined, by its name where that is no value of the config but stands in the template."""
    found = re.fullmatch(r"'(.+)' is undefined|'[\w .]+' has no attribute '(.+)'", message)
    is_written = found is not None and (found[1] or found[2]) in written
    return message if is_written else "what an expression looks up is undefined"


def _written(error: Exception, source: str) -> Set[str]:
    """Return names and texts that stand in the template, and in the one that it failed in."""
    found: set[str] = set()
    for path in {Path(source), *(Path(frame.filename) for frame in _frames(error, source))}:
        with contextlib.suppress(TemplateError, OSError, UnicodeDecodeError):
            parsed = _environment(path).parse(path.read_text(encoding="utf-8"))
            found |= {one.name for one in parsed.find_all(Name)}
            found |= {one.attr for one in parsed.find_all(Getattr)}
            found |= {one.value for one in parsed.find_all(Const) if isinstance(one.value, str)}
    return found


def _meant(message: str, names: Iterable[str]) -> str:
    """Return how to mend a name that the config lacks."""
    missing = re.match(r"'([^']*)' is undefined|.* has no attribute '([^']*)'", message)
    near = difflib.get_close_matches(missing[1] or missing[2], names, 1) if missing else []
    meant = f"Did you mean {near[0]}? If not: " if near else ""
    return f"{meant}Set that key, or write `| default(VALUE)` in the template."


def _place(error: Exception, source: str) -> tuple[str, list[str]]:
    """Return where in the templates something failed, as the beginning of a sentence, and the names used there."""
    lines = _frames(error, source)
    if not lines:
        return "", []
    path, number = Path(lines[-1].filename), lines[-1].lineno
    file = "" if path == Path(source) else f"{path.name}, "
    parsed = _environment(path).parse(path.read_text(encoding="utf-8"))
    used = {one.name for one in parsed.find_all(Name) if one.lineno == number}
    return f"{file}line {number}: ", sorted(used)


def _frames(error: Exception, source: str) -> list[traceback.FrameSummary]:
    """Return where in the templates it happened: Jinja2 puts their own files and lines into the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if Path(frame.filename).parent == Path(source).parent]


def _refused(code: str, source: str, why: str, mend: str) -> InvalidConfig:
    context = ErrorContext("cannot_render", code, f"{source} cannot be rendered: {why}", mend)
    return InvalidConfig(context.message, contexts=[context], suggestion=mend)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def _yaml(values: Mapping[str, Any]) -> str:
    return "".join(f"{line}\n" for line in lines_of(values))


def _toml(values: Mapping[str, Any]) -> str:
    try:
        return dumps(_without_null(values))
    except ConfigDaemonError:
        raise
    except (TypeError, ValueError) as error:
        raise _refused("UNWRITABLE_VALUE", "toml", type(error).__name__, _MEND) from None


def _without_null(value: Any, key: str = "") -> Any:
    """Return values without the members that are null: TOML has no null, a key that is not there says it."""
    if isinstance(value, Mapping):
        return {name: _without_null(one, f"{key}.{name}") for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        if None in value:
            why = f"{key[1:]} is a list with null in it, which TOML cannot say"
            raise _refused("UNWRITABLE_VALUE", "toml", why, "Render this service in another format.")
        return [_without_null(one, key) for one in value]
    return value


FORMATS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "env": env_text,
    "json": _json,
    "yaml": _yaml,
    "toml": _toml,
}
