"""The table in `docs/security.md` and the tests of attacks name each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

E2E = Path(__file__).parent
PAGE = (E2E.parent.parent / "docs" / "security.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")][1:]


def attacks_in(pattern: str) -> dict[str, str]:
    """Return the tests of some files, without `test_`, and the file of each."""
    return {
        node.name.removeprefix("test_"): path.read_text()
        for path in E2E.glob(pattern)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_line_of_the_table_names_tests_that_are_there() -> None:
    known = attacks_in("test_*.py")
    assert len(ROWS) > 40
    for attack, worker, operator, tests in ROWS:
        assert worker and operator, attack
        named = re.findall(r"`(\w+)(?:\[([^]]+)])?`", tests)
        assert named, f"{attack}: no test"
        for test, attack_of_it in named:
            assert test in known, f"{attack}: there is no test_{test}"
            assert f'"{attack_of_it}' in known[test] or not attack_of_it, f"{attack}: no [{attack_of_it}]"


def test_every_test_of_an_attack_is_in_the_page() -> None:
    own = {test for test, text in attacks_in("test_trust*.py").items() if "\ndef attacker(" in text}
    assert not {test for test in own if f"`{test}" not in PAGE}
