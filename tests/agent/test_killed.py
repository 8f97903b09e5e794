"""Killed at any point, the agent's next start makes the set of files whole again."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from config_daemon.agent.destination import beside
from config_daemon.agent.render import Config
from config_daemon.errors import ApplyFailed
from tests.agent import scene as scenery
from tests.agent.scene import Scene
from tests.forked import run

FORWARD = [
    "agent_staged:kill", "agent_journalled:kill", "agent_amid_placing:kill:1", "agent_amid_placing:kill:2",
    "agent_placed:kill", "agent_reloaded:kill", "agent_verified:kill",
]  # fmt: skip
BACKWARD = [
    "agent_amid_put_back:kill:1",
    "agent_amid_put_back:kill:2",
    "agent_put_back:kill",
    "agent_reloaded:kill:2",
]


def live(folder: Path, values: dict[str, Any], failpoint: str = "") -> str:
    """Live one life; return what it said."""
    argv = [sys.executable, "-m", scenery.__name__, str(folder), json.dumps(values)]
    done = run(argv, {"CONFIG_DAEMON_FAILPOINT": failpoint})
    if failpoint:
        assert (done.returncode, "failpoint reached" in done.stderr) == (-signal.SIGKILL, True), done.stderr
    else:
        assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    scene.apply(x="one")
    return scene


@pytest.mark.parametrize("failpoint", FORWARD)
def test_the_next_start_completes_the_set(scene: Scene, failpoint: str) -> None:
    live(scene.folder, {"x": "two"}, failpoint)
    live(scene.folder, {"x": "two"})
    assert (scene.says(), scene.left_over()) == ({"two"}, [])
    assert scene.reloads()[-1].count("two") == 3, "the program was told of the whole set"


@pytest.mark.parametrize("failpoint", FORWARD)
def test_the_next_start_puts_the_set_back_when_the_old_config_is_the_one_kept(
    scene: Scene, failpoint: str
) -> None:
    live(scene.folder, {"x": "two"}, failpoint)
    live(scene.folder, {"x": "one"})
    assert (scene.says(), scene.left_over()) == ({"one"}, [])
    assert scene.reloads()[-1].count("one") == 3


@pytest.mark.parametrize("failpoint", FORWARD[1:])
def test_the_next_start_puts_the_set_back_when_nothing_is_kept(scene: Scene, failpoint: str) -> None:
    live(scene.folder, {"x": "two"}, failpoint)
    live(scene.folder, {})
    assert (scene.says(), scene.left_over()) == ({"one"}, [])
    assert scene.reloads()[-1].count("one") == 3


@pytest.mark.parametrize("failpoint", BACKWARD)
def test_killed_while_going_back_the_next_start_goes_back(scene: Scene, failpoint: str) -> None:
    live(scene.folder, {"x": "broken"}, failpoint)
    said = live(scene.folder, {"x": "broken"})
    assert said.startswith("RolledBack"), (
        "what it goes back to is what worked, not the half set that it found"
    )
    assert (scene.says(), scene.left_over()) == ({"one"}, [])
    assert scene.reloads()[-1].count("one") == 3


@pytest.mark.parametrize("second", FORWARD)
def test_killed_twice_it_still_knows_what_worked(scene: Scene, second: str) -> None:
    live(scene.folder, {"x": "two"}, "agent_amid_placing:kill:2")
    live(scene.folder, {"x": "three"}, second)
    live(scene.folder, {"x": "broken"})
    assert (scene.says(), scene.left_over()) == ({"one"}, [])


def test_a_half_set_of_files_that_are_rendered_no_more_is_put_back_too(scene: Scene) -> None:
    live(scene.folder, {"x": "two"}, "agent_placed:kill")
    scene.changes = {"targets": scene.plan().targets[:1]}
    scene.apply(x="two")
    assert [text and "two" in text for text in scene.texts()] == [True, False, False]
    assert scene.left_over() == []


def test_what_a_kill_left_unfinished_beside_the_files_is_removed(scene: Scene) -> None:
    for path in (*scene.paths, scene.state / "stt-worker.before"):
        beside(path).write_text("half of")
    live(scene.folder, {"x": "one"})
    assert (scene.says(), scene.left_over(), len(scene.reloads())) == ({"one"}, [], 1)


def test_a_damaged_journal_is_set_aside_and_the_program_told(scene: Scene) -> None:
    live(scene.folder, {"x": "two"}, "agent_amid_placing:kill:2")
    journal = scene.state / "stt-worker.before"
    journal.write_bytes(journal.read_bytes().replace(b"content", b"kontent", 1))
    live(scene.folder, {"x": "two"})
    assert (scene.says(), scene.left_over()) == ({"two"}, ["stt-worker.damaged"])
    assert scene.reloads()[-1].count("two") == 3


def test_a_way_back_that_was_cut_off_is_gone_without_the_program_which_is_remembered(scene: Scene) -> None:
    """Its own reload may be what ended the agent: no broker would be heard as long as it is tried again."""
    live(scene.folder, {"x": "two"}, "agent_placed:kill")
    live(scene.folder, {}, "agent_reloaded:kill")
    reloads = scene.reloads()
    assert scene.applier().settle() == "untold"
    assert (scene.says(), scene.reloads()) == ({"one"}, reloads)
    with pytest.raises(ApplyFailed, match="was not told"):
        scene.applier().apply(Config("stt-worker", 1, {"x": "one"}), is_kept=True)
    assert scene.reloads() == reloads
    assert scene.apply(x="one"), "what comes from the broker is worth a reload"
    assert (scene.says(), scene.left_over(), len(scene.reloads())) == ({"one"}, [], len(reloads) + 1)
    assert not scene.applier().apply(Config("stt-worker", 1, {"x": "one"}), is_kept=True)


def test_a_way_back_that_failed_is_tried_as_a_whole_again(scene: Scene) -> None:
    live(scene.folder, {"x": "two"}, "agent_placed:kill")
    scene.changes = {"verify": scene.command("verify", "exit 1")}
    with pytest.raises(ApplyFailed):
        scene.applier().settle()
    scene.changes = {}
    assert (scene.applier().settle(), scene.left_over()) == ("told", [])
