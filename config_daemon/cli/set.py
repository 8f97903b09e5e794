"""`set`: change values of a service."""

from __future__ import annotations

from typing import Any

import click

from config_daemon.cli.assign import assignments
from config_daemon.cli.changes import commit_one, definition_of
from config_daemon.cli.session import Session, standard


@click.command()
@click.argument("service")
@click.argument("assignment", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option(
    "--expect-version",
    type=click.IntRange(min=0),
    metavar="N",
    help="Refuse unless the service is at N (0: new).",
)
@click.option("--reason", metavar="TEXT", help="Why, for the history.")
@click.option("--dry-run", is_flag=True, help="Check everything and show the change, but store nothing.")
@standard
@click.pass_obj
def command(
    session: Session,
    service: str,
    assignment: tuple[str, ...],
    expect_version: int | None,
    reason: str | None,
    dry_run: bool,
) -> None:
    """Change values of a service; a service without a config gets one.

    A value is read by its field's type: strings letter by letter, everything else as JSON.

    \b
    config-daemon set stt-worker vad_threshold=0.6 whisper_model=small.en
    config-daemon set backend-api cors_origins:='["https://app.example.com"]'
    config-daemon set stt-worker channels=2 --expect-version 3 --reason "stereo microphones"
    """
    from config_daemon.core.resolve import put

    values = assignments(definition_of(session, service), assignment)

    def change(stored: dict[str, Any]) -> dict[str, Any]:
        for key, value in values.items():
            put(stored, key, value)
        return stored

    commit_one(session, service, change, expect_version, reason, dry_run)
