"""A store on real files, and service definitions made up for it."""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from config_daemon.errors import ConfigDaemonError, ErrorContext, InvalidConfig
from config_daemon.store.files import Files
from config_daemon.store.ports import BadRow, Changes, Edit, Place, Row, Tombstone, Written
from config_daemon.store.schema import create
from config_daemon.store.seals import RowSealer
from config_daemon.store.sqlite import SqliteReader
from config_daemon.store.writer import SqliteWriter

EPOCH = "6f3c8f0a-5d2e-4b5e-9d57-0c1f2a3b4c5d"
OTHER_EPOCH = "0a9b8c7d-6e5f-4a4b-8c3d-2e1f0a9b8c7d"
NOW = "2026-01-02T03:04:05.678Z"
MASTER_KEY = bytes(range(32))
SEALER = RowSealer.from_master_key("master-test", MASTER_KEY)


@dataclass(frozen=True)
class FakeField:
    type: str = "string"
    complexity: str = "simple"
    description: str = "what it is"
    help_text: str = "how to choose it"
    is_secret: bool = False


@dataclass(frozen=True)
class FakeDefinition:
    """An open service: any key may be set; `gain` is a number of at most 10, `model` must be given."""

    fields: Mapping[str, FakeField] = field(
        default_factory=lambda: {
            "gain": FakeField("float", description="input gain"),
            "model": FakeField(),
            "audio.rate": FakeField("integer", "advanced"),
            "tags": FakeField("list", help_text="any words"),
            "api_key": FakeField("secret", is_secret=True),
        }
    )
    defaults: Mapping[str, Any] = field(default_factory=lambda: {"gain": 1.0})

    @property
    def secrets(self) -> frozenset[str]:
        return frozenset(key for key, one in self.fields.items() if one.is_secret)

    def effective(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.defaults, **values}

    def check(self, values: Mapping[str, Any]) -> tuple[ErrorContext, ...]:
        found = []
        if "model" not in values:
            found.append(
                ErrorContext("missing_field", "MISSING_FIELD", "model is missing", "Set it.", "model")
            )
        if not isinstance(values["gain"], int | float) or values["gain"] > 10:
            found.append(ErrorContext("type_error", "TOO_HIGH", "gain is over 10", "Lower it.", "gain"))
        if values.get("tags") == []:
            found.append(ErrorContext("invalid_config", "EMPTY", "tags is empty", "Name one.", "tags"))
        return tuple(found)

    def coerce(self, key: str, text: str) -> Any:
        try:
            return text if self.fields[key].type == "string" else json.loads(text)
        except ValueError as error:
            raise InvalidConfig(f"{key} is no {self.fields[key].type}") from error


class FakeDefinitions:
    """Three services that exist; every other name is unknown."""

    names = ("router", "stt-worker", "tts-worker")

    def get(self, service: str) -> FakeDefinition | None:
        return FakeDefinition() if service in self.names else None

    def suggest(self, service: str) -> str | None:
        near = difflib.get_close_matches(service, self.names, 1)
        return near[0] if near else None


def merged(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a change that sets some values and leaves the others."""
    return lambda stored: {**stored, **values}


def as_it_is(stored: dict[str, Any]) -> dict[str, Any]:
    return stored


def gone(_stored: dict[str, Any]) -> None:
    return None


class Store:
    """One data folder with a database, written and read through the product, altered by hand with `sql`."""

    def __init__(self, folder: Path) -> None:
        self.files = Files.below(folder)
        self.path = self.files.database
        self._open: list[SqliteWriter | SqliteReader] = []
        self._writer: SqliteWriter | None = None

    def create(self, epoch: str = EPOCH) -> Store:
        create(self.path, epoch=epoch, model_hash="0" * 64, now=NOW)
        return self

    def writer(self, **more: Any) -> SqliteWriter:
        given: dict[str, Any] = {"definitions": FakeDefinitions(), "now": lambda: NOW, "synchronous": "OFF"}
        writer = SqliteWriter(self.path, SEALER, lock=self.files.store_lock, **(given | more))
        self._open.append(writer)
        return writer

    def reader(self, sealer: RowSealer = SEALER, **more: Any) -> SqliteReader:
        reader = SqliteReader(self.path, sealer, **more)
        self._open.append(reader)
        return reader

    def commit(self, *edits: Edit, **more: Any) -> list[Written]:
        self._writer = self._writer or self.writer()
        return self._writer.commit(edits, **{"by": "test", **more})

    def edit(
        self, service: str, change: Callable[..., Any], expect: int | None = None, **more: Any
    ) -> Written:
        return self.commit(Edit(service, change, expect), **more)[0]

    def set(self, service: str = "stt-worker", **values: Any) -> Written:
        return self.edit(service, merged(**values))

    def delete(self, service: str = "stt-worker") -> Written:
        return self.edit(service, gone)

    def adopt(self, service: str = "stt-worker") -> Written:
        return self.edit(service, as_it_is, adopt=True)

    def row(self, service: str = "stt-worker") -> Row | Tombstone | BadRow | None:
        return self.reader().read([service]).get(service)

    def values(self, service: str = "stt-worker") -> dict[str, Any]:
        row = self.row(service)
        assert isinstance(row, Row)
        values: dict[str, Any] = json.loads(row.text)
        return values

    def changes(self, since: Place | None = None) -> Changes:
        return self.reader().changes(since)

    def sql(self, statement: str, bindings: Any = ()) -> list[Any]:
        """Run a statement as somebody with a shell would, in a connection of its own."""
        connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(2000)
        try:
            return list(connection.execute(statement, bindings))
        finally:
            connection.close()

    def history(self, columns: str, service: str = "stt-worker") -> list[Any]:
        return self.sql(f"SELECT {columns} FROM config_history WHERE service = ? ORDER BY id", (service,))  # noqa: S608

    def items(self, service: str = "stt-worker") -> dict[str, str]:
        return dict(self.sql("SELECT key, value_json FROM config_items WHERE service = ?", (service,)))

    def content(self) -> dict[str, list[Any]]:
        """Return every value of every table, also of those that hold bytes which are no text."""
        columns: dict[str, list[str]] = {}
        for table, column in self.sql(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
        ):
            columns.setdefault(table, []).append(f'typeof("{column}"), hex("{column}")')
        statements = {table: f"SELECT {','.join(each)} FROM {table}" for table, each in columns.items()}  # noqa: S608
        return {table: self.sql(f"{statement} ORDER BY rowid") for table, statement in statements.items()}

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a new store; to copy it is quicker than to sync another one to the disk."""
    return Store(tmp_path_factory.mktemp("empty")).create().path


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Iterator[Store]:
    """An empty store; what was opened through it is closed at the end."""
    store = Store(tmp_path)
    shutil.copy(empty_database, store.path)
    yield store
    store.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def codes(error: ConfigDaemonError) -> list[str]:
    return [context.error_code for context in error.contexts]
