"""A service as the command line shows it: what the daemon says, or, without one, what would be published.

Laws: a living daemon knows best, because it alone has every source; without one, and without the right
to read `.env`, it is said that overrides cannot be known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from config_daemon.cli.session import Session
from config_daemon.errors import NotFound


@dataclass(frozen=True, slots=True)
class Shown:
    """Effective values with their sources."""

    service: str
    version: int
    state: str
    values: dict[str, Any]
    sources: dict[str, str]
    errors: list[dict[str, Any]]
    note: str | None = None

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
        return data

    def leaves(self) -> dict[str, Any]:
        """Return the values by dotted key."""
        from config_daemon.core.resolve import leaves

        return leaves(self.values)

    def at(self, key: str) -> Any:
        """Return the value or object at a dotted key."""
        value: Any = self.values
        for name in key.split("."):
            value = value[name]
        return value

    def source_of(self, key: str) -> str:
        """Return where a value comes from; for `.env` with file and line where they are known."""
        return self.sources.get(key, "")


def shown(session: Session, service: str) -> Shown:
    """Return a service's config.

    Raises: NotFound, StoreError, KeyUnavailable.
    """
    if session.daemon_alive:
        row = session.view.service(service)
        if row is not None:
            sources = {
                key: _with_place(session, service, key) if source == "env" else source
                for key, source in json.loads(row.sources_json).items()
            }
            return Shown(
                service,
                row.config_version,
                row.state,
                json.loads(row.effective_json),
                sources,
                json.loads(row.error_json),
            )
    return _resolved_here(session, service)


def _with_place(session: Session, service: str, key: str) -> str:
    place = session.fixed(service, key)
    return f"env ({place})" if place else "env"


def _resolved_here(session: Session, service: str) -> Shown:
    from config_daemon.cli.changes import definition_of
    from config_daemon.core.resolve import resolve
    from config_daemon.store.overrides import overrides_of
    from config_daemon.store.ports import Row
    from config_daemon.store.transaction import parse_stored

    found = session.reader().read([service]).get(service)
    if not isinstance(found, Row):
        definition = definition_of(session, service)
        raise NotFound(
            f"{definition.service} has no config yet"
            if found is None
            else f"{service} is deleted or its row was altered",
            suggestion=f"Give it one: `config-daemon set {service} KEY=VALUE`.",
        )
    env = session.ground.env_file
    overrides = overrides_of(env, session.catalog.env_names()).get(service, {}) if env else {}
    resolved = resolve(session.catalog.get(service), parse_stored(service, found.text), overrides)
    note = "no daemon is running; this is what one would publish"
    if env is None:
        note = "no daemon is running and .env cannot be read: values that it fixes are not known"
    places = {key: f"env ({env.path}:{o.line})" for key, o in overrides.items()} if env else {}
    sources = {key: places.get(key, source) for key, source in resolved.sources.items()}
    errors = [error.as_dict() for error in resolved.errors]
    state = "unpublished" if resolved.verdict == "ready" else resolved.verdict
    return Shown(service, found.version, state, resolved.values, sources, errors, note)
