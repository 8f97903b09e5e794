"""Tables on narrow terminals: they fold or become records, and never lose a word."""

from __future__ import annotations

import json
import os
import pty
import sys

import pytest

from config_daemon.cli.main import main
from config_daemon.cli.tables import table
from tests.cli.conftest import Cli

REASON = "the microphones of the new conference room are much quieter than those of the old one"


def on_terminal(cli: Cli, columns: int, *words: str) -> str:
    """Return what a command prints on a terminal of so many columns."""
    child, ours = pty.fork()
    if not child:
        code: object = 99
        try:
            os.environ.update(COLUMNS=str(columns), NO_COLOR="1")
            with open(1, "w") as sys.stdout, open(os.devnull, "w") as sys.stderr:  # noqa: PTH123 - a descriptor
                main(["--data", str(cli.folder), *words])
        except SystemExit as end:
            code = end.code
        finally:
            os._exit(code if isinstance(code, int) else 98)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says EIO once nobody writes any more
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert os.waitpid(child, 0)[1] == 0
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [100, 60, 40])
def test_a_narrow_terminal_hides_nothing(cli: Cli, columns: int) -> None:
    cli.ok("set", "stt-worker", "vad_threshold=0.6", "whisper_model=small.en", "--reason", REASON)
    wanted = {
        ("history", "stt-worker"): ["version", "cli:", "vad_threshold", "unset → 0.6", *REASON.split()],
        ("settings", "show"): [
            word
            for setting in cli.json("settings", "show")
            for word in [setting["name"], setting["source"], *setting["meaning"].split()]
        ],
        ("search", "model"): ["whisper_model", "stt-worker", "string", '"small.en"'],
        ("services", "--all"): ["stt-worker", "unpublished", "cli:", "no config"],
    }
    for words, told in wanted.items():
        shown = on_terminal(cli, columns, *words)
        missing = [word for word in told if word not in shown]
        assert not missing, (words, missing, shown)


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_lines_stay_within_the_terminal_where_words_allow_it(cli: Cli, columns: int) -> None:
    cli.ok("set", "stt-worker", "vad_threshold=0.6", "whisper_model=small.en", "--reason", REASON)
    for words in (["history", "stt-worker"], ["services"], ["search", "", "--service", "stt-worker"]):
        shown = on_terminal(cli, columns, *words)
        assert max(map(len, shown.splitlines())) <= columns, shown


def test_what_is_no_terminal_gets_one_line_a_row(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "vad_threshold=0.6", "--reason", REASON)
    assert cli.ok("history", "stt-worker").out.count("\n") == 2


HEAD = ("key", "meaning")
ROWS = [("vad_threshold", "how sure the detector must be"), ("channels", "one or two")]


def test_cells_are_folded_between_words() -> None:
    assert table(HEAD, ROWS, columns=30) == (
        "key            meaning\n"
        "vad_threshold  how sure the\n"
        "               detector must\n"
        "               be\n"
        "channels       one or two"
    )


def test_what_no_fold_makes_fit_becomes_records() -> None:
    rows = [*ROWS, ("sample_rate", "")]
    assert table(HEAD, rows, columns=22) == (
        "key      vad_threshold\n"
        "meaning  how sure the\n"
        "         detector must\n"
        "         be\n"
        "\n"
        "key      channels\n"
        "meaning  one or two\n"
        "\n"
        "key      sample_rate"
    )


def test_a_word_longer_than_the_terminal_stays_whole() -> None:
    value = json.dumps("x" * 50)
    assert value in table(("key", "value"), [("whisper_model", value)], columns=20)
