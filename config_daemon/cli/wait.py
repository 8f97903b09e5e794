"""`wait`: until every expected worker of a service runs a version.

Laws: only what workers signed counts, and only while it is fresh; nobody to wait for is no success unless that
is asked for; whoever does not run it is named, with the reason.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from config_daemon.cli.arguments import no_config, service_argument
from config_daemon.cli.session import Session, standard
from config_daemon.cli.words import counted
from config_daemon.errors import ConfigDaemonError, KeyUnavailable, StoreError

if TYPE_CHECKING:
    from config_daemon.store.edgeboard import WorkerView

LOOK_SECONDS = 0.05
SHOWN = 20


class NoDaemon(ConfigDaemonError):
    """Nobody hears what workers say."""

    exit_code = 8
    code = "NO_DAEMON"


class NotApplied(ConfigDaemonError):
    """Not everybody runs it."""

    code = "NOT_APPLIED"


class Found(NamedTuple):
    """How far a version got: the workers that run it, and the others, each with what is known of it."""

    version: int
    done: tuple[str, ...]
    waiting: Mapping[str, WorkerView | None]

    @property
    def total(self) -> int:
        """Return how many are expected."""
        return len(self.done) + len(self.waiting)

    def told(self) -> list[dict[str, Any]]:
        """Return who does not run it and why, as JSON-ready facts."""
        from config_daemon.cli.edge_told import runs

        return [
            {
                "worker": name, "state": (line.state if line else None) or "unknown",
                "reason": line.reason if line else None, "runs": runs(line) if line else None, "why": self._why(line),
            }
            for name, line in self.waiting.items()
        ]  # fmt: skip

    def _why(self, line: WorkerView | None) -> str:
        from config_daemon.cli.edge_told import why

        if line is None or line.state is None:
            return "the daemon has not heard of it yet"
        return (
            why(line) or f"it runs what was published last, and version {self.version} is not published yet"
        )


@click.command()
@service_argument
@click.option(
    "--version",
    type=click.IntRange(min=1),
    metavar="N",
    help="The version, or a later one (else: as stored now).",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, metavar="S", help="Seconds."
)
@click.option(
    "--min",
    "least",
    type=click.IntRange(min=0),
    metavar="N",
    help="Wait for at least so many workers; 0: nobody will do.",
)
@standard
@click.pass_obj
def command(session: Session, service: str, version: int | None, timeout: float, least: int | None) -> int:
    """Wait until every expected worker runs a version of a service: exit 0 then, 1 when the time is over.

    With --json: a line for each change, the last one with the result.

    \b
    config-daemon set stt-worker vad_threshold=0.7 && config-daemon wait stt-worker
    config-daemon wait stt-worker --version 8 --timeout 120 --json
    """
    from config_daemon.store.reports import stored_version

    _need_daemon(session)
    if version is None:
        version = stored_version(session.database, service)
    if version is None and service not in {row.service for row in session.view.services()}:
        raise no_config(session, service)
    wanted = version or 1
    found = look(session, service, wanted)
    if not found.total and least is None:
        raise NotApplied(
            f"no worker is expected to run {service}, so there is nobody to wait for",
            suggestion=f"Add them: `config-daemon worker add NAME --service {service} --keys FILE`."
            " With --min N it waits until so many are.",
        )
    began = time.monotonic()
    with _progress(session, service, wanted) as show:
        is_done = _wait(session, service, wanted, least or 0, began + timeout, show)
    found, seconds = is_done[1], round(time.monotonic() - began, 3)
    return _end(session, service, wanted, least or 0, found, is_done[0], seconds)


def look(session: Session, service: str, version: int) -> Found:
    """Return how far a version of a service got."""
    lines = {one.worker: one for one in session.edge.workers(service) if one.expected}
    names = _expected(session, service)
    target = session.edge.convergence(service).get(service, {}).get("config_version", 0)
    expected = sorted(lines if names is None else names)
    done = tuple(name for name in expected if name in lines and runs_it(lines[name], version, target))
    return Found(version, done, {name: lines.get(name) for name in expected if name not in done})


def runs_it(line: WorkerView, version: int, target: int) -> bool:
    """Tell whether a worker runs a version: by the message that counts, or a later version by its fresh word."""
    from config_daemon.cli.edge_told import runs
    from config_daemon.wire.status import SILENT_SECONDS

    if line.state == "applied":
        return target >= version
    age = line.age_seconds()
    return (runs(line) or 0) > version and age is not None and age <= SILENT_SECONDS


def _expected(session: Session, service: str) -> set[str] | None:
    """Return who is expected by the store, which may be ahead of the daemon; None where it cannot be asked."""
    try:
        reader = session.reader()
        try:
            return {row.worker for row in reader.workers().rows.values() if service in row.services}
        finally:
            reader.close()
    except (StoreError, KeyUnavailable):
        return None


def _wait(
    session: Session, service: str, version: int, least: int, until: float, show: Callable[[Found], None]
) -> tuple[bool, Found]:
    while True:
        found = look(session, service, version)
        show(found)
        if not found.waiting and found.total >= least:
            return True, found
        if time.monotonic() >= until:
            return False, found
        _need_daemon(session)
        time.sleep(LOOK_SECONDS)


def _need_daemon(session: Session) -> None:
    if not session.daemon_alive:
        raise NoDaemon(
            "no daemon is running, so nobody hears what workers run",
            suggestion="Start it, or see `config-daemon status`.",
        )


@contextlib.contextmanager
def _progress(session: Session, service: str, version: int) -> Iterator[Callable[[Found], None]]:
    """Give what shows each look: JSON Lines, a bar on a terminal, or nothing."""
    import sys

    if session.as_json:
        yield _json_lines(session, service, version)
        return
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _found: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{service} version {version}")
        yield lambda found: bar.update(task, total=max(found.total, 1), completed=len(found.done))


def _json_lines(session: Session, service: str, version: int) -> Callable[[Found], None]:
    said: list[Any] = []

    def show(found: Found) -> None:
        waiting = found.told()
        if said[-1:] != [(found.done, waiting)]:
            said[:] = [(found.done, waiting)]
            if waiting:  # the last line is the result
                facts = {
                    "service": service,
                    "version": version,
                    "total": found.total,
                    "applied": len(found.done),
                }
                session.show({**facts, "waiting": waiting}, lambda: None)

    return show


def _end(
    session: Session, service: str, version: int, least: int, found: Found, is_done: bool, seconds: float
) -> int:
    waiting = found.told()
    data = {
        "service": service, "version": version, "total": found.total, "applied": len(found.done), "waiting": waiting,
        "seconds": seconds, "result": "applied" if is_done else "timed-out",
    }  # fmt: skip
    if is_done or session.as_json:
        session.show(
            data,
            lambda: f"{service} version {version} runs on {counted(found.total, 'worker')} ({seconds:.1f} s)",
        )
        return 0 if is_done else NotApplied.exit_code
    if not waiting:
        raise NotApplied(
            f"after {seconds:.0f} s {counted(found.total, 'worker')} of at least {least} are expected to run {service}",
            suggestion=f"Add them: `config-daemon worker add NAME --service {service} --keys FILE`.",
        )
    names = "".join(f"\n  {one['worker']}  {one['state']}: {one['why']}" for one in waiting[:SHOWN])
    more = f"\n  and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
    raise NotApplied(
        f"version {version} of {service} does not run on {len(waiting)} of {counted(found.total, 'worker')}"
        f" after {seconds:.0f} s:{names}{more}",
        suggestion="`config-daemon worker list` shows all; `config-daemon rollback` undoes a change.",
    )
