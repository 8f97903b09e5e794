"""What the program tells of itself, line by line."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator

import pytest

from config_daemon import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    logs.configure()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_one_line_of_json_with_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    logs.logger("daemon").info("broker_lost", reason="two\nlines", code=5)
    (line,) = lines(capsys)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "level": "info", "logger": "config_daemon.daemon", "message": "broker_lost", "reason": "two\nlines", "code": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("least", "told"), [("debug", ["a", "b", "c"]), ("info", ["b", "c"]), ("warning", ["c"]), ("error", [])]
)
def test_what_is_below_the_least_level_is_not_told(
    least: str, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(least)
    log = logs.logger("daemon")
    log.debug("a")
    log.info("b")
    log.warning("c")
    assert [line["message"] for line in lines(capsys)] == told


def test_a_log_that_nobody_takes_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(text)

    monkeypatch.setattr(sys, "stderr", Full())
    logs.logger("daemon").warning("mode_changed")


def test_people_get_readable_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    logs.logger("daemon").info("broker_lost", reason="\x1b[31mred")
    assert shown.getvalue().endswith('info    broker_lost reason="\\u001b[31mred"\n')
