"""The documents say what the code does: lists are complete, links lead somewhere, examples run."""

from __future__ import annotations

import ast
import base64
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config_daemon.cli.main import COMMANDS
from config_daemon.core.health import CONDITIONS
from config_daemon.daemon import judge, report

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, DOCS = ROOT / "config_daemon", ROOT / "docs"
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
# the first segments of paths that a document may name; any other absolute path is somebody's own machine
SYSTEM_FOLDERS = {"bin", "dev", "etc", "opt", "path", "proc", "run", "srv", "usr", "var"}
EXAMPLE_FOLDERS = ("/root/config-daemon-ca",)  # below a home that every machine has


def documents() -> list[Path]:
    """Return every Markdown file of the project, none of an environment or a cache."""
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not any(part.startswith(".") or part == "node_modules" for part in path.relative_to(ROOT).parts)
    )


def section(document: str, heading: str) -> str:
    """Return the text below a heading, up to the next one of its level."""
    text = (DOCS / document).read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"docs/{document} has no section {heading!r}"
    return found[1]


def table(text: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head and without the marks of code."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row] for row in rows[2:]]


def calls(folder: Path, but: str = "") -> Iterator[ast.Call]:
    for path in sorted(path for path in folder.rglob("*.py") if path.name != but):
        yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def constants(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def function(module: str, name: str) -> ast.FunctionDef:
    tree = ast.parse((PACKAGE / module).read_text())
    return next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name)


def returned(module: str, name: str) -> set[str]:
    """Return the words that a function can return, its docstring aside."""
    returns = [node for node in ast.walk(function(module, name)) if isinstance(node, ast.Return)]
    return set().union(*(constants(node) for node in returns))


# what the daemon says -----------------------------------------------------------------------------


def test_every_log_event_is_listed_with_its_level_and_facts() -> None:
    said = {}
    for call in calls(PACKAGE):
        method = call.func
        if not isinstance(method, ast.Attribute) or method.attr not in LEVELS:
            continue
        owner = (
            method.value.attr if isinstance(method.value, ast.Attribute) else getattr(method.value, "id", "")
        )
        if owner.strip("_") not in ("log", "logger"):
            continue
        assert call.args and isinstance(call.args[0], ast.Constant), f"line {call.lineno}: no constant event"
        said[call.args[0].value] = (method.attr, {keyword.arg for keyword in call.keywords})
    listed = {
        name: (level, set(re.findall(r"\w+", facts)))
        for name, level, facts, _ in table(section("events.md", "Log events"))
    }
    assert listed == said


def test_every_condition_is_listed_as_it_is() -> None:
    listed = {name: rest for name, *rest in table(section("events.md", "Conditions"))}
    told = {name: [rest[0], rest[1], rest[3]] for name, rest in listed.items()}
    assert told == {
        name: [kind.severity, "yes" if kind.holds else "no", kind.remedy] for name, kind in CONDITIONS.items()
    }
    assert all(rest[2] for rest in listed.values()), "every condition says when it is open"


def test_every_event_of_health_is_listed() -> None:
    """Beside these an event is the name of a critical condition."""
    said = returned("daemon/past.py", "_load_cache")
    for path in sorted((PACKAGE / "daemon").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "event" and isinstance(node.value, ast.Constant):
                said.add(node.value.value)
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Attribute) and target.attr == "_event" for target in node.targets
            ):
                said |= constants(node.value)
    assert {row[0] for row in table(section("events.md", "The health member `event`"))} == said


def test_every_state_of_a_service_is_listed() -> None:
    cached = {
        call.args[7].value
        for call in ast.walk(function("daemon/judge.py", "_cached_row"))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "ServiceStatus"
        and isinstance(call.args[7], ast.Constant)
    }  # fmt: skip
    assert cached, "_cached_row names the state in the eighth column"
    known = {*judge.CONDITION, *report.REFUSALS, *returned("daemon/judge.py", "_progress"), *cached}
    assert {row[0] for row in table(section("events.md", "States of a service"))} == known


# the wire -----------------------------------------------------------------------------------------


def test_every_reason_of_a_worker_is_listed_at_its_step() -> None:
    said: set[tuple[str, str]] = set()
    for folder in ("wire", "worker"):
        for call in calls(PACKAGE / folder, but="keyring.py"):
            if getattr(call.func, "id", "") != "RejectedUpdate":
                continue
            reason, step = call.args[:2]
            assert isinstance(step, ast.Constant)
            words = constants(reason) if isinstance(reason, ast.Constant) else {"keyring-behind", "rollback"}
            said |= {(str(step.value), word) for word in words}
    listed = {
        (step, reason)
        for step, _, reasons in table(section("protocol.md", "4 What a worker does, step by step"))
        for reason in re.findall(r"[a-z-]{4,}", reasons)
    }
    assert listed == said


def test_every_reason_for_a_keyring_is_listed_at_its_step() -> None:
    said: set[tuple[str, str]] = set()
    for module in ("keyring", "tail", "sealing", "messages"):  # a keyring passes through all of these
        for node in ast.walk(ast.parse((PACKAGE / f"wire/{module}.py").read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RejectedUpdate":
                reason, step = node.args[:2]
                assert isinstance(reason, ast.Constant) and isinstance(step, ast.Constant)
                said.add((str(step.value), reason.value))
    text = section("protocol.md", "6 Keys and keyrings")
    listed = {
        (step, reason)
        for step, _, reasons in table(text[text.index("| step |") :])
        for reason in re.findall(r"[a-z-]{4,}", reasons)
    }
    assert listed == said


@pytest.mark.parametrize(
    ("what", "value", "where"),
    table(section("protocol.md", "9 Numbers and limits")),
    ids=lambda text: text[:20],
)
def test_a_number_is_the_codes(what: str, value: str, where: str) -> None:
    path, name = where.split()
    module = importlib.import_module(f"config_daemon.{path.removesuffix('.py').replace('/', '.')}")
    assert getattr(module, name) == float(value.split()[0]), what


@pytest.mark.parametrize(
    ("language", "program"), [("python", [sys.executable, "-c"]), ("js", ["node", "-e"])]
)
def test_a_message_is_checked_by_hand_as_the_page_says(
    language: str, program: list[str], tmp_path: Path
) -> None:
    code = re.search(rf"```{language}\n(.*?)```", section("protocol.md", "10 Check one by hand"), re.DOTALL)
    assert code
    vector = json.loads((ROOT / "schemas/vectors/00-good-plain.json").read_text())
    raw = base64.b64decode(vector["message_base64"])
    (tmp_path / "key.hex").write_text(vector["public_keys"][0])

    def run(message: bytes) -> subprocess.CompletedProcess[str]:
        (tmp_path / "message.json").write_bytes(message)
        return subprocess.run([*program, code[1]], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    good = run(raw)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["service"] == vector["services"][0]
    assert run(raw.replace(b'"config_version":7', b'"config_version":8')).returncode != 0


# the pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_links_to_what_is_there_and_names_no_machine(document: Path) -> None:
    text = document.read_text()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        other = document.parent / path if path else document
        assert other.exists(), f"{document.name} links to {target}"
        if anchor:
            assert anchor in anchors(other), f"{document.name} links to {target}"
    for folder in EXAMPLE_FOLDERS:
        text = text.replace(folder, "")
    paths = re.findall(r"(?<![\w./:}>)*…-])/([A-Za-z][\w.-]*)/", text)
    assert set(paths) <= SYSTEM_FOLDERS, f"{document.name} names a path of somebody's machine"


def anchors(document: Path) -> set[str]:
    """Return the anchors that Markdown renderers give to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_page_can_be_found_from_the_first_two() -> None:
    linked = {
        (start.parent / target.partition("#")[0]).resolve()
        for start in (ROOT / "README.md", DOCS / "architecture.md")
        for target in re.findall(r"\]\(([^)\s]+)\)", start.read_text())
    }
    assert {path.resolve() for path in DOCS.rglob("*.md")} <= linked


def test_the_page_of_commands_names_every_command() -> None:
    named = set(
        re.findall(
            r"`config-daemon ([a-z]+)|`([a-z]+)[` ]|^#+ `?([a-z]+)", (DOCS / "cli.md").read_text(), re.M
        )
    )
    assert set(COMMANDS) <= {word for words in named for word in words}


def test_every_command_that_a_remedy_names_exists() -> None:
    remedies = " ".join(kind.remedy for kind in CONDITIONS.values())
    assert set(re.findall(r"`config-daemon ([a-z]+)", remedies)) <= set(COMMANDS)
