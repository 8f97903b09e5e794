"""The people of the simulator: who writes, edits, backs up, restores and locks the one host's store.

Laws: what they did is known here as they know it, and never asked of the daemon.
"""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import apsw

from config_daemon.store.cache import load as load_cache
from config_daemon.store.ports import Edit
from config_daemon.store.writer import SqliteWriter
from config_daemon.wire.messages import timestamp
from tests.fleet_host import Host, by_hand
from tests.fleet_laws import ENV_NAME, KEY, Laws, Stored


@dataclass(frozen=True)
class Backup:
    """A copy of the database, and the rows in it."""

    path: Path
    rows: dict[str, Stored]


class Operator:
    """One host's operators: `rows` is what the database should hold, `voice` what `.env` fixes."""

    def __init__(self, host: Host, laws: Laws) -> None:
        self.host, self.laws = host, laws
        self.rows: dict[str, Stored] = {}
        self.damaged: dict[str, int] = {}
        self.voice: str | None = None
        self._writer: SqliteWriter | None = None
        self._locker: apsw.Connection | None = None

    def commit(self, service: str, value: int | None) -> Stored:
        """Write a value as the command line does; None deletes the service."""
        key = KEY[service]
        edit = Edit(service, lambda stored: None if value is None else {**stored, key: value})
        written = self.writer().commit([edit], by="operator")[0]
        self._record(service, written.version, value)
        return self.rows[service]

    def env_edit(self, voice: str | None) -> None:
        """Fix a value of the TTS worker in `.env`, as an editor does; None removes the line."""
        path = self.host.files.environment
        kept = [line for line in path.read_text().splitlines() if not line.startswith(ENV_NAME)]
        beside = path.with_name(".env.swp")
        beside.write_text("\n".join([*kept, *([f"{ENV_NAME}={voice}"] if voice is not None else [])]) + "\n")
        beside.chmod(0o600)
        beside.replace(path)
        self.voice = voice
        self.laws.voices.add(voice)

    def edit_row_by_hand(self, service: str, value: int) -> None:
        """Change a row with the `sqlite3` shell: its seal does not fit any more."""
        text = json.dumps({KEY[service]: value}, separators=(",", ":"))
        by_hand(
            self.host.files.database,
            f"UPDATE service_configs SET config_json = '{text}' WHERE service = '{service}'",  # noqa: S608
        )
        self.damaged[service] = value

    def adopt_row(self, service: str) -> None:
        """Run `adopt SERVICE`: what was edited by hand is sealed as a new version."""
        value = self.damaged.pop(service)
        edit = Edit(service, lambda stored: stored)
        written = self.writer().commit([edit], by="operator", adopt=True)[0]
        self._record(service, written.version, value)

    def backup(self) -> Backup:
        """Copy the database as `VACUUM INTO` does."""
        path = self.host.folder.parent / f"backup-{uuid.uuid4().hex}.db"
        by_hand(self.host.files.database, f"VACUUM INTO '{path}'")
        return Backup(path, dict(self.rows))

    def restore_database(self, backup: Backup) -> None:
        """Put a copy in the database's place, properly: its `-wal` goes with the old one."""
        self.close_writer()
        database = self.host.files.database
        beside = database.with_name("restored.db")
        shutil.copyfile(backup.path, beside)
        for suffix in ("-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        beside.replace(database)
        self.rows, self.damaged = dict(backup.rows), {}

    def lose_lkg(self) -> None:
        """Delete the last-known-good cache."""
        self.laws.forgot = True
        for suffix in ("", ".1"):
            self.host.files.cache.with_name(self.host.files.cache.name + suffix).unlink(missing_ok=True)

    def lose_marks(self) -> None:
        """Delete the marks; where the clock is behind too, nobody knows the last number."""
        self.laws.forgot = True
        self.host.files.marks.unlink(missing_ok=True)
        self.laws.numbers_may_repeat = True

    def lock_database(self) -> None:
        """Have another process hold the database exclusively."""
        self.close_writer()
        if self.host.process is not None:
            self.host.process.reader.close()  # nobody gets the lock while another connection is open
        self._locker = apsw.Connection(str(self.host.files.database))
        self._locker.pragma("locking_mode", "EXCLUSIVE")
        self._locker.execute("BEGIN IMMEDIATE; COMMIT")

    def unlock_database(self) -> None:
        """Have it let go."""
        if self._locker is not None:
            self._locker.close(True)
            self._locker = None

    @property
    def locked(self) -> bool:
        """Tell whether somebody holds the database."""
        return self._locker is not None

    def expected(self, service: str) -> dict[str, object] | None:
        """Return the config that a service should have now; None: it is deleted."""
        value = self.rows[service].value
        return None if value is None else self.laws.effective(service, value, self.voice)

    def cached_number(self, service: str) -> int:
        """Return the number of a service's message in the last-known-good cache."""
        cache = load_cache(self.host.files.cache, [self.host.ground.keys.hmac_key()[1]])
        assert cache is not None
        return cache.sealed[service].sequence

    def copy_host(self, name: str) -> Host:
        """Copy the whole host, as somebody does who clones a machine; the test runs its daemon."""
        self.close_writer()
        folder = self.host.folder.parent / name
        shutil.copytree(self.host.folder, folder)
        return Host(folder, self.host.server, self.host.clock, self.laws.sent, name)

    def close_writer(self) -> None:
        """Give the database back."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _record(self, service: str, version: int, value: int | None) -> None:
        self.rows[service] = Stored(version, value)
        self.laws.committed.add((service, self.rows[service]))

    def writer(self) -> SqliteWriter:
        """Return the writer of the store, which is kept open."""
        if self._writer is None:
            self._writer = SqliteWriter(
                self.host.files.database, self.host.ground.keys.row_sealer(), self.laws.catalog,
                lock=self.host.files.store_lock, now=lambda: timestamp(self.host.clock.unix_ms()), synchronous="OFF",
            )  # fmt: skip
        return self._writer
