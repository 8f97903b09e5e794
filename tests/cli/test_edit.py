"""The editor: what it gets, what becomes of what it leaves, and that nothing edited is ever lost."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from config_daemon.catalog.registered import shipped
from config_daemon.catalog.services import SHIPPED
from config_daemon.cli import edit
from config_daemon.cli.editing import editable, unfolded
from config_daemon.cli.yaml_reading import load_all
from config_daemon.errors import InvalidConfig
from tests.cli.conftest import Cli, Result, refused

Editor = Callable[[str], Path]


def kept(result: Result) -> Path:
    found = re.search(r"what you edited is kept in (\S+)", result.err)
    assert found, result.err
    return Path(found[1])


def gone(seen: Path) -> bool:
    """Tell that the edited file and its folder were removed."""
    return not Path(seen.with_name("seen.path").read_text().strip()).parent.exists()


@pytest.mark.parametrize("service", sorted(SHIPPED))
def test_what_the_editor_gets_is_what_is_set(service: str) -> None:
    definition = shipped(service)
    example = definition.schema()["examples"][0]
    for values in ({}, example):
        text = editable(definition, values, 3)
        assert unfolded((load_all(text) or [None])[0] or {}) == values
        for field in definition.fields.values():
            assert field.description.split()[0] in text


def test_every_default_line_can_be_uncommented(cli: Cli, editor: Editor) -> None:
    seen = editor("sed -i -E 's/^#(vad_speech_pad_ms|channels|ws_url|whisper_model):/\\1:/' \"$1\"")
    cli.ok("edit", "stt-worker", "--yes")
    assert cli.stored("stt-worker") == {
        "whisper_model": "base.en",
        "ws_url": None,
        "vad_speech_pad_ms": 300,
        "channels": 1,
    }
    assert "#channels: 1" in seen.read_text()
    assert gone(seen)


def test_a_dotted_line_is_a_path(blob: Cli, editor: Editor) -> None:
    editor('echo "free.a.b: 1" >> "$1"')
    blob.ok("edit", "blob", "--yes")
    assert blob.stored("blob") == {"free": {"a": {"b": 1}}}
    with pytest.raises(InvalidConfig):
        unfolded({"a": {"b": 1}, "a.b": 2})


def test_the_difference_is_shown_and_confirmed(cli: Cli, editor: Editor) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    seen = editor('sed -i "s/^channels: 2/channels: 1/" "$1"')
    done = cli("edit", "stt-worker", "--reason", "mono", text="y\n")
    assert done.code == 0
    assert "- channels: 2\n  + channels: 1\nStore this as version 2 of stt-worker? [y/N]" in done.err
    assert cli.json("history", "stt-worker")[0]["reason"] == "mono"
    assert "version 1" in seen.read_text()
    assert gone(seen)


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("", 2)])
def test_without_a_yes_nothing_is_stored_and_the_file_is_kept(
    cli: Cli, editor: Editor, answer: str, code: int
) -> None:
    editor('echo "channels: 2" > "$1"')
    result = cli("edit", "stt-worker", text=answer)
    assert result.code == code
    assert kept(result).read_text() == "channels: 2\n"
    assert kept(result).stat().st_mode & 0o777 == 0o600
    assert kept(result).parent.stat().st_mode & 0o777 == 0o700
    assert cli.json("services") == []


@pytest.mark.parametrize(
    "text", ["channels: 9", "channels: [", "- 1", "chanels: 1", "channels: {{", "---\na: 1\n---\nb: 1"]
)
def test_what_is_not_valid_is_told_and_kept(cli: Cli, editor: Editor, text: str) -> None:
    editor(f"printf '%s' '{text}' > \"$1\"")
    result = cli("edit", "stt-worker", "--yes")
    assert result.code == 1
    assert kept(result).read_text() == text


def test_what_is_not_valid_can_be_edited_again(cli: Cli, editor: Editor) -> None:
    script = (
        'if grep -q "^channels: 9" "$1"; then echo "channels: 2" > "$1"; else echo "channels: 9" > "$1"; fi'
    )
    seen = editor(script)
    result = cli("edit", "stt-worker", text="y\ny\n", terminal=True)
    assert result.code == 0
    assert "channels must be a whole number from 1 to 2" in result.err
    assert "Edit it again? [y/N]" in result.err
    assert cli.stored("stt-worker") == {"channels": 2}
    assert gone(seen)
    cli.ok("delete", "stt-worker", "--yes")
    refused = cli("edit", "stt-worker", text="n\n", terminal=True)
    assert (refused.code, kept(refused).read_text()) == (1, "channels: 9\n")


def test_an_edit_without_a_change_stores_nothing(cli: Cli, editor: Editor) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    seen = editor("true")
    assert "nothing was edited" in cli.ok("edit", "stt-worker").err
    assert cli.json("edit", "stt-worker", "--yes")["stored"] is False
    editor('echo "# a remark" >> "$1"')
    assert "already so, at version 1" in cli.ok("edit", "stt-worker").out
    assert gone(seen)


def test_an_emptied_file_unsets_everything(cli: Cli, editor: Editor) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    editor(': > "$1"')
    cli.ok("edit", "stt-worker", "--yes")
    assert cli.stored("stt-worker") == {}


def test_somebody_elses_change_meanwhile_is_a_conflict_and_loses_nothing(cli: Cli, editor: Editor) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    editor('echo "vad_threshold: 0.9" >> "$1"')
    original = edit._run_editor

    def edited_by_two(path: Path) -> None:
        original(path)
        cli.ok("set", "stt-worker", "channels=1")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edit, "_run_editor", edited_by_two)
        result = cli("edit", "stt-worker", "--yes")
    assert result.code == 3
    assert "vad_threshold: 0.9" in kept(result).read_text()
    assert cli.stored("stt-worker") == {"channels": 1}


def test_a_failed_or_missing_editor_stores_nothing(
    cli: Cli, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = editor("exit 3")
    assert cli("edit", "stt-worker").code == 1
    assert gone(seen)
    editor('echo "channels: 2" > "$1"; exit 3')
    failed = cli("edit", "stt-worker")
    assert (failed.code, kept(failed).read_text()) == (1, "channels: 2\n")
    monkeypatch.setenv("VISUAL", "/nowhere/editor --wait")
    missing = cli("edit", "stt-worker")
    assert (missing.code, "/nowhere/editor" in missing.err) == (2, True)
    monkeypatch.setenv("VISUAL", "'unbalanced")
    assert cli("edit", "stt-worker").code == 2


def test_ctrl_c_in_the_editor_keeps_what_was_edited(cli: Cli, editor: Editor) -> None:
    editor('echo "channels: 2" > "$1"; kill -INT $$')
    before = signal.getsignal(signal.SIGINT)
    result = cli("edit", "stt-worker")
    assert (result.code, kept(result).read_text()) == (130, "channels: 2\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_with_json_nobody_is_asked(cli: Cli, editor: Editor) -> None:
    seen = editor('echo "channels: 2" > "$1"')
    assert cli("edit", "stt-worker", "--json").code == 2
    assert not seen.exists()
    assert cli.json("edit", "stt-worker", "--yes")["config_version"] == 1


def test_without_terminal_and_editor_no_screen_is_drawn_into_a_pipe(cli: Cli) -> None:
    refused(cli("edit", "stt-worker"), 2, "there is no terminal to edit in", "EDITOR")
