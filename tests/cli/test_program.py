"""The program as a process: streams, signals, argument bytes, several at once, and what it imports."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from config_daemon.cli.main import COMMANDS
from tests.cli.conftest import Cli, Daemon, call

PROGRAM = [sys.executable, "-m", "config_daemon.cli.main"]
ROOT = Path(__file__).parents[2]


def start(cli: Cli, *words: str | bytes, **more: Any) -> subprocess.Popen[str]:
    options: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "cwd": ROOT,
    }
    return subprocess.Popen([*PROGRAM, "--data", str(cli.folder), *words], **{**options, **more})


def finish(process: subprocess.Popen[str], text: str = "") -> tuple[int, str, str]:
    out, err = process.communicate(text, timeout=30)
    return process.returncode, out, err


def test_a_reader_that_has_seen_enough_causes_no_traceback(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    reading, writing = os.pipe()
    os.close(reading)  # as `| head -0` does, and sooner
    for words in (["search", "", "--advanced"], ["services"], ["services", "--json"], ["--help"]):
        code, _, err = finish(start(cli, *words, stdout=writing))
        assert "Traceback" not in err
        assert err == ""
        assert code == 141
    code, _, err = finish(start(cli, "set", "stt-worker", "channels=1", stdout=writing))
    os.close(writing)
    assert (code, "Traceback" in err) == (141, False)
    assert cli.stored("stt-worker") == {"channels": 1}


def test_a_full_disk_behind_stdout_is_told(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    with Path("/dev/full").open("w") as full:
        code, _, err = finish(start(cli, "get", "stt-worker", stdout=full))
    assert code == 1
    assert "the output cannot be written: No space left on device" in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_ctrl_c_at_a_question_is_130_and_changes_nothing(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    process = start(cli, "delete", "stt-worker")
    assert process.stderr is not None
    asked = ""
    while "[y/N] " not in asked:
        asked += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    assert cli.stored("stt-worker") == {"channels": 2}


def test_bytes_that_are_no_utf_8_and_a_poor_terminal_are_no_crash(cli: Cli) -> None:
    code, _, err = finish(start(cli, "set", "stt-worker", b"whisper_model=\xff"))
    assert (code, "lone surrogate" in err) == (1, True)
    poor = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    code, out, _ = finish(
        start(cli, "set", "stt-worker", "whisper_model=é→\U0001f600", env=poor, encoding="latin-1")
    )
    assert (code, 'unset \\u2192 "é\\u2192' in out) == (0, True)
    code, out, _ = finish(start(cli, "get", "stt-worker", "whisper_model", "--json", env=poor))
    assert (code, json.loads(out)["value"]) == (0, "é→\U0001f600")
    assert finish(start(cli, "history", "stt-worker", env=poor, encoding="latin-1"))[0] == 0


def test_colour_only_on_a_terminal_and_not_with_no_color(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        ours, theirs = os.openpty()
        process = start(
            cli,
            "diff",
            "stt-worker",
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **more},
        )
        process.wait(30)
        os.close(theirs)
        shown = os.read(ours, 10_000)
        os.close(ours)
        assert b"channels: 2" in shown
        assert (b"\x1b[" in shown) is coloured
    assert "\x1b" not in cli.ok("diff", "stt-worker").out


def test_a_terminal_is_not_steered_by_what_is_stored(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "whisper_model=\x1b[2J\u202eevil\x9b", "--reason", "\x1b]0;owned\x07")
    for words in (
        ["history", "stt-worker"],
        ["get", "stt-worker"],
        ["diff", "stt-worker"],
        ["search", "model"],
    ):
        shown = cli.ok(*words).out
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown), shown
    assert (
        cli.ok("get", "stt-worker", "whisper_model").out == "\x1b[2J\u202eevil\x9b\n"
    )  # as it is, for programs


def test_of_writers_at_once_everyone_gets_a_version_of_his_own(cli: Cli) -> None:
    keys = [
        "vad_threshold=0.1",
        "vad_speech_pad_ms=1",
        "vad_silence_duration_ms=1",
        "sample_rate=8000",
        "channels=2",
    ]
    done = [finish(each) for each in [start(cli, "set", "stt-worker", key, "--json") for key in keys]]
    assert [code for code, _, _ in done] == [0] * len(keys)
    assert sorted(json.loads(out)["config_version"] for _, out, _ in done) == [1, 2, 3, 4, 5]
    assert len(cli.stored("stt-worker")) == len(keys)


def test_of_writers_that_expect_the_same_version_exactly_one_wins(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    running = [
        start(cli, "set", "stt-worker", f"sample_rate={rate}", "--expect-version", "1")
        for rate in (1, 2, 3, 4)
    ]
    assert sorted(finish(each)[0] for each in running) == [0, 3, 3, 3]
    assert cli.version("stt-worker") == 2


def test_get_beside_a_daemon_imports_nothing_heavy_and_is_quick(cli: Cli, daemon: Daemon) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    daemon.publishes("stt-worker", 1, {"channels": 2})
    code = (
        "import sys\nfrom config_daemon.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--data", str(cli.folder), "get", "stt-worker", "channels"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
    )
    assert done.stdout == "2\n"
    heavy = {
        "pydantic",
        "rich",
        "nacl",
        "cryptography",
        "jsonschema_rs",
        "paho",
        "ruamel",
        "inotify_simple",
        "asyncio",
    }
    assert not heavy & set(done.stderr.split())
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert finish(start(cli, "get", "stt-worker", "channels"))[0] == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.25, "seconds of processor time, whatever else this machine does"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    shown = call([command, "--help"])
    assert shown.code == 0
    assert "Usage: config-daemon" in shown.out
    if command not in ("init", "run", "dev", "status", "watch", "keys", "settings", "lkg"):
        assert re.search(rf"^ +.*config-daemon {command}", shown.out, re.MULTILINE), "an example of a call"


def test_the_manual_has_every_command_and_every_exit_code() -> None:
    manual = (ROOT / "docs" / "cli.md").read_text()
    headings = {
        word for line in re.findall(r"^### (.+)$", manual, re.MULTILINE) for word in re.split(r"[ ,]+", line)
    }
    assert not set(COMMANDS) - headings
    assert all(f"config-daemon {command}" in manual for command in COMMANDS)
    codes = set(re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", manual, re.MULTILINE))))
    assert codes == {"0", "1", "2", "3", "4", "5", "6", "7", "8", "69", "78", "130", "141"}


def test_the_help_names_every_command_once() -> None:
    shown = call(["--help"]).out
    for command, (_, text) in COMMANDS.items():
        assert len(re.findall(rf"^  {command}  +{re.escape(text)}$", shown, re.MULTILINE)) == 1


def complete(cli: Cli, line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what bash would be offered at the end of a line."""
    words = line.split(" ")
    monkeypatch.setenv("_CONFIG_DAEMON_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv("CONFIG_DAEMON_DATA", str(cli.folder))
    result = call([])
    assert result.code == 0
    assert result.err == ""
    return [row.partition(",")[2] for row in result.out.splitlines() if row]


def test_the_shell_completes_commands_services_and_keys(blob: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(blob, "config-daemon un", monkeypatch) == ["unset"]
    assert complete(blob, "config-daemon get st", monkeypatch) == ["stt-worker"]
    assert complete(blob, "config-daemon get stt-worker vad_t", monkeypatch) == ["vad_threshold"]
    assert complete(blob, "config-daemon set blob n", monkeypatch) == ["note="]
    assert complete(blob, "config-daemon set blob note=a ", monkeypatch) == [
        "text=",
        "free=",
        "note=",
    ]  # no secret
    assert complete(blob, "config-daemon search x --service bl", monkeypatch) == ["blob"]
    assert complete(blob, "config-daemon export stt-worker b", monkeypatch) == ["backend-api", "blob"]
    assert complete(blob, "config-daemon get nosuch ", monkeypatch) == []
    (blob.folder / "config-daemon.toml").write_text("nonsense")
    assert complete(blob, "config-daemon get st", monkeypatch) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(cli: Cli, shell: str) -> None:
    script = cli.ok("completion", shell).out
    assert "_CONFIG_DAEMON_COMPLETE" in script
    assert cli.json("completion", shell)["script"] in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=10)
    assert cli("completion", "tcsh").code == 2


def test_the_slowest_question_over_many_keys_is_answered_in_time(cli: Cli) -> None:
    """Seed 004: a search over 100 keys within 300 ms, a history of many changes within a second."""
    cli.ok("search", "x")  # definitions are loaded once
    begun = time.process_time()
    assert len(cli.json("search", "", "--advanced")) > 100
    assert time.process_time() - begun < 0.3
