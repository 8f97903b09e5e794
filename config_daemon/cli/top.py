"""`top`: health, services and workers in one screen, live.

Laws: it only reads what the daemon left in status.db; it fits into what the terminal shows, the gravest first; what
is no terminal gets one snapshot.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.printing import visible
from config_daemon.cli.session import Session, standard
from config_daemon.cli.words import counted

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESH_SECONDS = 1.0
KEY_SECONDS = 0.1
_FRAME_LINES, _LEAST_ROWS = 8, 3  # what stands around the two tables; rows that each of them has at least
_NARROW = 72  # columns, below which only these are shown:
_ESSENTIAL = ("service", "worker", "state", "health", "why")
_COLOURS = {
    "healthy": "green", "applied": "green", "confirmed": "green", "pending": "yellow", "in-flight": "yellow",
    "starting": "yellow", "offline": "dim", "unverified": "dim", "deleted": "dim", "stopped": "dim",
}  # fmt: skip
_ORDER = (
    "rejected",
    "rolled-back",
    "row-altered",
    "stale",
    "silent",
    "pending",
    "offline",
    "unknown",
    "applied",
    "unverified",
)


@click.command()
@standard
@click.pass_obj
def command(session: Session) -> None:
    """Show health, services and workers, anew every second; q or Ctrl-C ends.

    Without a terminal, or with --json, it shows once what is true now.

    \b
    config-daemon top
    config-daemon top --json
    """
    session.need_folder()
    if session.as_json or sys.stdout is None or not sys.stdout.isatty():
        facts = gather(session)
        session.show(facts, lambda: _plain(facts))
        return
    _live(session)


def gather(session: Session) -> dict[str, Any]:
    """Return everything that is shown."""
    from config_daemon.cli.edge_told import summary, vital_words
    from config_daemon.cli.status import look
    from config_daemon.cli.worker_list import listed
    from config_daemon.errors import ConfigDaemonError

    word, alive, facts, conditions = look(session)
    bodies, vitals = session.edge.convergence() if alive else {}, session.edge.vitals() if alive else {}
    words = vital_words(vitals)
    services = [
        {
            "service": row.service, "config_version": row.config_version, "state": row.state,
            "applied": bodies[row.service]["applied"] if row.service in bodies else None,
            "total": bodies[row.service]["total"] if row.service in bodies else None,
            "workers": summary(bodies[row.service]) if row.service in bodies else "",
            "health": words.get(row.service, ""),
        }
        for row in (session.view.services() if alive else ())
    ]  # fmt: skip
    try:
        workers = listed(session)
    except ConfigDaemonError:  # the store cannot be read: what the daemon says is shown all the same
        workers = []
    workers.sort(key=lambda one: (_ORDER.index(one["state"]) if one["state"] in _ORDER else 0, one["worker"]))
    return {
        "status": word, "running": alive, "mode": facts.get("mode"), "database_status": facts.get("database_status"),
        "broker": facts.get("broker"), "event": facts.get("event"), "written_at": facts.get("written_at"),
        "conditions": conditions, "services": services, "workers": workers,
    }  # fmt: skip


def _headline(facts: dict[str, Any]) -> str:
    if not facts["running"]:
        return f"{facts['status']}: no daemon is running"
    troubled, total = len(_troubled(facts)), sum(bool(one["health"]) for one in facts["services"])
    services = f"{troubled} of {counted(total, 'service')} not healthy, " if troubled else ""
    return (
        f"{facts['status']}: {services}database {facts['database_status']}, mode {facts['mode']},"
        f" broker {facts['broker']}"
    )


def _troubled(facts: dict[str, Any]) -> list[str]:
    """Return the services that are unhealthy by their workers, or that none runs any more."""
    from config_daemon.core.convergence import IMPAIRED

    return [one["service"] for one in facts["services"] if one["health"].partition(",")[0] in IMPAIRED]


def _plain(facts: dict[str, Any]) -> str:
    from config_daemon.cli.tables import table

    lines = [_headline(facts), *(_condition(one) for one in facts["conditions"])]
    if facts["services"]:
        lines.append(table(_SERVICES, [_service_row(one) for one in facts["services"]]))
    if facts["workers"]:
        lines.append(table(_WORKERS, [_worker_row(one) for one in facts["workers"]]))
    return "\n".join(lines)


_SERVICES = ("service", "version", "state", "health", "workers")
_WORKERS = ("worker", "service", "state", "runs", "seen", "why")


def _service_row(one: dict[str, Any]) -> tuple[str, ...]:
    return one["service"], str(one["config_version"]), one["state"], one["health"], one["workers"]


def _worker_row(one: dict[str, Any]) -> tuple[str, ...]:
    from config_daemon.cli.edge_told import ago

    why = "; ".join(part for part in (one["why"], " ".join(one["flags"])) if part)
    runs = f"{one['runs'] or '–'}/{one['wanted'] or '–'}"
    return one["worker"], one["service"], one["state"], runs, ago(one["seen_seconds"]), why


def _condition(one: dict[str, Any]) -> str:
    return f"{one['severity']}: {one['name']} ({one['subject']}): {one['detail']}"


def _fitting(facts: dict[str, Any], console: Console) -> RenderableType:
    """Return the page with every word where there is room for that, else cut to the terminal's size."""
    page = _screen(facts, console.width, console.height, is_folded=True)
    if len(console.render_lines(page)) <= console.height:
        return page
    return _screen(facts, console.width, console.height, is_folded=False)


def _screen(facts: dict[str, Any], columns: int, lines: int, is_folded: bool) -> RenderableType:
    """Return the page, each row on a line unless it is folded; a narrow one has fewer columns."""
    from rich.console import Group
    from rich.text import Text

    shown = facts["conditions"][:3]
    room = max(2 * _LEAST_ROWS, lines - _FRAME_LINES - len(shown))
    services, workers = facts["services"], facts["workers"]
    colour = _COLOURS.get(facts["status"], "red")
    colour = "yellow" if colour == "green" and _troubled(facts) else colour
    few = min(len(services), max(_LEAST_ROWS, room - len(workers), room // 3))
    parts: list[RenderableType] = [
        Text(visible(_headline(facts)), f"bold {colour}", no_wrap=not is_folded, overflow="ellipsis"),
        *(Text(f"  {visible(_condition(one))}", no_wrap=not is_folded, overflow="ellipsis") for one in shown),
    ]  # fmt: skip
    if len(facts["conditions"]) > len(shown):
        parts.append(
            Text(f"  and {len(facts['conditions']) - len(shown)} more: `config-daemon status`", style="dim")
        )
    services = sorted(
        services, key=lambda one: (one["health"] in ("", "healthy"), one["state"] == "confirmed")
    )
    parts.append(_table(_SERVICES, [_service_row(one) for one in services], few, columns, is_folded))
    parts.append(
        _table(
            _WORKERS, [_worker_row(one) for one in workers], max(_LEAST_ROWS, room - few), columns, is_folded
        )
    )
    parts.append(Text("q ends", style="dim"))
    return Group(*parts)


def _table(
    head: tuple[str, ...], rows: list[tuple[str, ...]], most: int, columns: int, is_folded: bool
) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    places = [place for place, name in enumerate(head) if columns >= _NARROW or name in _ESSENTIAL]
    coloured = head.index("state")

    made = Table(box=None, padding=(0, 1), expand=True, header_style="bold", pad_edge=False)
    for place in places:
        is_last = place == places[-1]
        made.add_column(head[place], no_wrap=not is_folded, overflow="fold" if is_folded else "ellipsis",
                        ratio=1 if is_last else None, max_width=None if is_last else max(8, columns // 3))  # fmt: skip
    for row in rows[:most]:
        cells = [Text(visible(cell)) for cell in row]
        cells[coloured].stylize(_COLOURS.get(row[coloured], "red"))
        made.add_row(*(cells[place] for place in places))
    if len(rows) > most:
        made.add_row(f"… {len(rows) - most} more", style="dim")
    return made


def _live(session: Session) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_fitting(gather(session), console), refresh=True)
            until = time.monotonic() + REFRESH_SECONDS
            while time.monotonic() < until:
                if pressed(KEY_SECONDS) in ("q", "Q", "\x03", "\x04"):
                    return


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Give what returns the key that was pressed within some seconds, empty for none."""
    import os
    import select

    if sys.stdin is None or not sys.stdin.isatty():

        def nothing(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield nothing
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)

        def pressed(seconds: float) -> str:
            ready, _, _ = select.select((number,), (), (), seconds)
            return os.read(number, 1).decode(errors="replace") if ready else ""

        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
