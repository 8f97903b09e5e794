"""`dev`: broker, daemon and a demo worker on this machine, for newcomers.

Laws: loopback only; every child ends with this process; secrets reach children through their
environment; Ctrl-C ends all and is no error; somebody else's broker may come and go, and it is said
when nothing reaches it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from config_daemon.cli import private_broker
from config_daemon.cli.init import make
from config_daemon.cli.keyrings_held import anchor
from config_daemon.cli.session import DEV_LOG, Session, standard
from config_daemon.cli.worker_add import expect
from config_daemon.errors import BrokerUnavailable, SettingsError, StoreError, StoreUnavailable, UsageError
from config_daemon.store.files import PRIVATE_MODE, replace
from config_daemon.store.keyrings import KeyringFiles
from config_daemon.wire.address import BrokerAddress
from config_daemon.wire.keys import public_key_pem
from config_daemon.worker.identity import own_keys

OWN_WORKER_ENV = "worker.env"
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
    if session.daemon_alive:
        raise StoreUnavailable(
            f"a daemon runs on {session.folder} already",
            suggestion="Use it as it is, stop it first, or choose another folder with --data.",
        )
    if ready_file and not Path(ready_file).absolute().parent.is_dir():
        raise UsageError(
            f"--ready-file {ready_file}: there is no folder {Path(ready_file).absolute().parent}",
            suggestion="Make it first, or name a file elsewhere.",
        )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with contextlib.ExitStack() as everything:
        folder = session.ground.files.folder
        serving = (
            private_broker.external(broker)
            if broker
            else private_broker.start(folder / "broker", session.ground.settings.topic_prefix)
        )
        everything.enter_context(serving)
        if serving.warning:
            session.say(f"note: {serving.warning}")
        log = folder / DEV_LOG
        daemon = _start(everything, [sys.executable, "-m", "config_daemon.cli.main", "run", "--data", str(folder)],
                        {"MQTT_URL": serving.url("daemon")}, log)  # fmt: skip
        ours = serving.kind != "external"
        trouble = _wait_until_settled(session, daemon, log, stopping, needs_broker=ours)
        if stopping.is_set():
            return 0
        ready = _describe(session, serving)
        here = folder / "dev.json"
        replace(here, json.dumps(ready).encode(), PRIVATE_MODE)
        everything.callback(here.unlink, missing_ok=True)
        own = folder / OWN_WORKER_ENV
        replace(own, _for_a_worker(session, serving).encode(), PRIVATE_MODE)
        everything.callback(own.unlink, missing_ok=True)
        worker = None if no_worker else _start_worker(everything, session, serving)
        _tell(session, ready, made, serving.kind, trouble, with_worker=worker is not None)
        parts = {"the daemon": _lives(daemon), "the demo worker": _lives(worker)}
        if ours:
            parts["the broker"] = serving.alive

        def at_last() -> None:
            if ready_file:
                replace(Path(ready_file).absolute(), json.dumps(ready).encode(), PRIVATE_MODE)
            if trouble:
                session.say(f"the broker at {_host(ready)} answers now")

        return _stay(session, stopping, parts, lambda: _answers(session, daemon), at_last)


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
    state = session.folder / "demo-worker"
    try:
        expect(session, own_keys(state, "demo").public, ["stt-worker"], True, "the demo worker of `dev`")
    except StoreError as error:
        session.say(f"note: what the demo worker says does not count: {error.message}")
    environment = {
        "DEMO_MQTT_URL": serving.url("worker"),
        "CONFIG_SIGNATURE_PUBLIC_KEY": _anchor(session),
        "DEMO_STATE": str(state),
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


def _wait_until_settled(
    session: Session, daemon: subprocess.Popen[Any], log: Path, stopping: threading.Event, needs_broker: bool
) -> str | None:
    """Wait until the daemon has spoken through the broker; return why it cannot yet, when it may go without.

    Raises: SettingsError when the daemon ends; BrokerUnavailable when it needs a broker and reaches none.
    """
    until = time.monotonic() + READY_SECONDS
    while not stopping.is_set() and not _answers(session, daemon):
        if daemon.poll() is not None:
            said, *mend = _tail(log)
            raise SettingsError(
                f"the daemon ended at once: {said}", suggestion=" ".join([*mend, f"See {log}."])
            )
        trouble = None if needs_broker else _broker_trouble(session, daemon)
        if trouble is not None:
            return trouble
        if time.monotonic() > until:
            late = f"the daemon reached no broker within {READY_SECONDS:.0f} s"
            if not needs_broker:
                return late
            raise BrokerUnavailable(late, suggestion=f"See {log}.")
        stopping.wait(0.02)
    return None


def _answers(session: Session, daemon: subprocess.Popen[Any]) -> bool:
    """Tell whether this daemon has reached its broker."""
    facts = session.view.daemon()
    return facts.get("pid") == daemon.pid and bool((facts.get("health") or {}).get("sequence"))


def _broker_trouble(session: Session, daemon: subprocess.Popen[Any]) -> str | None:
    """Return what this daemon says is wrong with its broker."""
    if session.view.daemon().get("pid") != daemon.pid:
        return None
    found = (detail for name, _, _, _, detail, _ in session.view.conditions() if name.startswith("broker-"))
    return next(found, None)


def _tail(log: Path) -> list[str]:
    """Return the last error in a log with what stands below it, else the last line."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    last = [line.strip().removeprefix("error: ") for line in lines[errors[-1] if errors else -1 :]]
    return last or ["it said nothing"]


def _describe(session: Session, serving: private_broker.PrivateBroker) -> dict[str, Any]:
    return {
        "mqtt_url": serving.url("reader"),
        "public_key": _anchor(session),
        "data": str(session.folder),
        "api_url": None,
        "token": None,
    }


def _for_a_worker(session: Session, serving: private_broker.PrivateBroker) -> str:
    """Return what a shell reads for a worker of the user's own; the names are those that the examples read."""
    settings = {
        "MQTT_URL": serving.url("worker"),
        "CONFIG_SIGNATURE_PUBLIC_KEY": _anchor(session).strip(),
    }
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())


def _anchor(session: Session) -> str:
    """Return what `keys public` prints: after a split root the key in `.env` is none that a worker can begin with."""
    return public_key_pem(anchor(KeyringFiles(session.files), session.ground.keys))


def _host(ready: dict[str, Any]) -> str:
    """Return where the broker is, without anybody's password."""
    return str(BrokerAddress.parse(ready["mqtt_url"]))


def _tell(
    session: Session,
    ready: dict[str, Any],
    made: list[str],
    kind: str,
    trouble: str | None,
    with_worker: bool,
) -> None:
    data = f"data {ready['data']}{' (new)' if made else ''}"
    here = session.folder == Path(".config-daemon").absolute()
    option = "" if here else f" --data {session.folder}"
    lines = [f"config-daemon runs: {data}, {kind} broker at {_host(ready)}"]
    if trouble:
        lines = [
            f"config-daemon waits for its broker: {trouble}",
            f"the daemon keeps trying, and publishes as soon as the broker answers; {data}",
        ]
    if with_worker:
        lines.append("what the demo worker (service stt-worker) does with each config appears below")
    lines += [
        "Ctrl-C ends everything; try in a second terminal" + (", in this folder:" if here else ":"),
        f"  config-daemon set stt-worker vad_threshold=0.6{option}",
        f"  config-daemon get stt-worker --source{option}",
        f"  config-daemon watch{option}",
        f"a worker of your own finds broker and key in {Path(ready['data']) / OWN_WORKER_ENV}",
    ]
    session.say("\n".join(lines))


def _stay(
    session: Session,
    stopping: threading.Event,
    parts: dict[str, Any],
    answers: Callable[[], bool],
    at_last: Callable[[], None],
) -> int:
    """Stay until asked to stop, or until a part ends by itself, which is an error; tell when the broker answers."""
    awaited = True
    while not stopping.is_set():
        if awaited and answers():
            awaited = False
            at_last()
        stopping.wait(0.25)
        gone = [name for name, lives in parts.items() if not lives()]
        if gone:
            session.say(f"{gone[0]} ended by itself; see the logs in {session.folder}")
            return 1
    return 0
