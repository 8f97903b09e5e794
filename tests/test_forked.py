"""A program that is forked cannot tell that from a start by `python -m`, and neither can whoever waits for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.forked import Forked, run, start

FACTS = """
import json, os, signal, sys, threading
facts = {
    "argv": sys.argv[1:], "variables": sorted(os.environ), "value": os.environ["GIVEN"], "folder": os.getcwd(),
    "read": sys.stdin.read(), "leads": os.getsid(0) == os.getpid(), "threads": threading.active_count(),
    "open": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:3],
    "streams": [
        [one.isatty(), one.encoding, one.errors, one.line_buffering] for one in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
}
print(json.dumps(facts))
"""
PROGRAM = [sys.executable, "-m", "timeit", "-n1", "-r1"]


def test_a_program_finds_what_it_would_find_in_a_new_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # a fork's lines go out at once in any case
    environment = {**os.environ, "GIVEN": "ä"}
    argv = [*PROGRAM, FACTS]
    new = subprocess.run(
        argv, input="ö\n", env=environment, capture_output=True, text=True, start_new_session=True, check=True
    )
    forked = run(argv, {"GIVEN": "ä"}, "ö\n")
    assert forked.returncode == 0, forked.stderr
    assert json.loads(forked.stdout.splitlines()[0]) == json.loads(new.stdout.splitlines()[0])


def test_how_it_ended_is_known_to_everybody_who_waits() -> None:
    assert run([*PROGRAM, "raise RuntimeError"]).returncode == 1
    assert "RuntimeError" in run([*PROGRAM, "raise RuntimeError"]).stderr
    reading, writing = os.pipe()
    process = start(
        [*PROGRAM, "import signal; signal.pause()"], dict(os.environ), [reading, writing, writing]
    )
    assert isinstance(process, Forked)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    assert process.poll() is None
    codes: list[int] = []
    waiting = [threading.Thread(target=lambda: codes.append(process.wait(15))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    process.kill()
    for thread in waiting:
        thread.join()
    assert codes == [-signal.SIGKILL] * 3
    assert process.poll() == -signal.SIGKILL
    process.terminate()
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_what_only_a_new_python_reads_gets_one(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos.environ['SEEN'] = 'yes'\n")
    argv = [*PROGRAM, "import os; print(os.environ['SEEN'])"]
    assert run(argv, {"PYTHONPATH": str(tmp_path)}).stdout.startswith("yes\n")
