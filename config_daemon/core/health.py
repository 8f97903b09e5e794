"""Facts become named conditions, and conditions become the health message.

Laws: health is ok only when the store is healthy, the mode normal and nothing critical open; every
condition has a name from the list below, a severity and a remedy; a finding that lasts keeps the
time when it began.

Source: seed 004 `ConfigHealthPayload`; docs/events.md lists the conditions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from config_daemon.core.modes import Mode, Status
from config_daemon.wire.messages import NIL_EPOCH, Condition, Health

Severity = Literal["info", "warning", "critical"]


class Kind(NamedTuple):
    """A kind of finding: how bad, whether publishing stops meanwhile, and what a person does about it."""

    severity: Severity
    holds: bool
    remedy: str


CONDITIONS: dict[str, Kind] = {
    "broker-down": Kind("critical", False, "Start the broker, or mend MQTT_URL; the daemon keeps trying."),
    "broker-auth": Kind("critical", False, "Mend the user or password in MQTT_URL, or the broker's password file."),
    "broker-tls": Kind("critical", False, "Mend the broker's certificate or CONFIG_DAEMON_MQTT_CA_FILE."),
    "db-locked": Kind("critical", False, "Find who holds the database: `fuser config.db`."),
    "db-corrupted": Kind("critical", False, "Restore the database; nothing damaged is published."),
    "db-missing": Kind("critical", False, "Put the database back, or restore it; it is never made anew by itself."),
    "db-error": Kind("critical", False, "Look at the detail; the daemon keeps trying."),
    "schema-too-new": Kind("critical", False, "Run the program version that made the database."),
    "not-the-newest": Kind("critical", True, "Put the right database back, or run `config-daemon adopt --db`."),
    "foreign-state": Kind("critical", True, "If this host is the fleet's new home, run `config-daemon adopt --db`."),
    "disk-full": Kind("critical", True, "Free space; the daemon goes on by itself."),
    "rows-corrupted": Kind("critical", False, "Run `config-daemon adopt SERVICE` to see and seal the row."),
    "row-rolled-back": Kind("critical", False, "Restore the row, or write the service again."),
    "row-missing": Kind("critical", False, "Restore the row, or run `config-daemon delete SERVICE`."),
    "row-invalid": Kind("warning", False, "Mend the values: `config-daemon get SERVICE` shows them."),
    "incomplete": Kind("warning", False, "Set the missing values."),
    "definition-missing": Kind("warning", False, "Put the service's schema file back, or delete the service."),
    "schema-file-invalid": Kind("warning", False, "Mend the schema file; its last good form stays in force."),
    "env-invalid": Kind("warning", False, "Mend the line of .env; the values read before stay in force."),
    "env-missing": Kind("critical", False, "Put .env back; the services it gave values to are not published."),
    "secrets-held-back": Kind("info", False, "Nothing: secret values come with a later version."),
    "publish-denied": Kind("critical", False, "Let the daemon's user write the topic in the broker's ACL."),
    "too-large": Kind("warning", False, "Make the config smaller, or raise the broker's packet limit."),
    "quota": Kind("warning", False, "Raise the broker's quota; the daemon keeps trying."),
    "lkg-tampered": Kind("warning", False, "Inspect quarantine/; the LKG was made anew from the database."),
    "lkg-unwritable": Kind("warning", False, "Make the data folder writable and free space."),
    "foreign-write": Kind("warning", False, "Find who else may write config topics; the messages were put right."),
    "readback-unavailable": Kind("critical", False, "Let the daemon's user read the config topics in the ACL."),
    "watch-degraded": Kind("info", False, "Raise fs.inotify limits; until then changes are found by polling."),
}  # fmt: skip


@dataclass(slots=True)
class Findings:
    """The open conditions, each with the time when it began."""

    _open: dict[tuple[str, str], Condition] = field(default_factory=dict)

    def open(self, name: str, subject: str, detail: str, now: str) -> bool:
        """Open a condition or renew its detail; True when it is new."""
        known = self._open.get((name, subject))
        since = known.since if known else now
        self._open[name, subject] = Condition(
            name=name, subject=subject, severity=CONDITIONS[name].severity, since=since, detail=detail[:500]
        )
        return known is None

    def close(self, name: str, subject: str | None = None) -> bool:
        """Close a condition for one subject or, with None, for all; True when any was open."""
        gone = [key for key in self._open if key[0] == name and subject in (None, key[1])]
        for key in gone:
            del self._open[key]
        return bool(gone)

    def __iter__(self) -> Any:
        return iter(self._open.values())

    @property
    def holding(self) -> Condition | None:
        """Return a condition that stops publishing, None when nothing does."""
        return next((condition for condition in self if CONDITIONS[condition.name].holds), None)


class Facts(NamedTuple):
    """What health is made of beside the conditions."""

    status: Status
    mode: Mode
    epoch: str | None
    schema_version: int
    lkg_valid: bool
    event: str | None
    services: int
    behind: int


SHOWN_CONDITIONS = 50  # a message must stay small whatever happens; status.db has them all


def make_health(facts: Facts, conditions: Iterable[Condition], session: str, **seal: Any) -> Health:
    """Return the health message; `seal` holds generation, sequence, issued_at and key_id."""
    found = sorted(conditions, key=lambda c: (_ORDER[c.severity], c.name, c.subject))
    return Health(
        ok=is_ok(facts, found),
        database_status=facts.status,
        operational_mode=facts.mode,
        config_epoch=facts.epoch or NIL_EPOCH,
        schema_version=facts.schema_version,
        lkg_cache_valid=facts.lkg_valid,
        litestream_status="disabled",
        last_backup=None,
        event=facts.event,
        err=next((f"{c.name}: {c.detail}" for c in found if c.severity == "critical"), None),
        session=session,
        conditions=found[:SHOWN_CONDITIONS],
        services=facts.services,
        behind=facts.behind,
        **seal,
    )


def is_ok(facts: Facts, conditions: Iterable[Condition]) -> bool:
    """Tell whether all is well."""
    worst = any(condition.severity == "critical" for condition in conditions)
    return facts.status == "healthy" and facts.mode == "normal" and not worst


_ORDER = {"critical": 0, "warning": 1, "info": 2}
