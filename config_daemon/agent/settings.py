"""What the agent is to do: read from flags, the environment and `config-agent.toml`, checked before anything runs.

Laws: flags beat the environment, that beats the file, that beats the default; all problems are told at once;
a password comes from a file, a credential or `MQTT_URL` in the environment, never from an argument.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config_daemon.agent.reach import ReachReader
from config_daemon.agent.services import Service, ServiceReader
from config_daemon.agent.tables import AgentTable, ServiceTable, read_table, setting_problem
from config_daemon.errors import ErrorContext, SettingsError
from config_daemon.wire.address import BrokerAddress
from config_daemon.worker.identity import known_name

FILE = Path("/etc/config-agent/config-agent.toml")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the agent, valid."""

    worker: str
    broker: BrokerAddress
    public_key: str | None
    keyring_file: Path | None
    state: Path
    services: Mapping[str, Service]
    table: AgentTable

    @property
    def apply_seconds(self) -> float:
        """Return how long the slowest service may take to be put into force and back again."""
        return max(service.longest_seconds for service in self.services.values())


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None, only: tuple[str, ...] = ()
) -> Settings:
    """Read the settings; `flags` has the members of a file, `only` names the services to follow.

    Raises: SettingsError with every problem.
    """
    settings, problems = read(flags, environ, file, only)
    if problems:
        raise refusal(problems)
    return settings


def read(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None, only: tuple[str, ...] = ()
) -> tuple[Settings, list[ErrorContext]]:
    """Return the settings as far as they can be read, as `load` does, and every problem: to be looked at only.

    Raises: SettingsError when nothing of the file can be read.
    """
    table, told = _table(flags, file, only)
    problems: list[ErrorContext] = []
    if not table.services:
        mend = f"Name one with --service and --render, or write {FILE}."
        problems.append(setting_problem("MISSING_SETTING", "services", "there is no service to follow", mend))
    reach = ReachReader(table, flags, environ, problems)
    worker, broker, state = reach.worker(), reach.broker(), reach.state()
    public_key, keyring_file = reach.anchor()
    services = ServiceReader(problems, state)
    plans = {name: services.read(name, one) for name, one in table.services.items()}
    settings = Settings(worker, broker, public_key, keyring_file, state, plans, table)
    return settings, [*told, *(one for one in problems if not _is_told(one, told))]


def identity(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None) -> tuple[str, Path]:
    """Return the worker's name, by default that of the keys in the state folder, and that folder.

    Raises: SettingsError.
    """
    table, problems = _table(flags, file, ())
    reach = ReachReader(table, flags, environ, problems)
    state = reach.state()
    found = reach.worker(known_name(state)), state
    if problems:
        raise refusal(problems)
    return found


def _table(
    flags: Mapping[str, Any], file: Path | None, only: tuple[str, ...]
) -> tuple[AgentTable, list[ErrorContext]]:
    source = str(file or FILE) if file or FILE.exists() else "the command line"
    return read_table(_merged(flags, _members(file), only), source)


def _is_told(problem: ErrorContext, told: list[ErrorContext]) -> bool:
    """Tell whether it is there only because something of that setting was wrong, and not read, before."""
    field = problem.failed_field
    return any(one.failed_field == field or one.failed_field.startswith(f"{field}.") for one in told)


def refusal(problems: list[ErrorContext]) -> SettingsError:
    """Return one error for all problems."""
    headline = problems[0].message if len(problems) == 1 else f"{len(problems)} settings are wrong"
    return SettingsError(headline, contexts=problems, suggestion=problems[0].suggestion)


def _members(file: Path | None) -> dict[str, Any]:
    if file is None and not FILE.exists():
        return {}
    path = file or FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why, mend = (
            f"cannot be read: {error.strerror}",
            "Name a file that is there and that this user may read.",
        )
    except UnicodeDecodeError:
        why, mend = "is no UTF-8 text", "Save it as UTF-8."
    except tomllib.TOMLDecodeError as error:
        why, mend = f"is no TOML: {error}", "Mend it at that place."
    raise refusal([setting_problem("INVALID_FILE", str(path), f"{path} {why}", mend)])


def _merged(flags: Mapping[str, Any], members: dict[str, Any], only: tuple[str, ...]) -> dict[str, Any]:
    """Return the file's members with the flags over them, for the chosen services."""
    ours = {name: value for name, value in flags.items() if name in AgentTable.model_fields}
    one = {name: value for name, value in flags.items() if name in ServiceTable.model_fields}
    one |= {name: value for name, value in flags.items() if name in ("mode", "owner")}
    services = members.get("services", {})
    if only and isinstance(services, dict):
        services = {name: services.get(name, {}) for name in only}
    if one:
        if not isinstance(services, dict) or len(services) != 1:
            mend = "Name it with --service, or write a file with a table for each service."
            raise refusal(
                [setting_problem("ONE_SERVICE", "service", "these flags are for one service", mend)]
            )
        services = {name: _with_flags(table, one) for name, table in services.items()}
    return {**members, **ours, "services": services}


def _with_flags(table: Any, flags: Mapping[str, Any]) -> Any:
    if not isinstance(table, dict):
        return table
    rights = {name: flags[name] for name in ("mode", "owner") if name in flags}
    merged = {**table, **{name: value for name, value in flags.items() if name not in rights}}
    if rights and isinstance(merged.get("render"), list):
        merged["render"] = [{**one, **rights} for one in merged["render"]]
    return merged
