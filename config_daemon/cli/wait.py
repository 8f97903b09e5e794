"""`wait`: until every expected worker of a service runs a version.

Laws: only what workers signed counts, while it is fresh and the broker has not said since that they left; nobody
to wait for is no success unless that is asked for; whoever does not run it is named, with the reason.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from config_daemon.cli.arguments import no_config, service_argument
from config_daemon.cli.session import Session, standard
from config_daemon.cli.words import counted
from config_daemon.errors import ConfigDaemonError, KeyUnavailable, StoreError

if TYPE_CHECKING:
    from config_daemon.store.edgeboard import WorkerView

LOOK_SECONDS = 0.05
SHOWN, NAMED = 20, 3


class NoDaemon(ConfigDaemonError):
    """Nobody hears what workers say."""

    exit_code = 8
    code = "NO_DAEMON"


class NotApplied(ConfigDaemonError):
    """Not everybody runs it."""

    code = "NOT_APPLIED"


class Goal(NamedTuple):
    """What is waited for: that at least so many workers run a version, or took note of the deletion."""

    service: str
    version: int
    is_deleted: bool
    least: int

    @property
    def told(self) -> str:
        """Return the version in words."""
        return f"{self.service} version {self.version}" + (" (deleted)" if self.is_deleted else "")

    def reached(self, total: int) -> str:
        """Return that all are there."""
        if self.is_deleted:
            return f"{self.service} is deleted, at version {self.version}; {counted(total, 'worker')} took note of it"
        return f"{self.told} runs on {counted(total, 'worker')}"

    def missed(self, count: int, total: int) -> str:
        """Return that some are not."""
        some = f"{count} of {counted(total, 'worker')}"
        if self.is_deleted:
            return f"{some} did not take note that {self.service} is deleted, at version {self.version},"
        return f"version {self.version} of {self.service} does not run on {some}"


class Found(NamedTuple):
    """How far a version got: the workers that run it, and the others, each with what is known of it."""

    version: int
    done: tuple[str, ...]
    waiting: Mapping[str, WorkerView | None]
    other_keys: Collection[str] = ()
    altered: Collection[str] = ()

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
                "reason": line.reason if line else None, "runs": runs(line) if line else None,
                "why": self._why(name, line),
            }
            for name, line in self.waiting.items()
        ]  # fmt: skip

    def _why(self, name: str, line: WorkerView | None) -> str:
        from config_daemon.cli.edge_told import why

        if name in self.altered:
            return "its row was altered outside config-daemon, so it may be expected here: add it again"
        if line is None or line.state is None:
            return "the daemon has not heard of it yet"
        return (
            why(line, line.worker in self.other_keys)
            or f"it runs what was published last, and version {self.version} is not published yet"
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

    A worker that the broker says has left does not count, whatever it said before. Of a service that was deleted
    it waits until every worker took note.

    \b
    config-daemon set stt-worker vad_threshold=0.7 && config-daemon wait stt-worker
    config-daemon wait stt-worker --version 8 --timeout 120 --json
    """
    from config_daemon.store.reports import stored_version

    _need_daemon(session)
    if version is None:
        version = stored_version(session.database, service)
    deleted = None if version is not None else _deleted(session, service)
    goal = Goal(service, version or deleted or 1, deleted is not None, least or 0)
    found = look(session, goal)
    if not found.total and least is None:
        raise NotApplied(
            f"no worker is expected to run {service}, so there is nobody to wait for"
            + _strangers(session, service),
            suggestion=f"Add them: `config-daemon worker add NAME --service {service} --keys FILE`."
            " With --min N it waits until so many are.",
        )
    began = time.monotonic()
    with _progress(session, goal) as show:
        is_done, found = _wait(session, goal, began + timeout, show)
    return _end(session, goal, found, is_done, round(time.monotonic() - began, 3))


def _deleted(session: Session, service: str) -> int:
    """Return the version at which a service was deleted. Raises: NotFound when nobody can hear of it (any more)."""
    from config_daemon.cli.shown import deleted
    from config_daemon.store.ports import Tombstone

    told = {row.service: row.config_version for row in session.view.services()}
    with contextlib.suppress(StoreError, KeyUnavailable):
        row = session.reports.row(service)
        if isinstance(row, Tombstone):
            if service not in told:
                raise deleted(service, row.version)
            return row.version
    if service not in told:
        raise no_config(session, service)
    return told[service]


def look(session: Session, goal: Goal) -> Found:
    """Return how far a version of a service got."""
    from config_daemon.cli.edge_told import with_other_keys

    service, version = goal.service, goal.version
    lines = {one.worker: one for one in session.edge.workers(service) if one.expected}
    expected, altered, epoch = _expected(session, service, lines)
    body = session.edge.convergence(service).get(service, {})
    # what was published of another life of the database, as before a restore, is no version of this one
    target = body["config_version"] if body.get("config_epoch") == epoch else 0
    running = {name for name, line in lines.items() if runs_it(line, version, target)} - altered
    waiting = {name: lines.get(name) for name in sorted(expected - running)}
    other_keys = with_other_keys(session.view.conditions()) if waiting else ()
    return Found(version, tuple(sorted(expected & running)), waiting, other_keys, altered)


def runs_it(line: WorkerView, version: int, target: int) -> bool:
    """Tell whether a worker runs the message that counts, and that is of this version or a later one.

    A version that a worker names beside another message proves nothing: another life of the database had one by
    that number, too. One that left runs nothing.
    """
    return line.state == "applied" and not line.has_left and target >= version


def _expected(session: Session, service: str, told: Iterable[str]) -> tuple[set[str], set[str], str]:
    """Return who is expected by the store, which may be ahead of the daemon, whose rows were altered, and the epoch.

    Whoever may not verify rows goes by what the daemon told. Raises: StoreError when nobody can know.
    """
    try:
        reader = session.reader()
    except KeyUnavailable:
        from config_daemon.store.reports import stored_epoch

        return set(told), set(), stored_epoch(session.database)
    try:
        workers, epoch = reader.workers(), reader.facts().epoch
    finally:
        reader.close()
    expected = {row.worker for row in workers.rows.values() if service in row.services}
    return expected | set(workers.altered), set(workers.altered), epoch


def _wait(session: Session, goal: Goal, until: float, show: Callable[[Found], None]) -> tuple[bool, Found]:
    while True:
        is_last = time.monotonic() >= until
        try:
            found = look(session, goal)
        except StoreError:  # it may be back in time
            if is_last:
                raise
        else:
            show(found)
            if not found.waiting and found.total >= goal.least:
                return True, found
            if is_last:
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
def _progress(session: Session, goal: Goal) -> Iterator[Callable[[Found], None]]:
    """Give what shows each look: JSON Lines, a bar on a terminal, or nothing."""
    import sys

    if session.as_json:
        yield _json_lines(session, goal)
        return
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _found: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(goal.told)
        yield lambda found: bar.update(
            task, total=max(found.total, 1), completed=len(found.done), description=goal.told + _whom(found)
        )


def _whom(found: Found) -> str:
    """Return for whom one waits, in a few words."""
    names = list(found.waiting)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f", waits for {', '.join(names[:NAMED])}{more}" if names else ""


def _strangers(session: Session, service: str) -> str:
    """Return who is there without being expected, as a line; empty where nobody is."""
    names = [one.worker for one in session.edge.workers(service) if not one.expected]
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    is_one = len(names) == 1
    return (
        f"\n  {', '.join(names[:NAMED])}{more} {'is' if is_one else 'are'} there and"
        f" {'does' if is_one else 'do'} not count: not expected"
    )


def _json_lines(session: Session, goal: Goal) -> Callable[[Found], None]:
    said: list[Any] = []

    def show(found: Found) -> None:
        waiting = found.told()
        if said[-1:] != [(found.done, waiting)]:
            said[:] = [(found.done, waiting)]
            if waiting:  # the last line is the result
                facts = {
                    "service": goal.service,
                    "version": goal.version,
                    "total": found.total,
                    "applied": len(found.done),
                }
                session.show({**facts, "waiting": waiting}, lambda: None)

    return show


def _end(session: Session, goal: Goal, found: Found, is_done: bool, seconds: float) -> int:
    waiting = found.told()
    data = {
        "service": goal.service, "version": goal.version, "deleted": goal.is_deleted, "total": found.total,
        "applied": len(found.done), "waiting": waiting, "seconds": seconds,
        "result": "applied" if is_done else "timed-out",
    }  # fmt: skip
    if is_done or session.as_json:
        session.show(data, lambda: f"{goal.reached(found.total)} ({seconds:.1f} s)")
        return 0 if is_done else NotApplied.exit_code
    after = f"after {round(seconds, 1):g} s"
    if not waiting:
        raise NotApplied(
            f"{after} {counted(found.total, 'worker')} of at least {goal.least} are expected to run {goal.service}"
            + _strangers(session, goal.service),
            suggestion=f"Add them: `config-daemon worker add NAME --service {goal.service} --keys FILE`.",
        )
    names = "".join(f"\n  {one['worker']}  {one['state']}: {one['why']}" for one in waiting[:SHOWN])
    more = f"\n  and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
    raise NotApplied(
        f"{goal.missed(len(waiting), found.total)} {after}:{names}{more}{_strangers(session, goal.service)}",
        suggestion="`config-daemon worker list` shows all" + _way_back(goal, waiting) + ".",
    )


def _way_back(goal: Goal, waiting: list[dict[str, Any]]) -> str:
    """Return how a change is undone that a worker refused, to what it runs."""
    refused = [one["runs"] for one in waiting if one["state"] in ("rejected", "rolled-back")]
    before = [version for version in refused if version and version < goal.version]
    if not before:
        return ""
    return f"; `config-daemon rollback {goal.service} --to {max(before)}` goes back to what ran before"
