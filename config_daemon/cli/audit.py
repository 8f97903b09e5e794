"""`audit`: tell whether the history and the access log are as they were written."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.printing import visible
from config_daemon.cli.session import Session, standard
from config_daemon.cli.words import counted
from config_daemon.errors import ConfigDaemonError, ErrorContext, UsageError

if TYPE_CHECKING:
    from config_daemon.store.chain_walk import Break, Checked

BAR_AFTER_SECONDS = 0.7
TOLD_BREAKS = 10  # beside the first one of each table; the others are counted
_HEAD = re.compile(r"[0-9a-fA-F]{64}")
_NOTICE = (
    "note: a removed end, or a chain that was written anew from some row on, shows only against a head that was"
    " noted before: `config-daemon audit verify --head HEX`"
)
_REMEDY = (
    "Keep a copy of the database, find out who wrote to the file, and compare it with a backup; the configs have seals"
    " of their own. Then `config-daemon adopt --db` begins new chains, and what is broken so far is only noted."
)
_REWRITTEN = (
    "Make sure that the head is one of this data folder. Then keep a copy of the database, and compare it with a"
    " backup that has this head."
)


class AuditFailed(ConfigDaemonError):
    """The history or the access log is not as it was written."""

    code = "AUDIT_FAILED"
    suggestion = _REMEDY


@click.group()
@standard
def command() -> None:
    """Check the history and the access log: in each, every row commits to all rows before it.

    \b
    config-daemon audit verify
    """


@command.command(short_help="Tell whether history and access log are as they were written.")
@click.option(
    "--head",
    metavar="HEX",
    help="A head that was noted before: it must still be there, and all after it fit.",
)
@standard
@click.pass_obj
def verify(session: Session, head: str | None) -> None:
    """Check both chains from their first row to their last: exit 0 when all fits, 1 when not.

    The heads that it prints are worth noting elsewhere. Whoever can write the database can also write a whole
    chain anew, and then only a head that was noted before tells.

    \b
    config-daemon audit verify
    config-daemon audit verify --head 5fba224069c132e9467b08b452f8061bb13a69334a7a0e1e5149309f7411cd19
    """
    from config_daemon.store import chain_walk

    if head is not None and not _HEAD.fullmatch(head):
        raise UsageError(
            "--head is not 64 hex digits", suggestion="Copy a head as `audit verify` or a beacon shows it."
        )
    wanted = head.lower() if head else None
    with _Bar(shown=not session.as_json and sys.stderr is not None and sys.stderr.isatty()) as bar:
        tables = chain_walk.verify(session.database, wanted, bar.told)
    problems = [_broken(table, breaks) for table in tables if (breaks := _counting(table))]
    if wanted is not None and all(table.wanted is None for table in tables):
        problems.append(_rewritten(wanted, tables))
    if problems:
        single = problems[0].message if len(problems) == 1 else "the audit trail is not as it was written"
        raise AuditFailed(single, contexts=problems)
    session.show(
        {"history": _facts(tables[0], wanted), "access": _facts(tables[1], wanted)},
        lambda: "\n".join(line for table in tables for line in _lines(table)),
    )
    for table in tables:
        if table.forgiven:
            session.say(f"note: {_what(table, table.forgiven)}; that was so when the present chain was begun")
    if wanted is None:
        session.say(_NOTICE)


def _counting(table: Checked) -> tuple[Break, ...]:
    """Return the breaks that count: those of the present chain, and whatever came after a head that was noted."""
    if table.wanted is None:
        return table.breaks
    return (*(each for each in table.forgiven if each.place > table.wanted), *table.breaks)


def _broken(table: Checked, breaks: tuple[Break, ...]) -> ErrorContext:
    return ErrorContext(
        "audit",
        "CHAIN_BROKEN",
        f"{_what(table, breaks)}: rows there or right before it were altered, removed or put in by another program",
        _REMEDY,
        f"{table.table} row {breaks[0].row}",
    )


def _what(table: Checked, breaks: tuple[Break, ...]) -> str:
    """Return what does not fit: the first row with its own words, and the numbers of others."""
    each, others = breaks[0], [str(other.row) for other in breaks[1 : TOLD_BREAKS + 1]]
    who = f"row {each.row} of {table.table} (it says {_said(each.at)}, {_said(each.by)})"
    what = "cannot have been the first" if each.before is None else f"does not follow from row {each.before}"
    more = f" and {len(breaks) - 1 - len(others)} more" if len(breaks) - 1 > len(others) else ""
    return f"{who} {what}" + (f", nor do {', '.join(others)}{more} from theirs" if others else "")


def _said(text: str | None) -> str:
    return visible(text[:100]) if text else "nothing"


def _rewritten(head: str, tables: tuple[Checked, ...]) -> ErrorContext:
    message = f"neither table has the head {head}: the history was rewritten since, or its end was removed"
    for table in tables:
        if table.given_up is not None:
            begun = table.given_up
            message = (
                f"{table.table} had the head {head} until {_said(begun.at)}; then {_said(begun.by)} adopted a database"
                f" without the rows that lead to it (row {begun.row} says so)"
            )
    return ErrorContext("audit", "HEAD_UNKNOWN", message, _REWRITTEN, "--head")


def _facts(table: Checked, wanted: str | None) -> dict[str, Any]:
    count, head = table.head
    begun = None if table.begun is None else {
        "row": table.begun.row, "at": table.begun.at, "by": table.begun.by,
        "left": list(table.begun.left), "known": table.begun.known and list(table.begun.known),
    }  # fmt: skip
    facts = {"table": table.table, "count": count, "head": head, "rows": table.rows, "begun": begun,
             "forgiven": [each.row for each in table.forgiven]}  # fmt: skip
    if wanted is not None:
        facts["rows_after_head"] = None if table.wanted is None else table.rows - table.wanted
    return facts


def _lines(table: Checked) -> list[str]:
    count, head = table.head
    lines = [f"{table.table}: {counted(count, 'row')}, all as written; head {head}" if count
             else f"{table.table}: empty"]  # fmt: skip
    if table.begun is not None:
        begun = table.begun
        lines.append(
            f"  begun anew at row {begun.row}, {_said(begun.at)}, by {_said(begun.by)}; before that"
            f" {counted(begun.left[0], 'row')}, head {begun.left[1]}"
        )
        lines.append(
            "  that is what a rebuild, a restore or an adoption does, and no sign that anything was altered"
        )
        if begun.known:
            lines.append(
                f"  the daemon knew {counted(begun.known[0], 'row')} before, head {begun.known[1]}:"
                " look for them in the newest folder in quarantine/"
            )
    if table.wanted is not None:
        lines.append(f"  that head is in it; {counted(table.rows - table.wanted, 'row')} came after")
    return lines


class _Bar:
    """A progress bar on stderr for whoever waits long enough to wonder."""

    def __init__(self, shown: bool) -> None:
        self._from = time.monotonic() + BAR_AFTER_SECONDS if shown else float("inf")
        self._bar: Any = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def told(self, done: int, total: int) -> None:
        if self._bar is None and time.monotonic() >= self._from:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.add_task("rows", total=total)
            self._bar.start()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
