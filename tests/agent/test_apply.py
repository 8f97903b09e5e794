"""A set of files changes as one, with the program's consent, or not at all."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from config_daemon.agent.apply import Applier, Target
from config_daemon.agent.destination import beside
from config_daemon.agent.render import Config
from config_daemon.errors import ApplyFailed, InvalidConfig
from config_daemon.worker.apply import RolledBack
from tests.agent.scene import Scene
from tests.worker.edge import Edge
from tests.worker.full_disk import full_disk
from tests.worker.updates import update


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_config_is_rendered_and_the_program_told_once(scene: Scene) -> None:
    assert scene.apply(x="one")
    assert scene.says() == {"one"}
    assert scene.reloads() == ['{"x":"one"}X=onex:"one"']
    assert scene.left_over() == []


def test_the_same_config_again_touches_nothing_and_tells_nobody(scene: Scene) -> None:
    scene.apply(x="one")
    before = [path.stat() for path in scene.paths]
    assert not scene.apply(2, x="one")
    assert [path.stat().st_ino for path in scene.paths] == [seen.st_ino for seen in before]
    assert len(scene.reloads()) == 1


def test_a_file_that_somebody_changed_or_removed_is_put_right(scene: Scene) -> None:
    scene.apply(x="one")
    scene.paths[1].write_text("X=other\n")
    assert scene.apply(x="one")
    scene.paths[2].unlink()
    assert scene.apply(x="one")
    assert (scene.says(), len(scene.reloads())) == ({"one"}, 3)


def test_a_check_that_fails_leaves_all_as_it_was(scene: Scene) -> None:
    scene.apply(x="one")
    with pytest.raises(ApplyFailed, match="no such option"):
        scene.apply(2, x="unchecked")
    assert (scene.says(), len(scene.reloads()), scene.left_over()) == ({"one"}, 1, [])


def test_the_check_sees_each_new_file_under_its_own_suffix_before_it_counts(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    scene = Scene(tmp_path)
    check = scene.command(
        "check", f'echo "$1 $(cat "$1")" >> {seen}; ls {scene.app}/a.json >> {seen} 2>&1 || true'
    )
    scene.changes = {"targets": (Target("json", scene.paths[0], check=check),), "verify": None}
    scene.apply(x="one")
    told = seen.read_text()
    assert told.startswith(f"{scene.app}/.a.config-agent.json {{")
    assert "No such file" in told


def test_a_check_that_changes_the_file_is_refused(scene: Scene) -> None:
    check = scene.command("check", 'echo "# formatted" >> "$1"')
    scene.changes = {"targets": (Target("json", scene.paths[0], check=check),)}
    with pytest.raises(ApplyFailed, match="was changed while it was checked"):
        scene.apply(x="one")
    assert scene.left_over() == [] and not scene.paths[0].exists()
    scene.paths[0].write_text("before")
    with pytest.raises(ApplyFailed, match="was changed while it was checked"):
        scene.apply(x="one")
    assert scene.paths[0].read_text() == "before", "no file was replaced, so that there is no going back"


def test_what_the_program_does_not_come_up_with_is_put_back_and_said(scene: Scene) -> None:
    scene.apply(x="one")
    with pytest.raises(RolledBack, match="it is down") as told:
        scene.apply(2, x="broken")
    assert told.value.contexts[0].error_code == "COMMAND_FAILED"
    assert scene.says() == {"one"}
    assert scene.reloads() == [
        '{"x":"one"}X=onex:"one"',
        '{"x":"broken"}X=brokenx:"broken"',
        '{"x":"one"}X=onex:"one"',
    ]
    assert scene.left_over() == []


def test_a_file_that_was_not_there_before_is_gone_after_going_back(scene: Scene) -> None:
    scene.apply(x="one")
    scene.paths[1].unlink()
    with pytest.raises(RolledBack):
        scene.apply(2, x="broken")
    assert [path.exists() for path in scene.paths] == [True, False, True]


def test_without_anything_before_there_is_no_going_back_to_it(scene: Scene) -> None:
    with pytest.raises(ApplyFailed, match="it is down"):
        scene.apply(x="broken")
    assert scene.texts() == [None, None, None]
    assert scene.left_over() == []


def test_a_reload_that_works_at_the_second_try_is_a_success(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    scene = Scene(tmp_path)
    scene.changes = {"reload": scene.command("reload", f"echo >> {tries}; test $(wc -l < {tries}) -ge 2")}
    assert scene.apply(x="one")
    assert (len(tries.read_text()), scene.says()) == (2, {"one"})


def test_tries_are_further_and_further_apart_and_end(tmp_path: Path) -> None:
    class Waits(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return False

    waits: list[float | None] = []
    scene = Scene(tmp_path, attempts=4, backoff_seconds=0.5)
    scene.apply(x="one")
    tries = tmp_path / "tries"
    scene.changes["reload"] = scene.command("reload", f"echo >> {tries}; ! grep -q broken {scene.paths[0]}")
    with pytest.raises(RolledBack, match="reload"):
        Applier(scene.plan(), scene.state, Waits()).apply(Config("stt-worker", 2, {"x": "broken"}))
    assert (waits, len(tries.read_text())) == ([0.5, 1.0, 2.0], 4 + 1)


def test_when_going_back_fails_too_that_is_said_and_tried_at_the_next_start(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.apply(x="one")
    down = tmp_path / "down"
    down.touch()
    scene.changes = {"reload": scene.command("reload", f"echo told >> {scene.log}; test ! -e {down}")}
    with pytest.raises(ApplyFailed, match="did not come up with the old ones either") as told:
        scene.apply(2, x="two")
    assert told.value.message.count("exit code 1") == 1, "what was said already is not said again"
    assert told.value.contexts[0].message == told.value.message
    assert scene.says() == {"one"}, "the files at least are those before"
    down.unlink()
    assert scene.applier().settle(), "the program has still to be told"
    assert not scene.applier().settle()
    assert scene.left_over() == []


def test_a_check_that_fails_is_a_refusal_also_where_an_earlier_set_was_half_done(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.apply(x="one")
    down = tmp_path / "down"
    down.touch()
    scene.changes = {"reload": scene.command("reload", f"test ! -e {down}")}
    with pytest.raises(ApplyFailed):
        scene.apply(2, x="two")
    with pytest.raises(ApplyFailed, match="no such option"):
        scene.apply(3, x="unchecked")
    down.unlink()
    with pytest.raises(ApplyFailed, match="no such option"):
        scene.apply(4, x="unchecked")
    assert (scene.says(), scene.left_over()) == ({"one"}, []), "the program was told of the old files now"


@pytest.mark.parametrize("free_bytes", [0, 100], ids=["no file fits", "the journal does not fit"])
def test_a_full_disk_changes_nothing(scene: Scene, free_bytes: int) -> None:
    scene.apply(x="one")
    with full_disk(free_bytes), pytest.raises(ApplyFailed):
        scene.apply(2, x="two")
    assert (scene.says(), len(scene.reloads()), scene.left_over()) == ({"one"}, 1, [])
    assert scene.apply(2, x="two")


def test_values_that_fit_no_file_touch_nothing(scene: Scene) -> None:
    scene.apply(x="one")
    with pytest.raises(InvalidConfig):
        scene.apply(2, x="${HOME}")
    with pytest.raises(InvalidConfig, match="no values"):
        scene.apply(3)
    assert (scene.says(), len(scene.reloads()), scene.left_over()) == ({"one"}, 1, [])


def test_whoever_stops_the_agent_does_not_wait_for_the_next_try(tmp_path: Path) -> None:
    scene = Scene(tmp_path, backoff_seconds=60.0)
    scene.apply(x="one")
    stopping = threading.Event()
    stopping.set()
    began = time.monotonic()
    with pytest.raises(RolledBack):
        Applier(scene.plan(), scene.state, stopping).apply(Config("stt-worker", 2, {"x": "broken"}))
    assert time.monotonic() - began < 10
    assert scene.says() == {"one"}


def test_new_files_are_private_and_those_that_are_there_keep_their_mode(scene: Scene) -> None:
    scene.paths[1].write_text("X=old\n")
    scene.paths[1].chmod(0o644)
    os.umask(os.umask(0o000))
    scene.apply(x="one")
    assert [path.stat().st_mode & 0o777 for path in scene.paths] == [0o600, 0o644, 0o600]


def test_mode_and_owner_are_as_wanted_also_where_only_they_differ(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    group = os.getegid() if os.geteuid() else 7
    scene.changes = {"targets": (Target("json", scene.paths[0], mode=0o640, gid=group),)}
    scene.apply(x="one")
    scene.paths[0].chmod(0o666)
    assert scene.apply(x="one")
    seen = scene.paths[0].stat()
    assert (seen.st_mode & 0o777, seen.st_gid) == (0o640, group)
    assert not scene.apply(x="one")


@pytest.mark.parametrize("what", ["link", "folder", "pipe", "no folder", "large"])
def test_what_is_no_file_of_ours_is_refused(scene: Scene, tmp_path: Path, what: str) -> None:
    path, other = scene.paths[2], tmp_path / "other"
    other.write_text("precious")
    if what == "link":
        path.symlink_to(other)
    elif what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "no folder":
        scene.changes = {"targets": (Target("json", tmp_path / "nowhere" / "x.json"),)}
    else:
        os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 9 << 20)
    with pytest.raises(ApplyFailed) as refused:
        scene.apply(x="one")
    assert refused.value.contexts[0].error_code == "DESTINATION"
    assert other.read_text() == "precious"
    assert not scene.paths[0].exists(), "one file that cannot be is reason enough for none"
    assert scene.left_over() == []


def test_what_somebody_laid_where_new_files_wait_is_not_followed(scene: Scene, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    beside(scene.paths[0]).symlink_to(other)
    scene.apply(x="one")
    assert (other.read_text(), scene.says(), scene.paths[0].is_symlink()) == ("precious", {"one"}, False)


def test_a_reader_never_sees_a_part(scene: Scene) -> None:
    """Hundreds of readings while the file changes: each is one of the two."""
    scene.changes = {"targets": (Target("json", scene.paths[0]),), "reload": None, "verify": None}
    texts = {"x" * 50_000, "y" * 60_000}
    scene.apply(v="x" * 50_000)
    seen: set[str] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(scene.paths[0].read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(40):
        scene.apply(v=sorted(texts)[number % 2])
    stop.set()
    reader.join()
    assert len(seen) <= 2


def test_after_a_way_back_that_failed_the_values_of_before_are_put_into_force_and_not_only_told(
    scene: Scene, tmp_path: Path
) -> None:
    trouble, second = tmp_path / "trouble", scene.paths[1]
    breaks = f"if test -e {trouble}; then rm -rf {second}; mkdir {second}; exit 1; fi"
    scene.changes = {"reload": scene.command("reload", breaks), "verify": None, "attempts": 1}
    edge = Edge(tmp_path / "edge").start()
    edge.on_apply = lambda values: scene.apply(**values)
    assert edge.receive(update(1, {"x": "one"})).state == "applied"
    trouble.touch()
    failed = edge.receive(update(2, {"x": "two"}))
    assert (failed.state, second.is_dir()) == ("rejected", True)
    trouble.unlink()
    assert edge.receive(update(3, {"x": "one"})).reason == "apply-failed", (
        "a folder is in the way, and it is told"
    )
    second.rmdir()
    assert edge.receive(update(4, {"x": "one"})).state == "applied"
    assert scene.says() == {"one"}
