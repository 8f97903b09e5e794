"""`edit`: change a service's set values in an editor."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.arguments import (
    definition_of,
    dry_run_option,
    reason_option,
    service_argument,
    yes_option,
)
from config_daemon.cli.session import Session, standard
from config_daemon.errors import ConfigDaemonError, InvalidConfig, NotFound, UsageError

if TYPE_CHECKING:
    from config_daemon.catalog.definition import Definition
    from config_daemon.store.ports import Written

_EDITORS = ("editor", "sensible-editor", "nano", "vi")
MAX_BYTES = 4 << 20


@click.command()
@service_argument
@reason_option
@dry_run_option
@yes_option
@standard
@click.pass_obj
def command(session: Session, service: str, reason: str | None, dry_run: bool, yes: bool) -> None:
    """Change a service's set values in $VISUAL or $EDITOR; the difference is shown before it is stored.

    The file is YAML and tells what every field is for. What is not valid can be edited again; whatever
    happens, the edited file is kept until it is stored, and its path is printed.

    \b
    config-daemon edit stt-worker
    EDITOR="code --wait" config-daemon edit router --reason "new routes"
    """
    if session.as_json and not yes:
        raise UsageError(
            "with --json nobody is asked", suggestion="Add --yes to store what the editor leaves."
        )
    definition = definition_of(session, service)
    editing = _begin(session, definition)
    try:
        _edit_until_stored(session, editing, reason, dry_run, yes)
    except BaseException:
        editing.keep(session)
        raise
    editing.remove()


@dataclass(slots=True)
class _Editing:
    """One edited file, in a folder of its own that only its user may enter."""

    service: str
    version: int
    path: Path
    original: bytes

    @property
    def content(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except OSError:
            return None

    def keep(self, session: Session) -> None:
        """Say where the edited values are, unless nobody has changed them."""
        if self.content in (None, self.original):
            self.remove()
        else:
            click.echo(f"what you edited is kept in {self.path}", err=True)

    def remove(self) -> None:
        shutil.rmtree(self.path.parent, ignore_errors=True)


def _begin(session: Session, definition: Definition) -> _Editing:
    from config_daemon.cli.editing import editable

    try:
        past = session.reports.at_version(definition.service)
        version, values = (0 if past.deleted else past.version), past.values
    except NotFound:
        version, values = 0, {}
    text = editable(definition, values, version).encode()
    path = Path(tempfile.mkdtemp(prefix="config-daemon-")) / f"{definition.service}.yaml"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(text)
    return _Editing(definition.service, version, path, text)


def _edit_until_stored(
    session: Session, editing: _Editing, reason: str | None, dry_run: bool, yes: bool
) -> None:
    from config_daemon.cli.changes import show_written

    while True:
        _run_editor(editing.path)
        if editing.content == editing.original:
            unchanged = {
                "service": editing.service,
                "config_version": editing.version,
                "stored": False,
                "changed": {},
            }
            session.show(unchanged, lambda: None)
            session.say("nothing was edited")
            return
        try:
            values = _values(editing)
            planned = _commit(session, editing, values, reason, dry_run=True)
            break
        except InvalidConfig as error:
            _offer_another_try(session, error)
    if dry_run or not planned[0].stored:
        show_written(session, planned, dry_run)
        return
    _show_difference(session, planned[0])
    session.confirm(f"Store this as version {planned[0].version} of {editing.service}?", yes)
    show_written(session, _commit(session, editing, values, reason, dry_run=False), dry_run=False)


def _commit(
    session: Session, editing: _Editing, values: dict[str, Any], reason: str | None, dry_run: bool
) -> list[Written]:
    from config_daemon.store.ports import Edit

    edit = Edit(editing.service, lambda _stored: values, editing.version)
    return session.writer().commit([edit], by=session.actor, reason=reason, dry_run=dry_run)


def _values(editing: _Editing) -> dict[str, Any]:
    from config_daemon.cli.documents import contents_of, read_text
    from config_daemon.cli.editing import unfolded

    name = str(editing.path)
    contents = contents_of(read_text(name, MAX_BYTES), "yaml", name)
    values = contents[0] if contents else {}
    if len(contents) > 1 or not isinstance(values, dict | None):
        raise InvalidConfig(
            f"{name} does not hold one object of values", suggestion="Write lines `key: value`."
        )
    return unfolded(values or {})


def _show_difference(session: Session, planned: Written) -> None:
    from config_daemon.cli.printing import difference_lines

    session.say("\n".join([planned.service, *difference_lines(planned.changed, err=True)]))


def _offer_another_try(session: Session, error: InvalidConfig) -> None:
    """Return when a person wants to edit again.

    Raises: Declined; the error itself where nobody sits at a terminal.
    """
    from config_daemon.cli.printing import print_error

    if session.as_json or sys.stdin is None or not sys.stdin.isatty():
        raise error
    print_error(error, as_json=False)
    session.confirm("Edit it again?", yes=False)


def _run_editor(path: Path) -> None:
    """Run the editor until it ends.

    Raises: UsageError when there is none; ConfigDaemonError when it failed.
    """
    wanted = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not wanted and (sys.stdin is None or not sys.stdin.isatty()):
        raise UsageError(
            "there is no terminal to edit in",
            suggestion="Run this at a terminal, set EDITOR to a program that needs none, or use set or apply.",
        )
    try:
        argv = shlex.split(wanted) if wanted else [next(filter(shutil.which, _EDITORS), "vi")]
    except ValueError:
        argv = []
    # Ctrl-C belongs to the editor while it runs; a handler of ours, unlike "ignore", is not inherited by it
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.run([*argv, str(path)], check=False).returncode if argv else 127
    except OSError:
        code = 127
    finally:
        signal.signal(signal.SIGINT, before)
    if code == -signal.SIGINT:
        raise KeyboardInterrupt
    if code == 127:
        raise UsageError(
            f"there is no editor {wanted or 'vi'}",
            suggestion="Set EDITOR to a program that edits the file it is given.",
        )
    if code != 0:
        raise ConfigDaemonError(
            f"the editor ended with {code}; nothing was stored",
            suggestion="End the editor normally to store its file.",
        )
