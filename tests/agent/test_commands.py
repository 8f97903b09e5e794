"""Commands run without a shell, in bounds, and say why they failed."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from config_daemon.agent.commands import Command
from config_daemon.errors import ApplyFailed


def command(text: str, seconds: float = 10.0) -> Command:
    return Command.parse("reload", text, seconds)


def refusal(text: str, seconds: float = 10.0) -> ApplyFailed:
    with pytest.raises(ApplyFailed) as failed:
        command(text, seconds).run({})
    return failed.value


def gone(pid: int, seconds: float = 5.0) -> bool:
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], seconds)[0])
    finally:
        os.close(watched)


def test_words_are_words_and_nothing_is_expanded(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command(f"/bin/sh -c 'printf %s \"$1\" > {out}' sh '$HOME; `id` * {{}}'").run({}, tmp_path / "a file")
    assert out.read_text() == f"$HOME; `id` * {tmp_path}/a file"


def test_the_environment_is_a_few_names_and_the_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("MQTT_URL", "mqtt://user:secret@host")
    monkeypatch.setenv("LANG", "C.UTF-8")
    command(f"/bin/sh -c 'env > {out}'").run(
        {"CONFIG_SERVICE": "stt-worker", "CONFIG_VERSION": "7"}, Path("/x")
    )
    seen = dict(line.split("=", 1) for line in out.read_text().splitlines())
    assert set(seen) - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        "PATH", "HOME", "LANG", "CONFIG_SERVICE", "CONFIG_VERSION", "CONFIG_FILE",
    }  # fmt: skip
    assert (seen["CONFIG_SERVICE"], seen["CONFIG_VERSION"], seen["CONFIG_FILE"]) == ("stt-worker", "7", "/x")


def test_a_failure_tells_the_exit_code_and_the_end_of_the_output() -> None:
    failed = refusal("/bin/sh -c 'seq 1 100000; printf \"line 3: no such\\033[31m option\" >&2; exit 9'")
    assert "ended with exit code 9" in failed.message
    assert failed.message.endswith("no such?[31m option"), "what could steer a terminal is gone"
    assert len(failed.message) < 500
    assert failed.contexts[0].error_code == "COMMAND_FAILED"
    assert "was ended by SIGKILL" in refusal("/bin/sh -c 'kill -9 $$'").message


def test_a_command_that_is_not_there_is_told() -> None:
    failed = refusal("/nowhere/program")
    assert (failed.contexts[0].error_code, "No such file" in failed.message) == ("COMMAND_NOT_STARTED", True)


def test_after_its_time_it_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    began = time.monotonic()
    text = (
        f"/bin/sh -c 'trap \"\" TERM; sleep 600 & echo $$ $! > {pids}; echo waiting; wait; wait; sleep 600'"
    )
    failed = refusal(text, seconds=0.5)
    assert time.monotonic() - began < 5
    assert "took more than 0.5 s" in failed.message
    assert "waiting" in failed.message
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_a_program_that_it_leaves_running_is_not_waited_for_and_lives_on(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    began = time.monotonic()
    command(f"/bin/sh -c 'sleep 600 & echo $! > {pids}'").run({})
    assert time.monotonic() - began < 5
    pid = int(pids.read_text())
    os.kill(pid, 0)
    os.kill(pid, 9)
    assert gone(pid)


@pytest.mark.parametrize("text", ["", "  ", "echo 'open"])
def test_what_is_no_command_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"no command|quotation"):
        command(text)
