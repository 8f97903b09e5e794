"""`dev`: broker, daemon and a demo worker on this machine, for newcomers.

Laws: loopback only; every child ends with this process; secrets reach children through their
environment; Ctrl-C ends all and is no error.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click

from config_daemon.cli import private_broker
from config_daemon.cli.init import make
from config_daemon.cli.session import Session, standard
from config_daemon.errors import BrokerUnavailable, SettingsError
from config_daemon.store.files import PRIVATE_MODE, replace
from config_daemon.wire.keys import public_key_pem

READY_SECONDS = 15.0
STOP_SECONDS = 10.0


@click.command()
@click.option("--broker", metavar="URL", help="Use this broker instead of a private one.")
@click.option("--no-ui", is_flag=True, help="Without the web page (there is none yet).")
@click.option("--no-worker", is_flag=True, help="Without the demo worker.")
@click.option("--ready-file", metavar="FILE", help="Write where everything is, as JSON, once it answers.")
@standard
@click.pass_obj
def command(
    session: Session, broker: str | None, no_ui: bool, no_worker: bool, ready_file: str | None
) -> int:
    """Run a private broker, the daemon and a demo worker here, until Ctrl-C.

    Everything listens on loopback only, and everything is one user: the separation of processes
    that production has is not enforced.
    """
    if session.data is None and "CONFIG_DAEMON_DATA" not in os.environ:
        session.data = str(Path(".config-daemon").absolute())
    made = make(session)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with contextlib.ExitStack() as everything:
        folder = session.ground.files.folder
        serving = private_broker.external(broker) if broker else private_broker.start(folder / "broker")
        everything.enter_context(serving)
        if serving.warning:
            session.say(f"note: {serving.warning}")
        daemon = _start(everything, [sys.executable, "-m", "config_daemon.cli.main", "run", "--data", str(folder)],
                        {"MQTT_URL": serving.url("daemon")}, folder / "daemon.log")  # fmt: skip
        _wait_until_ready(session, daemon, folder / "daemon.log", stopping)
        ready = _describe(session, serving)
        here = folder / "dev.json"
        replace(here, json.dumps(ready).encode(), PRIVATE_MODE)
        everything.callback(here.unlink, missing_ok=True)
        worker = None if no_worker else _start_worker(everything, session, serving)
        if ready_file:
            replace(Path(ready_file).absolute(), json.dumps(ready).encode(), PRIVATE_MODE)
        _tell(session, ready, made, serving.kind)
        return _stay(
            session,
            stopping,
            {"the broker": serving.alive, "the daemon": _lives(daemon), "the demo worker": _lives(worker)},
        )


def _start(
    everything: contextlib.ExitStack, argv: list[str], secrets: dict[str, str], log: Path | None
) -> subprocess.Popen[Any]:
    output: Any = everything.enter_context(log.open("ab")) if log else None
    process = subprocess.Popen(
        argv, env={**os.environ, **secrets}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        start_new_session=True, preexec_fn=private_broker.ends_with_parent(),
    )  # fmt: skip
    everything.callback(_end, process)
    return process


def _start_worker(
    everything: contextlib.ExitStack, session: Session, serving: private_broker.PrivateBroker
) -> subprocess.Popen[Any]:
    environment = {
        "DEMO_MQTT_URL": serving.url("worker"),
        "CONFIG_SIGNATURE_PUBLIC_KEY": public_key_pem(session.ground.keys.public_key()),
        "DEMO_STATE": str(session.folder / "demo-worker"),
        "DEMO_TOPIC_PREFIX": session.ground.settings.topic_prefix,
    }
    return _start(everything, [sys.executable, "-m", "config_daemon.cli.demo_worker"], environment, None)


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _lives(process: subprocess.Popen[Any] | None) -> Any:
    return lambda: process is None or process.poll() is None


def _wait_until_ready(
    session: Session, daemon: subprocess.Popen[Any], log: Path, stopping: threading.Event
) -> None:
    """Wait until the daemon has said through the broker that it is well."""
    until = time.monotonic() + READY_SECONDS
    while not stopping.is_set():
        if daemon.poll() is not None:
            raise SettingsError(f"the daemon ended at once: {_tail(log)}", suggestion=f"See {log}.")
        facts = session.view.daemon()
        if facts.get("pid") == daemon.pid and (facts.get("health") or {}).get("sequence"):
            return
        if time.monotonic() > until:
            raise BrokerUnavailable(
                f"the daemon reached no broker within {READY_SECONDS:.0f} s", suggestion=f"See {log}."
            )
        stopping.wait(0.02)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it said nothing"


def _describe(session: Session, serving: private_broker.PrivateBroker) -> dict[str, Any]:
    return {
        "mqtt_url": serving.url("reader"),
        "public_key": public_key_pem(session.ground.keys.public_key()),
        "data": str(session.folder),
        "api_url": None,
        "token": None,
    }


def _tell(session: Session, ready: dict[str, Any], made: list[str], kind: str) -> None:
    host = ready["mqtt_url"].rpartition("@")[2]
    session.say(
        f"config-daemon runs: data {ready['data']}{' (new)' if made else ''}, {kind} broker at {host}\n"
        "what the demo worker (service stt-worker) does with each config appears below; Ctrl-C ends everything\n"
        "try in a second terminal, in this folder:\n"
        "  config-daemon set stt-worker vad_threshold=0.6\n"
        "  config-daemon get stt-worker --source\n"
        "  config-daemon watch"
    )


def _stay(session: Session, stopping: threading.Event, parts: dict[str, Any]) -> int:
    """Stay until asked to stop, or until a part ends by itself, which is an error."""
    while not stopping.wait(0.25):
        gone = [name for name, lives in parts.items() if not lives()]
        if gone:
            session.say(f"{gone[0]} ended by itself; see the logs in {session.folder}")
            return 1
    return 0
