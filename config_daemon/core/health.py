"""Facts become named conditions, and conditions become the health message.

Laws: health is ok only when the store is healthy, the mode normal and nothing critical open; every
condition has a name from the list below, a severity and a remedy; a finding that lasts keeps the
time when it began.

Source: seed 004 `ConfigHealthPayload`; docs/events.md lists the conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from config_daemon.core.modes import Mode, Status
from config_daemon.wire.messages import Condition, Health

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
    "client-id-conflict": Kind("warning", False, "Find in the broker's log who connects under the daemon's name."),
    "fd-exhausted": Kind("critical", False, "Raise the limit of open files: `LimitNOFILE=` in the unit, `ulimit -n`."),
    "db-locked": Kind("critical", False, "Find who holds it: run `fuser` with the path that the detail names."),
    "db-corrupted": Kind("critical", False, "Run `config-daemon rebuild`; nothing damaged is published."),
    "db-missing": Kind("critical", False, "Run `config-daemon rebuild`, or put the database back."),
    "db-cantopen": Kind("critical", False, "Mend the owner or the mode of the database and of its folder."),
    "io-error": Kind("critical", False, "Look at the disk: it may be dying. Copy what can be read elsewhere."),
    "no-source": Kind("critical", False, "Free the database; until then nothing is published, what is out stays."),
    "needs-restore": Kind("critical", False, "Run `config-daemon restore --from FILE`: database and cache are bad."),
    "db-error": Kind("critical", False, "Look at the detail; the daemon keeps trying."),
    "schema-too-new": Kind("critical", False, "Run the program version that made the database."),
    "schema-too-old": Kind("critical", False, "Start the daemon again: it migrates an older database when it starts."),
    "model-hash": Kind("critical", False, "Mend the values that the detail names, or put the former models back."),
    "not-the-newest": Kind(
        "critical", True,
        "Put the right one back, or run `config-daemon adopt --db` or `config-daemon adopt --lkg`."),
    "foreign-state": Kind("critical", True, "If this host is the fleet's new home, run `config-daemon adopt --db`."),
    "keyring-unmerged": Kind("critical", True, "Run `config-daemon keys merge`, with a root key where there is one."),
    "keyring-missing": Kind("critical", True, "Put keyring.json back: `config-daemon keys restore FILE` has it."),
    "key-unlisted": Kind("critical", True, "Put the signing key in place that keyring.json lists."),
    "db-readonly": Kind("critical", True, "Make the database and its folder writable; the daemon goes on by itself."),
    "disk-full": Kind("critical", True, "Free space; the daemon goes on by itself."),
    "rows-corrupted": Kind("critical", False, "Run `config-daemon adopt SERVICE` to see and seal the row."),
    "row-rolled-back": Kind("critical", False, "Restore the row, or write the service again."),
    "row-missing": Kind("critical", False, "Restore the row, or run `config-daemon delete SERVICE`."),
    "row-invalid": Kind("warning", False, "Mend the values: `config-daemon get SERVICE` shows them."),
    "incomplete": Kind("warning", False, "Set the missing values."),
    "definition-missing": Kind("warning", False, "Put the service's schema file back, or delete the service."),
    "schema-file-invalid": Kind("warning", False, "Mend the schema file; its last good form stays in force."),
    "env-invalid": Kind("warning", False, "Mend .env as the detail says; the values read before stay in force."),
    "env-missing": Kind("critical", False, "Put .env back; the services it gave values to are not published."),
    "keys-unusable": Kind("warning", False, "Mend the key as the detail says; the keys read before stay in force."),
    "keyring-refused": Kind("warning", False, "Put keyring.json back as it was; the one before is in force."),
    "keyring-forked": Kind("critical", False, "Two hosts or a thief issue keyrings: see docs/keys.md."),
    "keyring-unknown": Kind("warning", False, "If keys were restored from an old backup, restore a newer one."),
    "activation-waits": Kind("warning", False, "Run `config-daemon keys backup FILE`; then the new key signs."),
    "env-unknown": Kind("warning", False, "Mend or remove the line of .env; it gives no service a value."),
    "history-rewritten": Kind("critical", False, "Run `config-daemon audit verify` and find who altered the database."),
    "orphan-retained": Kind("info", False, "Nothing. To clear the topic all the same: `config-daemon purge SERVICE`."),
    "secrets-held-back": Kind("info", False, "Nothing: secret values come with a later version."),
    "publish-denied": Kind("critical", False, "Let the daemon's user write the topic in the broker's ACL."),
    "too-large": Kind("warning", False, "Make the config smaller, or raise the broker's packet limit."),
    "quota": Kind("warning", False, "Raise the broker's quota; the daemon keeps trying."),
    "upgrade-failed": Kind("warning", False, "Mend what the detail says, then start the daemon again."),
    "lkg-tampered": Kind("warning", False, "Inspect quarantine/; the LKG was made anew from the database."),
    "lkg-unwritable": Kind("warning", False, "Make the data folder writable and free space."),
    "foreign-write": Kind("warning", False, "Find who else may write config topics; the messages were put right."),
    "readback-unavailable": Kind("critical", False, "Let the daemon's user read the config topics in the ACL."),
    "worker-row-altered": Kind(
        "warning", False, "Run `config-daemon worker add NAME --service S --keys FILE --replace`, or remove it."
    ),
    "status-refused": Kind("warning", False, "Find who else writes that worker's topic, or add its present keys."),
    "workers-unheard": Kind("warning", False, "Let the daemon connect twice, and read status and presence in the ACL."),
    "convergence-denied": Kind("warning", False, "Let the daemon's user write the convergence topics in the ACL."),
    "dependency-unknown": Kind("warning", False, "Mend the definition: it depends on a service that nothing defines."),
    "watch-degraded": Kind("info", False, "Raise fs.inotify limits; until then changes are found by polling."),
}  # fmt: skip


@dataclass(slots=True)
class Findings:
    """The open conditions, each with the time when it began; `revision` moves when the set of them changes.

    `holding` tells whether one that stops publishing is among them.
    """

    revision: int = 0
    holding: bool = False
    _open: dict[tuple[str, str], Condition] = field(default_factory=dict)

    def open(self, name: str, subject: str, detail: str, now: str) -> bool:
        """Open a condition or renew its detail; True when it is new."""
        known = self._open.get((name, subject))
        if known is not None and known.detail == detail[:DETAIL_CHARACTERS]:
            return False
        self._open[name, subject] = Condition(
            name=name,
            subject=subject,
            severity=CONDITIONS[name].severity,
            since=known.since if known else now,
            detail=detail[:DETAIL_CHARACTERS],
        )
        self.revision += 1
        self.holding |= CONDITIONS[name].holds
        return known is None

    def close(self, name: str, subject: str | None = None) -> bool:
        """Close a condition for one subject or, with None, for all; True when any was open."""
        if subject is not None:
            gone = [(name, subject)] if (name, subject) in self._open else []
        else:
            gone = [key for key in self._open if key[0] == name]
        for key in gone:
            del self._open[key]
        self.revision += bool(gone)
        self.holding = self.holding and any(CONDITIONS[name].holds for name, _ in self._open)
        return bool(gone)

    def replace(self, name: str, details: Mapping[str, str], now: str) -> None:
        """Have a condition open for exactly these subjects."""
        for subject in [key[1] for key in self._open if key[0] == name and key[1] not in details]:
            self.close(name, subject)
        for subject, detail in details.items():
            self.open(name, subject, detail, now)

    def worst(self) -> tuple[str, list[str]] | None:
        """Return the name of the most serious critical condition and its subjects; None without one."""
        critical = [name for name, _ in self._open if CONDITIONS[name].severity == "critical"]
        if not critical:
            return None
        worst = min(critical, key=_EVENTS.index)
        return worst, [subject for name, subject in self._open if name == worst]

    def __iter__(self) -> Iterator[Condition]:
        return iter(self._open.values())


class Facts(NamedTuple):
    """What health is made of beside the conditions; `checked`: what the broker retains was read back once."""

    status: Status
    mode: Mode
    epoch: str
    schema_version: int
    lkg_valid: bool
    event: str | None
    services: int
    behind: int
    checked: bool = True


DETAIL_CHARACTERS = 500
SHOWN_CONDITIONS = 50  # a message must stay small whatever happens; status.db has them all


def make_health(facts: Facts, conditions: Iterable[Condition], session: str, **seal: Any) -> Health:
    """Return the health message; `seal` holds generation, sequence, issued_at and key_id."""
    found = sorted(conditions, key=lambda c: (_ORDER[c.severity], c.name, c.subject))
    return Health(
        ok=is_ok(facts, found),
        database_status=facts.status,
        operational_mode=facts.mode,
        config_epoch=facts.epoch,
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
    """Tell whether all is well, which nobody knows before the broker has shown what it retains."""
    worst = any(condition.severity == "critical" for condition in conditions)
    return facts.status == "healthy" and facts.mode == "normal" and facts.checked and not worst


def event_of(findings: Findings, base: str) -> str:
    """Return the event that says what is most wrong, or `base` when nothing critical is open."""
    worst = findings.worst()
    if worst is None:
        return base
    name, subjects = worst
    more = {"rows-corrupted": str(len(subjects)), "io-error": subjects[0]}.get(name)
    return f"{name}:{more}" if more else name


_EVENTS = [name for name, kind in CONDITIONS.items() if kind.severity == "critical"]
_EVENTS.sort(
    key=lambda name: (
        name not in ("no-source", "needs-restore"),
        not CONDITIONS[name].holds,
        not name.startswith(("db-", "io-", "schema-", "model-", "rows-")),
        name,
    )
)
_ORDER = {"critical": 0, "warning": 1, "info": 2}
