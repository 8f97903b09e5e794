"""Two rules that no run shows broken until a database is: who may open it, and with which SQLite."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import config_daemon

PACKAGE = Path(config_daemon.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
OPENERS = {
    "open", "read_text", "read_bytes", "write_text", "write_bytes", "touch", "copy", "copy2", "copyfile", "copyfileobj",
    "copytree", "truncate", "read_capped", "replace_durably", "write_beside", "mmap", "fdopen", "FileIO", "sendfile",
}  # fmt: skip
DATABASE = re.compile(r"\b(?:db_path|database|db|config\.db)\b|config\.db|\.db\b", re.IGNORECASE)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield ast.unparse(node)


def openings(tree: ast.Module) -> Iterator[str]:
    """Yield calls that open a file by its path and name a database."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in OPENERS:
            continue
        told = [ast.unparse(argument) for argument in node.args]
        receiver = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else "io"
        if name == "open" and receiver not in ("os", "io"):
            told = []  # a method: what it opens is its object
        if any(DATABASE.search(text) for text in (receiver, *told)):
            yield ast.unparse(node)


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 40
    assert PACKAGE / "store" / "sqlite.py" in SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_second_sqlite_is_imported(path: Path) -> None:
    """Two copies of SQLite in one process drop each other's locks."""
    assert not [name for name in imports(parsed(path)) if re.search(r"\b_?(pysqlite|sqlite)3\b", name)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_sqlite_opens_a_database(path: Path) -> None:
    """To open and close the file in a process that also uses it drops all locks of that process on it."""
    assert list(openings(parsed(path))) == []


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent.name != "store"], ids=lambda p: p.name)
def test_sqlite_is_spoken_in_the_store_only(path: Path) -> None:
    assert "apsw" not in list(imports(parsed(path)))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("open(files.database)", True), ("files.database.open('rb')", True), ("os.open(db_path, 0)", True),
        ("Path(folder / 'config.db').read_bytes()", True), ("shutil.copy(files.database, there)", True),
        ("read_capped(files.database, 5)", True),
        ("os.stat(files.database)", False), ("files.database.rename(there)", False), ("open(files.marks)", False),
        ("apsw.Connection(str(files.database))", False), ("self._findings.open(name, 'config.db')", False),
    ],
)  # fmt: skip
def test_the_rule_sees_what_it_is_about(source: str, found: bool) -> None:
    assert bool(list(openings(ast.parse(source)))) is found
