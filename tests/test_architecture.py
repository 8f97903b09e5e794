"""The house stays as it is drawn: layers, homes of outside libraries, purity, the edge's lightness."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "config_daemon"

# outside library -> (where it may be imported, why only there)
HOMES: dict[str, tuple[tuple[str, ...], str]] = {
    "paho": (
        ("daemon/batching.py", "daemon/link.py", "daemon/dial.py", "worker/bounds.py", "worker/client.py"),
        "one place knows MQTT on each side",
    ),
    "inotify_simple": (("daemon/watch.py",), "the events of files are reduced to a hint there"),
    "apsw": (("store/",), "errors are translated at this border; a second SQLite would drop locks"),
    "sqlite3": ((), "a second SQLite in one process drops the first one's locks"),
    "nacl": (("wire/", "store/keyfiles.py", "store/keybackup.py", "cli/init.py", "cli/keyrings_held.py",
              "worker/trust.py",
              "daemon/witness.py", "daemon/statuses.py"),
             "signatures are made and checked in wire, key backups in keybackup; elsewhere only key objects pass"),
    "cryptography": (("store/vault.py",), "AES-GCM has one home; signatures never come from here"),
    "dotenv": (("store/dotenv.py",), "its quirks are guarded in one place"),
    "jsonschema_rs": (("catalog/",), "the edge does not have it"),
    "pydantic_core": (("catalog/",), "comes with pydantic, for its error types"),
    "pydantic": (("wire/messages.py", "wire/beacon.py", "wire/keyring.py", "wire/status.py", "wire/convergence.py",
                  "catalog/", "worker/typed.py", "worker/sdk.py", "agent/tables.py"),
                 "models of messages and of services only; at the edge, a program's own class, a file of settings"),
    "rich": (("cli/",), "for eyes only"),
    "click": (("cli/",), "only the command line parses arguments"),
    "jinja2": (("agent/render.py",), "templates are rendered in a sandbox, in one place"),
    "tomli_w": (("agent/render.py",), "a format of files that the agent writes"),
    "ruamel": (("cli/",), "YAML is a format of files that people give us"),
    "psutil": (("daemon/metrics.py",), "system figures have one home"),
    "iotcore": ((), "started as a program of its own, never inside ours"),
}  # fmt: skip

PURE = ("wire", "core")
PURE_FILES = ("worker/trust.py", "worker/standing.py", "worker/change.py")
IMPURE_MODULES = {
    "time", "os", "socket", "threading", "random", "secrets", "logging", "pathlib", "subprocess",
    "select", "tempfile", "shutil", "asyncio", "ssl", "signal", "sys", "io", "fcntl",
}  # fmt: skip


def _files(below: str = "") -> Iterator[Path]:
    yield from sorted((PACKAGE / below).rglob("*.py"))


@cache
def _imports(path: Path) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return tuple(found)


@pytest.mark.parametrize("library", HOMES)
def test_an_outside_library_stays_at_home(library: str) -> None:
    homes, why = HOMES[library]
    strays = [
        str(path.relative_to(PACKAGE))
        for path in _files()
        if any(name.partition(".")[0] == library for name in _imports(path))
        and not any(str(path.relative_to(PACKAGE)).startswith(home) for home in homes)
    ]
    assert not strays, f"{library} is imported in {strays}; it belongs in {homes}: {why}"


def test_every_outside_library_has_a_home() -> None:
    known = {*HOMES, *sys.stdlib_module_names, "config_daemon"}
    strangers = {
        name.partition(".")[0]
        for path in _files()
        for name in _imports(path)
        if name.partition(".")[0] not in known
    }
    assert not strangers, f"give these a home and a reason in HOMES: {strangers}"


def test_the_pure_parts_have_no_clock_disk_network_thread_or_log() -> None:
    pure = [*(path for folder in PURE for path in _files(folder)), *(PACKAGE / name for name in PURE_FILES)]
    breaches = {
        str(path.relative_to(PACKAGE)): sorted(found)
        for path in pure
        if (found := {name.partition(".")[0] for name in _imports(path)} & IMPURE_MODULES)
    }
    assert not breaches, "time, randomness and keys come in as arguments"


def test_nothing_reads_the_environment_when_imported() -> None:
    """Settings are read when the program starts, so that importing it has no effect and no surprise."""
    program = (
        "import os, pkgutil, importlib, config_daemon\n"
        "class Trap(dict):\n"
        "    def __getitem__(self, key):\n"
        "        if str(key).startswith(('CONFIG', 'LKG', 'MQTT', 'ENVIRON')): raise SystemExit(f'read {key}')\n"
        "        return super().__getitem__(key)\n"
        "    def get(self, key, default=None):\n"
        "        if str(key).startswith(('CONFIG', 'LKG', 'MQTT', 'ENVIRON')): raise SystemExit(f'read {key}')\n"
        "        return super().get(key, default)\n"
        "os.environ = Trap(os.environ)\n"
        "for found in pkgutil.walk_packages(config_daemon.__path__, 'config_daemon.'):\n"
        "    importlib.import_module(found.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr or done.stdout


def test_the_layers_are_kept() -> None:
    program = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=ROOT, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_seven_core_files_can_be_read_in_one_sitting() -> None:
    core = (
        "wire/sealing", "core/resolve", "core/plan", "core/modes", "daemon/inbox", "daemon/broker", "daemon/loop",
    )  # fmt: skip
    lines = {name: len((PACKAGE / f"{name}.py").read_text().splitlines()) for name in core}
    assert sum(lines.values()) <= 700, lines
