"""A service as the command line shows it: what the daemon says, or, without one, what would be published.

Laws: a living daemon knows best, because it alone has every source, unless the store has something
newer already; without a daemon, and without the right to read `.env`, it is said that overrides cannot
be known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from config_daemon.cli.session import Session
from config_daemon.errors import NotFound, StoreError

if TYPE_CHECKING:
    from config_daemon.core.definition import Resolved
    from config_daemon.store.ports import Row
    from config_daemon.store.status import ServiceStatus


# while one of these is open, or a service is in one of these states, what the database holds does not count
_DISTRUSTED = (
    "db-locked", "db-corrupted", "db-missing", "db-cantopen", "db-error", "io-error", "not-the-newest",
)  # fmt: skip
_DISTRUSTED_STATES = ("row-corrupted", "row-rolled-back", "row-missing")


@dataclass(frozen=True, slots=True)
class Shown:
    """Effective values with their sources; for `.env` with file and line where they are known."""

    service: str
    version: int
    state: str
    values: dict[str, Any]
    sources: dict[str, str]
    errors: list[dict[str, Any]]
    note: str | None = None
    origin: str = ""  # "lkg" where this is not the database's word

    def as_dict(self, source: bool) -> dict[str, Any]:
        """Return what `--json` prints."""
        data: dict[str, Any] = {
            "service": self.service, "config_version": self.version, "state": self.state, "config": self.values,
        }  # fmt: skip
        if source:
            data["sources"] = {name: self.source_of(name) for name in self.leaves()}
        if self.errors:
            data["errors"] = self.errors
        if self.note:
            data["note"] = self.note
        if self.origin:
            data["from"] = self.origin
        return data

    def leaves(self) -> dict[str, Any]:
        """Return the values by dotted key."""
        from config_daemon.core.paths import leaves

        return leaves(self.values)

    def at(self, key: str) -> Any:
        """Return the value or object at a dotted key.

        Raises: KeyError.
        """
        value: Any = self.values
        for name in key.split("."):
            if not isinstance(value, dict):
                raise KeyError(name)
            value = value[name]
        return value

    def source_of(self, key: str) -> str:
        """Return where a value comes from."""
        return self.sources.get(key, "")


def shown(session: Session, service: str) -> Shown:
    """Return a service's config.

    Raises: NotFound, StoreError, KeyUnavailable, InvalidConfig.
    """
    if session.daemon_alive:
        told = session.view.service(service)
        if told is not None and (why := _distrust(session, told)):
            note = f"{why}; this is what was published last"
            return replace(_as_told(session, told), note=note, origin="lkg")
        if told is not None and not _is_newer_stored(session, told):
            return _as_told(session, told)
    return _as_stored(session, service)


def resolved_here(session: Session, row: Row) -> Resolved:
    """Return what a row means together with `.env`, without a daemon.

    Raises: InvalidConfig when the row holds no values.
    """
    from config_daemon.cli.fixed import overrides_here
    from config_daemon.core.resolve import resolve
    from config_daemon.store.stored import parse_stored

    definition = session.catalog.get(row.service)
    return resolve(definition, parse_stored(row.service, row.text), overrides_here(session, row.service))


def _distrust(session: Session, told: ServiceStatus) -> str | None:
    """Return why the daemon does not believe the database about this service, None when it does."""
    if told.state in _DISTRUSTED_STATES:
        return f"the stored config of {told.service} cannot be trusted ({told.state})"
    names = [name for name, *_ in session.view.conditions() if name in _DISTRUSTED]
    status = session.view.daemon().get("database_status")
    if names or status in ("locked", "schema-mismatch"):
        return f"the database is not read ({names[0] if names else status})"
    return None


def _is_newer_stored(session: Session, told: ServiceStatus) -> bool:
    """Tell whether a change was stored that the daemon has not told of yet: whoever set must see it."""
    from config_daemon.store.reports import stored_version

    try:
        version = stored_version(session.database, told.service)
    except StoreError:
        return False
    return isinstance(version, int) and version > told.config_version


def _as_told(session: Session, told: ServiceStatus) -> Shown:
    if told.state == "deleted":
        raise deleted(told.service, told.config_version)
    places = session.view.env_locks(told.service)
    sources = {
        key: f"env ({places[key][0]}:{places[key][1]})" if source == "env" and key in places else source
        for key, source in json.loads(told.sources_json).items()
    }
    return Shown(
        told.service, told.config_version, told.state, json.loads(told.effective_json), sources,
        json.loads(told.error_json),
    )  # fmt: skip


def _as_stored(session: Session, service: str) -> Shown:
    from config_daemon.cli.arguments import no_config
    from config_daemon.cli.fixed import overrides_here
    from config_daemon.core.resolve import sources
    from config_daemon.store.ports import Row, Tombstone
    from config_daemon.store.reports import altered
    from config_daemon.store.stored import parse_stored

    found = session.reports.row(service)
    if found is None:
        raise no_config(session, service)
    if isinstance(found, Tombstone):
        raise deleted(service, found.version)
    if not isinstance(found, Row):
        raise altered(service)
    resolved = resolved_here(session, found)
    overrides = overrides_here(session, service)
    origins = sources(resolved.values, parse_stored(service, found.text), overrides)
    env = session.ground.env_file
    places = {key: f"env ({env.path}:{o.line})" for key, o in overrides.items()} if env else {}
    return Shown(
        service,
        found.version,
        _state(session, resolved.verdict),
        resolved.values,
        {key: places.get(key, source) for key, source in origins.items()},
        [error.as_dict() for error in resolved.errors],
        _note(session),
    )


def _state(session: Session, verdict: str) -> str:
    if verdict != "ready":
        return verdict
    return "in-flight" if session.daemon_alive else "unpublished"


def _note(session: Session) -> str | None:
    hidden = session.ground.env_file is None and session.ground.files.environment.exists()
    if session.daemon_alive:
        return "the daemon has not told of this version yet" + (
            "; values that .env fixes are not known" if hidden else ""
        )
    if hidden:
        return "no daemon is running and .env cannot be read: values that it fixes are not known"
    return "no daemon is running; this is what one would publish"


def deleted(service: str, version: int) -> NotFound:
    """Return the error for a service that was deleted."""
    return NotFound(
        f"{service} is deleted, at version {version}",
        suggestion=f"`config-daemon rollback {service} --to N` brings it back.",
    )
