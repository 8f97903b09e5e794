"""The shape of `config-agent.toml`: every name in it, its type, its default.

Laws: an unknown name is a problem with a word for what was meant; all problems are told at once; no value
is repeated, since one may be a secret in the wrong place.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config_daemon.errors import ErrorContext

Seconds = Annotated[float, Field(gt=0, le=3600)]
Line = Annotated[str, Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class RenderTable(_Table):
    """`[[services.NAME.render]]`: one file."""

    template: Line = Field(description="env, json, yaml, toml, or the path of a Jinja2 template")
    destination: Line = Field(description="the file to write")
    mode: str | None = Field(None, description="octal; none: as it is, 0600 for a new file")
    owner: str | None = Field(None, description="USER, USER:GROUP or :GROUP; none: as it is")
    check: Line | None = Field(None, description="the command that checks this file; none: the service's")


class ServiceTable(_Table):
    """`[services.NAME]`: one service."""

    render: Annotated[list[RenderTable], Field(max_length=64)] = Field(
        default_factory=list, description="the files of this service"
    )
    check: Line | None = Field(None, description="looks at each new file, {} is its path")
    reload: Line | None = Field(None, description="has the program take the files")
    verify: Line | None = Field(None, description="asks whether the program runs with them")
    stop: Line | None = Field(None, description="stops the program once its config was withdrawn")
    on_delete: Literal["keep", "stop"] = Field(
        "keep", description="what to do when the config is withdrawn: keep or stop"
    )
    command_seconds: Seconds = Field(30.0, description="how long one command may take")
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(3, description="how often to try reload and verify")
    backoff_seconds: Seconds = Field(1.0, description="the first wait between tries; it doubles")


class AgentTable(_Table):
    """The whole file."""

    worker: str | None = Field(None, description="this worker's name; none: the host's")
    broker: str | None = Field(None, description="the broker's URL, without a password")
    password_file: str | None = Field(None, description="the file with the broker's password")
    ca_file: str | None = Field(None, description="the CA that signed the broker's certificate")
    certificate_file: str | None = Field(None, description="the client certificate")
    key_file: str | None = Field(None, description="the client certificate's key")
    public_key_file: str | None = Field(
        None, description="the daemon's public key, as `keys public` prints it"
    )
    keyring_file: str | None = Field(None, description="the keyring, as `keys public --keyring` prints it")
    state: str | None = Field(None, description="the folder where the agent keeps what it accepted")
    topic_prefix: str = Field("system", description="the root of all topics")
    first_use: Literal["wait", "run"] = Field("wait", description="whether a first config waits for a beacon")
    on_revoked: Literal["keep", "refuse-start"] = Field(
        "keep", description="whether to start with what a revoked key signed"
    )
    services: dict[str, ServiceTable] = Field(default_factory=dict, description="what to follow")


_LEVELS: dict[int, type[_Table]] = {
    1: AgentTable,
    3: ServiceTable,
    5: RenderTable,
}  # by the length of a place, such as services.x.reload


def read_table(members: Mapping[str, Any], source: str) -> tuple[AgentTable, list[ErrorContext]]:
    """Return the table without what is wrong in it, and every problem; `source` names the file for people."""
    problems: list[ErrorContext] = []
    rest: Any = copy.deepcopy(dict(members))
    while True:
        try:
            return AgentTable.model_validate(rest), problems
        except ValidationError as error:
            found = error.errors(include_url=False)
            problems = problems or [_problem(one["type"], one["loc"], one["msg"], source) for one in found]
            # without a name that it must have, a table says nothing
            _take_out(rest, {one["loc"][:-1] if one["type"] == "missing" else one["loc"] for one in found})


def _take_out(members: Any, places: Iterable[tuple[int | str, ...]]) -> None:
    """Remove members by their places; the last of a list goes first, so that the others keep their numbers."""
    for place in sorted(places, reverse=True):
        table = members
        try:
            for name in place[:-1]:
                table = table[name]
            del table[place[-1]]
        except (KeyError, IndexError):
            pass  # it went with a table around it


def _problem(kind: str, place: tuple[int | str, ...], message: str, source: str) -> ErrorContext:
    name = ".".join(map(str, place))
    table = _LEVELS.get(len(place))
    if kind == "extra_forbidden" and table:
        near = difflib.get_close_matches(str(place[-1]), table.model_fields, 1)
        mend = f"Did you mean {near[0]}?" if near else f"The names are {', '.join(table.model_fields)}."
        return setting_problem("UNKNOWN_SETTING", name, f"{name} in {source} is no setting", mend)
    field = table.model_fields.get(str(place[-1])) if table else None
    mend = (
        f"Set it: {field.description}." if field else "Write it as the page docs/agent.md shows it: The file."
    )
    if kind == "missing":
        return setting_problem("MISSING_SETTING", name, f"{name} is missing in {source}", mend)
    what = f"{name} in {source} is not valid: {message[:1].lower()}{message[1:]}"
    return setting_problem("INVALID_SETTING", name, what, mend)


def setting_problem(code: str, name: str, what: str, mend: str) -> ErrorContext:
    """Return a problem with a setting."""
    return ErrorContext("invalid_config", code, what, mend, failed_field=name)
