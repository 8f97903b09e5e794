"""`set`: change values of a service."""

from __future__ import annotations

from typing import Any

import click

from config_daemon.cli.arguments import Key, definition_of, service_argument, write_options
from config_daemon.cli.session import Session, standard


@click.command()
@service_argument
@click.argument("assignment", nargs=-1, required=True, metavar="KEY=VALUE...", type=Key("="))
@write_options
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

    A value is read by its field's type: strings letter by letter, everything else as JSON. KEY:=JSON is
    always JSON, KEY=@FILE takes the value from a file (@- from standard input), dots lead into objects.

    \b
    config-daemon set stt-worker vad_threshold=0.6 whisper_model=small.en
    config-daemon set backend-api cors_origins:='["https://app.example.com"]'
    config-daemon set stt-worker channels=2 --expect-version 3 --reason "stereo microphones"
    """
    from config_daemon.cli.assign import assignments
    from config_daemon.cli.changes import commit_one
    from config_daemon.cli.fixed import FixedValues
    from config_daemon.core.paths import put
    from config_daemon.errors import InvalidConfig
    from config_daemon.store.ports import Edit

    values, problems = assignments(definition_of(session, service), assignment)
    FixedValues(session).refuse(service, values)

    def change(stored: dict[str, Any]) -> dict[str, Any]:
        for key, value in values.items():
            put(stored, key, value)
        return stored

    if problems:
        try:  # what is wrong with the other values belongs into the same answer
            session.writer().commit([Edit(service, change, expect_version)], by=session.actor, dry_run=True)
        except InvalidConfig as error:
            problems += error.contexts
        headline = problems[0].message if len(problems) == 1 else f"{len(problems)} values are not valid"
        raise InvalidConfig(f"{headline}; nothing was stored", contexts=problems)
    commit_one(session, service, change, expect_version, reason, dry_run)
