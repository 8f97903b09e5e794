"""`audit verify`: an operator learns whether the history is as it was written, and if not, where."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import apsw
import pytest

from config_daemon.cli import audit
from config_daemon.store.audit import Heads, start_new_chains
from tests.cli.conftest import Cli, refused

ZEROS = "0" * 64


@pytest.fixture
def lived(cli: Cli) -> Cli:
    for number in range(1, 6):
        cli.ok("set", "stt-worker", f"vad_threshold=0.{number}")
    return cli


def head(cli: Cli) -> str:
    return str(cli.json("audit", "verify")["history"]["head"])


def test_an_empty_store_is_said_to_be_empty(cli: Cli) -> None:
    assert cli.ok("audit", "verify").out == "config_history: empty\naccess_log: empty\n"
    assert cli.json("audit", "verify")["access"] == {
        "table": "access_log", "count": 0, "head": ZEROS, "rows": 0, "begun": None, "forgiven": [],
    }  # fmt: skip


def test_counts_and_heads_are_printed(lived: Cli) -> None:
    (stored,) = lived.sql("SELECT chain FROM config_history ORDER BY id DESC LIMIT 1")[0]
    result = lived.ok("audit", "verify")
    assert result.out == f"config_history: 5 rows, all as written; head {stored}\naccess_log: empty\n"
    assert "--head HEX" in result.err
    found = lived.json("audit", "verify")["history"]
    assert (found["count"], found["head"]) == (5, stored)


def test_an_altered_row_is_told_with_when_and_whom_and_what_to_do(lived: Cli) -> None:
    lived.sql("UPDATE config_history SET new_value_json = '1' WHERE id = 3")
    ((at, by),) = lived.sql("SELECT changed_at, changed_by FROM config_history WHERE id = 3")
    result = lived("audit", "verify")
    refused(result, 1, f"row 3 of config_history (it says {at}, {by}) does not follow from row 2", "backup")
    told = lived("audit", "verify", "--json")
    assert (told.code, told.out, told.error["error"]) == (1, "", "AUDIT_FAILED")
    assert told.codes == {"config_history row 3": "CHAIN_BROKEN"}


def test_many_breaks_are_named_shortly(cli: Cli) -> None:
    for number in range(15):
        cli.ok("set", "stt-worker", f"vad_threshold=0.{number + 10}")
    cli.sql("UPDATE config_history SET changed_by = ? || id", "\x1b[2J")
    result = cli("audit", "verify")
    assert (
        "cannot have been the first, nor do 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 4 more from theirs"
        in result.err
    )
    assert "\x1b" not in result.err
    assert r"\x1b[2J1" in result.err


def test_both_tables_are_told(lived: Cli) -> None:
    lived.sql("UPDATE config_history SET changed_by = NULL WHERE id = 3")
    lived.sql("INSERT INTO access_log(action, success, timestamp, chain) VALUES ('read', 1, '', 'x')")
    told = lived("audit", "verify", "--json")
    assert told.codes == {"config_history row 3": "CHAIN_BROKEN", "access_log row 1": "CHAIN_BROKEN"}
    assert "row 1 of access_log (it says nothing, nothing) cannot have been" in lived("audit", "verify").err


def test_a_head_that_was_noted_is_found_again(lived: Cli) -> None:
    noted = head(lived)
    lived.ok("set", "stt-worker", "channels=2")
    result = lived.ok("audit", "verify", "--head", noted.upper())
    assert "that head is in it; 1 row came after" in result.out
    found = lived.json("audit", "verify", "--head", noted)
    assert (found["history"]["rows_after_head"], found["access"]["rows_after_head"]) == (1, None)
    assert lived.json("audit", "verify", "--head", ZEROS)["history"]["rows_after_head"] == 6


def test_a_head_that_is_gone_says_that_the_history_was_rewritten(lived: Cli) -> None:
    noted = head(lived)
    lived.sql("DELETE FROM config_history WHERE id = 5")
    lived.ok("audit", "verify")
    refused(lived("audit", "verify", "--head", noted), 1, noted, "rewritten since", "backup")
    assert lived("audit", "verify", "--head", noted, "--json").codes == {"--head": "HEAD_UNKNOWN"}
    lived.sql("UPDATE config_history SET changed_by = 'x' WHERE id = 2")
    both = lived("audit", "verify", "--head", noted, "--json").codes
    assert both == {"config_history row 2": "CHAIN_BROKEN", "--head": "HEAD_UNKNOWN"}


def adopt(cli: Cli, known: Heads | None = None) -> None:
    db = apsw.Connection(str(cli.files.database))
    with db:
        start_new_chains(db, action="adopt", by="cli:root", at="2026-02-02", reason=None, known=known)
    db.close()


def test_what_was_broken_before_an_adoption_is_only_noted(lived: Cli) -> None:
    early = lived.sql("SELECT chain FROM config_history WHERE id = 2")[0][0]
    late = head(lived)
    lived.sql("UPDATE config_history SET changed_by = 'x' WHERE id = 3")
    adopt(lived)
    lived.ok("set", "stt-worker", "channels=2")
    result = lived.ok("audit", "verify")
    assert "config_history: 2 rows, all as written" in result.out
    assert f"begun anew at row 6, 2026-02-02, by cli:root; before that 5 rows, head {late}" in result.out
    assert "does not follow from row 2; that was so when the present chain was begun" in result.err
    assert lived.json("audit", "verify")["history"]["forgiven"] == [3]
    assert lived.json("audit", "verify", "--head", late)["history"]["rows_after_head"] == 2
    assert lived("audit", "verify", "--head", early, "--json").codes == {
        "config_history row 3": "CHAIN_BROKEN"
    }


def test_a_head_whose_rows_were_given_up_says_by_whom(lived: Cli) -> None:
    lost = head(lived)
    lived.sql("DELETE FROM config_history WHERE id > 3")
    adopt(lived, Heads((5, lost), (0, ZEROS)))
    assert "before that 3 rows" in lived.ok("audit", "verify").out
    result = lived("audit", "verify", "--head", lost)
    refused(result, 1, f"config_history had the head {lost} until 2026-02-02; then cli:root adopted")


@pytest.mark.parametrize("text", ["", "xyz", "ab" * 31, "g" * 64, "a" * 65])
def test_what_is_no_head_is_a_mistake_of_usage(cli: Cli, text: str) -> None:
    assert cli("audit", "verify", "--head", text).code == 2


def test_a_store_that_is_missing_or_damaged_is_told_as_everywhere(lived: Cli, tmp_path: Path) -> None:
    lived.files.database.write_bytes(b"no database")
    for suffix in ("-wal", "-shm"):
        lived.files.database.with_name(f"config.db{suffix}").unlink(missing_ok=True)
    assert lived("audit", "verify").code == 69
    lived.files.database.unlink()
    refused(lived("audit", "verify"), 69, f"there is no store at {lived.files.database}")


def test_no_key_is_needed(lived: Cli) -> None:
    lived.files.environment.unlink()
    assert "5 rows" in lived.ok("audit", "verify").out


class Screen(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_whoever_waits_at_a_terminal_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "BAR_AFTER_SECONDS", 0)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stderr", screen)
    with audit._Bar(shown=True) as bar:
        bar.told(300, 1000)
    screen.flush()
    assert "30%" in screen.buffer.getvalue().decode()


def test_nobody_else_sees_a_bar(lived: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "BAR_AFTER_SECONDS", 0)
    monkeypatch.setattr("config_daemon.store.chain_walk._TOLD_EVERY", 1)
    monkeypatch.setattr("rich.progress.Progress", None)
    lived.ok("audit", "verify")
