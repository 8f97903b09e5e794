"""Every error raised on purpose, sorted by who has to act.

ConfigDaemonError
├── UsageError               the caller: an argument that cannot mean anything          exit 2
├── SettingsError            the operator: a setting or key is missing or wrong         exit 78
│   └── KeyUnavailable       the operator: a key cannot be read or must not be used     exit 78
├── NotFound                 the caller: no such service, key, version                  exit 5
├── NotAllowed               the caller: fixed by .env, secret, or the wrong role       exit 4
├── VersionConflict          the caller: somebody else wrote first                      exit 3
├── InvalidConfig            the caller: values break the service's definition          exit 1
├── StoreError               the operator: the database (becomes a status, no crash)    exit 69
│   ├── StoreLocked          somebody holds it
│   ├── StoreUnavailable     it cannot be opened, or must not be written now
│   │   ├── StoreMissing     there is no file
│   │   ├── StoreCannotOpen  there is one that cannot be opened
│   │   ├── StoreReadOnly    it can be read only
│   │   └── StoreFull        its disk is full
│   ├── StoreFailing         the disk does not do what it is asked (SQLITE_IOERR)
│   ├── StoreCorrupted       it is damaged
│   ├── SchemaMismatch       it was made by another version
│   │   └── SchemaOutdated   by an older one: the daemon migrates it when it starts
│   └── HistoryRewritten     an audit chain does not extend what was known (`store/audit.py`)
├── CacheError               the operator: the LKG or marks cannot be trusted           exit 69
├── BrokerUnavailable        the operator: no broker answers                            exit 69
├── ApplyFailed              the operator: the agent could not put a config into force  exit 1
└── RejectedUpdate           nobody: a worker refused a message, `reason` says why      exit 1

Foreign exceptions are translated once, at the border, by their code and never by their text.
Every problem that a person gets to see is an `ErrorContext`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

SHOWN_VALUE_CHARACTERS = 100
MESSAGE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """One problem, told to a person: what, where, why, and how to mend it.

    `error_type` is a category (`invalid_config`, `missing_field`, `type_error`, …), `error_code`
    matches `[A-Z_]+`, `received_value` is already masked and at most 100 characters, `message` at
    most 500, `suggestion` is never empty (seed 000 "Error Context", seed 001 "ValidationError").
    """

    error_type: str
    error_code: str
    message: str
    suggestion: str
    failed_field: str = ""
    received_value: str = ""
    expected_type: str = ""
    fallback_applied: bool = False

    def __post_init__(self) -> None:
        if not self.suggestion:
            raise ValueError("an ErrorContext without a suggestion helps nobody")
        object.__setattr__(self, "message", self.message[:MESSAGE_CHARACTERS])
        object.__setattr__(self, "received_value", self.received_value[:SHOWN_VALUE_CHARACTERS])

    def as_dict(self) -> dict[str, Any]:
        """Return the eight fields as JSON-ready values."""
        return asdict(self)


class ConfigDaemonError(Exception):
    """The root: a message for a person, the contexts behind it, and the process's exit code."""

    exit_code = 1
    code = "FAILED"
    suggestion = "Run the command again with --help to see what it expects."

    def __init__(
        self, message: str, *, suggestion: str | None = None, contexts: Sequence[ErrorContext] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion or type(self).suggestion
        self._contexts = tuple(contexts)

    @property
    def contexts(self) -> tuple[ErrorContext, ...]:
        """The problems behind this error; at least one."""
        if self._contexts:
            return self._contexts
        return (ErrorContext(self.code.lower(), self.code, self.message, self.suggestion),)


class UsageError(ConfigDaemonError):
    """An argument that cannot mean anything."""

    exit_code = 2
    code = "USAGE"


class SettingsError(ConfigDaemonError):
    """A setting is missing or wrong; the daemon refuses to start (EX_CONFIG)."""

    exit_code = 78
    code = "SETTINGS"
    suggestion = "Mend the setting named above and start again."

    def __init__(
        self, message: str, *, suggestion: str | None = None, contexts: Sequence[ErrorContext] = ()
    ) -> None:
        super().__init__(message, suggestion=suggestion, contexts=contexts)
        self.add_note(self.suggestion)  # for a program on the library that lets it pass: below its traceback


class KeyUnavailable(SettingsError):
    """A key cannot be read, or must not be used as it lies there."""

    code = "KEY_UNAVAILABLE"
    suggestion = "Run `config-daemon init`, or restore the key from its backup."


class NotFound(ConfigDaemonError):
    """There is no such service, key or version."""

    exit_code = 5
    code = "NOT_FOUND"
    suggestion = "Run `config-daemon services` to see what there is."


class NotAllowed(ConfigDaemonError):
    """The write is refused whatever its value: fixed by `.env`, a secret, or the wrong role."""

    exit_code = 4
    code = "NOT_ALLOWED"

    def __init__(self, message: str, *, code: str, suggestion: str) -> None:
        super().__init__(message, suggestion=suggestion)
        self.code = code


class VersionConflict(ConfigDaemonError):
    """Somebody else wrote first; `current` is the version that is stored now (0: none)."""

    exit_code = 3
    code = "VERSION_CONFLICT"

    def __init__(self, service: str, expected: int, current: int) -> None:
        state = f"is at version {current}" if current else "does not exist"
        super().__init__(
            f"{service} {state}, not at version {expected}",
            suggestion=f"Look at `config-daemon get {service}` and try again with --expect-version {current}.",
        )
        self.service, self.expected, self.current = service, expected, current


class InvalidConfig(ConfigDaemonError):
    """Values break the service's definition; every broken field has a context."""

    code = "INVALID_CONFIG"
    suggestion = "Mend the fields named above; nothing was stored."


class StoreError(ConfigDaemonError):
    """The database does not do what was asked; in the daemon this becomes a status, never a crash."""

    exit_code = 69
    code = "STORE"
    suggestion = "Run `config-daemon status` to see what the daemon says about the database."


class StoreLocked(StoreError):
    """Another process holds the database (SQLITE_BUSY, LOCKED, PROTOCOL); `waited`: for seconds already."""

    code = "STORE_LOCKED"
    suggestion = "Try again; if it lasts, find who holds the database: run `fuser` with its path."

    def __init__(self, message: str, *, suggestion: str | None = None, waited: bool = False) -> None:
        super().__init__(message, suggestion=suggestion)
        self.waited = waited


class StoreStarved(StoreLocked):
    """This process may open no more files, so that the database cannot be opened (EMFILE, ENFILE)."""

    code = "STORE_STARVED"
    suggestion = "Raise the limit of open files (`LimitNOFILE=` of the unit, `ulimit -n`), or close what is not needed."


class StoreUnavailable(StoreError):
    """The database cannot be opened, or must not be written now."""

    code = "STORE_UNAVAILABLE"


class StoreMissing(StoreUnavailable):
    """There is no database at its path."""

    suggestion = "Run `config-daemon init`, or name the right folder with --data."


class StoreCannotOpen(StoreUnavailable):
    """There is a database, and it cannot be opened: a folder, or rights that are missing (SQLITE_CANTOPEN)."""

    suggestion = "Look at the file's and its folder's owner and mode: this user must be able to write both."


class StoreReadOnly(StoreUnavailable):
    """The database can be read and not written (SQLITE_READONLY)."""

    suggestion = "Make the file and its folder writable, or mount the file system so."


class StoreFull(StoreUnavailable):
    """There is no space left for the database (SQLITE_FULL, or a disk that is full and says so in other words)."""

    suggestion = "Free space on that file system."


class StoreFailing(StoreError):
    """The disk does not do what SQLite asks of it; `name` is SQLite's for it, such as `IOERR_READ`."""

    code = "STORE_FAILING"
    suggestion = "Look at the disk (`dmesg`, `smartctl`): it may be dying. Copy what can be read elsewhere."

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.name = name


class StoreCorrupted(StoreError):
    """The database is damaged (SQLITE_CORRUPT, NOTADB, or bytes that are no text)."""

    code = "STORE_CORRUPTED"


class SchemaMismatch(StoreError):
    """The database was made by another version of this program."""

    code = "SCHEMA_MISMATCH"
    suggestion = "Run the program version that made this database, or restore one that fits."


class SchemaOutdated(SchemaMismatch):
    """The database was made by an older version of this program, and was not migrated yet."""

    code = "SCHEMA_OUTDATED"
    suggestion = "The daemon migrates it when it starts: start it, or start it again."


class CacheError(ConfigDaemonError):
    """The last-known-good cache or the marks cannot be trusted."""

    exit_code = 69
    code = "CACHE"
    suggestion = "Keep the file for inspection; the daemon writes a new one from the database."


class BrokerUnavailable(ConfigDaemonError):
    """No MQTT broker answers at the configured address."""

    exit_code = 69
    code = "BROKER_UNAVAILABLE"
    suggestion = "Check MQTT_URL and that the broker is running."


class ApplyFailed(ConfigDaemonError):
    """The agent could not put a config into force: a file, or a command, did not do what it should."""

    code = "APPLY_FAILED"
    suggestion = "Mend what is named above; the config is tried again at the agent's next start."


class RejectedUpdate(ConfigDaemonError):
    """A worker refused a message; `reason` is a word of the protocol's list, `step` the number of the check."""

    code = "REJECTED_UPDATE"
    suggestion = "What ran before runs on, if anything did. See docs/protocol.md for the reason."

    def __init__(
        self,
        reason: str,
        step: int,
        detail: str = "",
        contexts: Sequence[ErrorContext] = (),
        suggestion: str | None = None,
    ) -> None:
        message = f"step {step}: {reason}" + (f" ({detail})" if detail else "")
        super().__init__(message, contexts=contexts, suggestion=suggestion)
        self.reason, self.step, self.detail = reason, step, detail
