"""The real command line, called in this process: fast, with real streams, exit codes and files."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest

from config_daemon.cli.main import main
from config_daemon.store import locks
from config_daemon.store.files import Files
from config_daemon.store.status import ServiceStatus, StatusBoard

BLOB = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 2_000_000, "description": "Any text."},
        "free": {"type": "object", "description": "Anything."},
        "note": {"type": ["string", "null"], "description": "Perhaps a text."},
        "key": {"type": "string", "x-secret": True, "description": "A secret."},
    },
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Result:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        return dict(json.loads(self.err))

    @property
    def codes(self) -> dict[str, str]:
        return {each["failed_field"]: each["error_code"] for each in self.error["errors"]}


class Terminal(io.TextIOWrapper):
    """A standard input at which somebody sits."""

    def isatty(self) -> bool:
        return True


def call(words: list[str], text: str = "", *, terminal: bool = False) -> Result:
    """Run a command line as the program does, with streams as a shell would give it."""
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = (Terminal if terminal else io.TextIOWrapper)(io.BytesIO(text.encode()), "utf-8")
    sys.stdout = out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    sys.stderr = err = io.TextIOWrapper(io.BytesIO(), "utf-8")
    code: Any = 0
    try:
        main(words)
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
    return Result(code, _printed(out), _printed(err))


def _printed(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.buffer.read().decode()


def refused(result: Result, code: int, *told: str) -> None:
    """Expect an exit code, nothing on stdout, and these words on stderr."""
    assert (result.code, result.out) == (code, ""), result.err
    for words in told:
        assert words in result.err


class Cli:
    """The program on one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = Files.below(folder)

    def __call__(self, *words: str, text: str = "", terminal: bool = False) -> Result:
        return call(["--data", str(self.folder), *words], text, terminal=terminal)

    def ok(self, *words: str, text: str = "") -> Result:
        result = self(*words, text=text)
        assert result.code == 0, result.err
        return result

    def json(self, *words: str, text: str = "") -> Any:
        return self.ok(*words, "--json", text=text).data

    def data(self, *words: str, code: int) -> Any:
        """Return what a command prints as JSON that ends with another code than 0."""
        result = self(*words, "--json")
        assert result.code == code, result.err
        return result.data

    def stored(self, service: str) -> dict[str, Any]:
        """Return the set values of a service."""
        return dict(self.json("export", service)[0]["config"])

    def version(self, service: str) -> int:
        return int(self.json("export", service)[0]["version"])

    def sql(self, statement: str, *bindings: Any) -> list[Any]:
        """Run a statement as somebody with a shell would."""
        connection = apsw.Connection(str(self.files.database))
        try:
            return list(connection.execute(statement, bindings))
        finally:
            connection.close()

    def dotenv(self, line: str) -> int:
        """Add a line to `.env`; return its number."""
        text = self.files.environment.read_text() + line + "\n"
        self.files.environment.write_text(text)
        return text.count("\n")

    def define(self, service: str, schema: dict[str, Any]) -> None:
        (self.files.schemas / f"{service}.schema.json").write_text(json.dumps(schema))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests has a say."""
    for name in list(os.environ):
        if name.startswith(("CONFIG_", "LKG_", "MQTT_")) or name in (
            "ENVIRONMENT",
            "EDITOR",
            "VISUAL",
            "NO_COLOR",
        ):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "data"
    assert call(["init", "--data", str(folder)]).code == 0
    return folder


@pytest.fixture
def cli(made: Path, tmp_path: Path) -> Cli:
    """The program on a fresh folder."""
    return Cli(Path(shutil.copytree(made, tmp_path / "data")))


@pytest.fixture
def blob(cli: Cli) -> Cli:
    """The program with a service `blob` whose fields take nearly everything."""
    cli.define("blob", BLOB)
    return cli


@pytest.fixture
def lived(cli: Cli) -> Cli:
    """A folder in which a daemon has published two services."""
    from tests.cli.lives import published  # which needs what is defined here

    cli.ok("set", "stt-worker", "channels=2")
    cli.ok("set", "stt-worker", "vad_threshold=0.7")
    cli.ok("set", "router", "router_stream_min_chars=9")
    published(cli)
    return cli


class Daemon:
    """What a living daemon looks like to the command line: a held lock, and what it says."""

    def __init__(self, files: Files) -> None:
        self._lock = locks.take(files.daemon_lock)
        assert self._lock is not None
        self._board = StatusBoard(files.status)
        self.says(mode="normal", database_status="healthy")

    def says(self, *conditions: tuple[str, str], detail: str = "", **facts: Any) -> None:
        """Say facts and which conditions are open: (name, subject)."""
        self._board.daemon(**facts)
        self._board.conditions(
            (name, subject, "critical", "", detail or f"{name} it is", "Mend it.")
            for name, subject in conditions
        )
        self._board.flush()

    def publishes(self, service: str, version: int, values: dict[str, Any], state: str = "confirmed") -> None:
        sources = dict.fromkeys(values, "database")
        row = ServiceStatus(
            service, version, json.dumps(values), json.dumps(sources), 1, 1, "", state, "", "[]"
        )
        self._board.service(service, lambda: row)
        self._board.flush()

    def forgets(self, service: str) -> None:
        self._board.forget(service)
        self._board.flush()

    def fixes(self, service: str, key: str, file: str, line: int) -> None:
        self._board.env_locks([(service, key, file, line)])
        self._board.flush()

    def answers(self, request_id: str, state: str, result: dict[str, Any]) -> None:
        self._board.answer(request_id, "", state, "", result)
        self._board.flush()

    def ends(self) -> None:
        self._board.close()
        if self._lock is not None:
            locks.release(self._lock)
            self._lock = None


@pytest.fixture
def daemon(cli: Cli) -> Iterator[Daemon]:
    daemon = Daemon(cli.files)
    yield daemon
    daemon.ends()


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Let a shell script be the editor; its $1 is the file. Returns where it leaves what it saw."""

    def use(script: str) -> Path:
        seen = tmp_path / "seen"
        program = tmp_path / "editor.sh"
        program.write_text(f'#!/bin/sh\ncp "$1" {seen}\necho "$1" > {seen}.path\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("EDITOR", str(program))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return seen

    return use
