"""A worker on `ConfigClient`: its import, its memory, its start without a broker, and its callbacks.

The import is the processor's time for a process that imports the client and ends, against one that does nothing,
in turns; the clock on the wall says how busy the machine was. Memory is resident, of a process that has applied a
config and is connected, against an interpreter that sleeps. The start runs from the making of the process to the
entry of `apply`, with a config of 20 kB in the state folder and nobody at the broker's port; the hand-over from the
call of `run()`. A callback's clock starts before a message is published and stops at the entry of `apply`: the
broker is within.
"""

from __future__ import annotations

import json
import queue
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from bench.figure import Outcome, Scope, below, median, percentile
from config_daemon.cli.private_broker_files import mosquitto_programs
from config_daemon.worker import Change
from tests.broker_conf import Conf
from tests.raw_client import RawClient
from tests.real_broker import LocalBroker
from tests.worker.scene import PUBLIC_KEY, Program, Source

NOWHERE = "mqtt://127.0.0.1:1"
IMPORT = "from config_daemon.worker import ConfigClient; ConfigClient"
SLEEP = "import time; print('{}', flush=True); time.sleep(60)"
CHILD = """
import json, sys, time
from pydantic import BaseModel
from config_daemon.worker import Change, ConfigClient

class Config(BaseModel):
    number: int
    text: str

def apply(change: Change) -> None:
    global at
    at = time.monotonic()

def report(report) -> None:
    if report.state == "applied":  # and kept: who is killed before that begins without it
        print(json.dumps({"at": at, "ran": ran}), flush=True)

client = ConfigClient("stt-worker", worker="bench", broker=sys.argv[1], state=sys.argv[2],
                      public_key=sys.argv[3], model=Config, apply=apply,
                      report=report)
ran = time.monotonic()
client.run()
"""


def measure(scope: Scope) -> Outcome:
    """Measure all of them on one broker."""
    with tempfile.TemporaryDirectory() as folder:
        broker = LocalBroker(mosquitto_programs()[0], Path(folder) / "broker", Conf())
        try:
            with RawClient(broker.url) as client:
                raw = _measure(scope, Path(folder), broker.url, Source(client))
        finally:
            broker.close()
    return Outcome(
        [
            below("a worker's import, processor time", median(raw["import_ms"]), 250.0, 170.0, "{:.0f} ms"),
            below("the same ÷ an empty interpreter", raw["import_ratio"], 20.0, 12.0, "{:.1f}"),
            below("a worker's memory, connected", median(raw["memory_mb"]), 45.0, 35.0, "{:.0f} MB"),
            below("the same ÷ an empty interpreter", raw["memory_ratio"], 5.0, 4.0, "{:.1f}"),
            below(
                "start without a broker: process → `apply`", max(raw["start_ms"]), 1000.0, 500.0, "{:.0f} ms"
            ),
            below("of that, `run()` → `apply`, typed", max(raw["hand_over_ms"]), 50.0, 20.0, "{:.0f} ms"),
            below("publish → `apply`, p99", percentile(raw["callback_ms"], 99), 100.0, 20.0, "{:.1f} ms"),
        ],
        raw,
    )


def _measure(scope: Scope, folder: Path, url: str, source: Source) -> dict[str, Any]:
    raw: dict[str, Any] = {"callback_ms": _callbacks(folder / "callbacks", url, source, scope.of(300, 30))}
    source.config({"number": 0, "text": "x" * 20_000})
    state = folder / "state"
    runs = [(_run("pass"), _run(IMPORT)) for _ in range(2 * scope.repetitions + 1)][1:]
    for place, name in enumerate(("empty", "import")):
        raw[f"{name}_ms"], raw[f"{name}_wall_ms"] = map(list, zip(*(run[place] for run in runs), strict=True))
    raw["memory_mb"] = [_child(CHILD, url, state)[1] for _ in range(scope.repetitions)]
    raw["empty_mb"] = [_child(SLEEP)[1] for _ in range(scope.repetitions)]
    starts = [_child(CHILD, NOWHERE, state)[0] for _ in range(scope.repetitions)]
    raw["start_ms"] = [1000 * (one["at"] - one["began"]) for one in starts]
    raw["hand_over_ms"] = [1000 * (one["at"] - one["ran"]) for one in starts]
    raw["import_ratio"] = median([ours[0] / empty[0] for empty, ours in runs])
    raw["memory_ratio"] = median(raw["memory_mb"]) / median(raw["empty_mb"])
    return raw


def _callbacks(folder: Path, url: str, source: Source, count: int) -> list[float]:
    entered: queue.Queue[tuple[int, float]] = queue.Queue()

    def apply(change: Change) -> None:
        entered.put((change.new["number"], time.monotonic()))

    program, found = Program(folder, url), []
    program.on_apply = apply
    with program:
        for number in range(count):
            began = time.monotonic()
            source.config({"number": number, "text": "x" * 1000})
            while (reached := entered.get(timeout=10))[0] != number:
                pass
            found.append(1000 * (reached[1] - began))
            time.sleep(0.02)
    return found[1:]  # the first one waits for its beacon


def _run(program: str) -> tuple[float, float]:
    """Run a program to its end; return its time on the processor and on the wall, in milliseconds."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return 1000 * seconds, 1000 * (time.monotonic() - began)


def _child(program: str, broker: str = "", state: Path = Path()) -> tuple[dict[str, float], float]:
    """Run a program until it writes a line; return what is in it, and its memory in MB."""
    arguments: Sequence[str] = [sys.executable, "-c", program, broker, str(state), PUBLIC_KEY]
    began = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        memory = psutil.Process(process.pid).memory_info().rss / 1e6
        process.kill()
    return {"began": began, **json.loads(line)}, memory
