"""The checker proves itself: it finds each of the bugs that are planted into the product."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tools.faults.run import run
from tools.faults.table import FAULTS

ROOT = Path(__file__).resolve().parents[2]
CHECKER, PLANTS = ROOT / "tools" / "faults" / "checker", Path(__file__).parent / "plants"

# bug -> (what provokes it, the law that it breaks, how its breach is told)
PLANTED = {
    "no_floor": ("older-message-put-back", "N4", "went back"),
    "nothing_reserved": ("clock-back-and-killed", "N4", "was used for two messages"),
    "numbers_reused": ("clock-back-and-killed", "N4", "was used for two messages"),
    "published_early": ("kill-before-commit", "N4", "never committed"),
    "stale_cache": ("missed-while-down", "N2", "the broker holds version"),
    "default_published": ("header-lost", "N4", "never committed"),
    "history_twice": ("writers-as-processes", "N5", "times"),
    "healthy_fallback": ("header-lost", "N6", "all is well while it was not"),
    "lost_row": ("writers-as-processes", "N1", "was acknowledged"),
    "leak_in_log": ("missed-while-down", "N7", "is in daemon.log"),
    "leak_on_topic": ("missed-while-down", "N7", "is in a message on system/health"),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    """`test_rows.py` runs the same faults on the product as it is, and finds nothing."""
    name, law, words = PLANTED[bug]
    paths = [str(PLANTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    plant = {"FAULTS_PLANT": bug, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    impatient = replace(FAULTS[name], options={**FAULTS[name].options, "patience": 2.0})
    result = run(impatient, 1, plant=plant, keep=tmp_path)
    found = [violation for violation in result.violations if violation.startswith(law)]
    assert any(words in violation for violation in found), result.violations


def test_the_checker_shares_no_code_with_the_product() -> None:
    for path in CHECKER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            strangers = [name for name in names if name.startswith(("config_daemon", "tests", "bench"))]
            assert not strangers, f"{path.name} imports {strangers}"
    program = (
        "import sys, tools.faults.checker.__main__\n"
        "sys.exit(str([name for name in sys.modules if name.startswith('config_daemon')] or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.stderr.strip() == ""
