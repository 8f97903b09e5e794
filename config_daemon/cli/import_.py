"""`import`: read back what `export` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from config_daemon.cli.arguments import write_options
from config_daemon.cli.session import Session, standard

if TYPE_CHECKING:
    from config_daemon.cli.documents import Document


@click.command(name="import")
@click.argument("file", type=click.Path(allow_dash=True, readable=False))
@click.option(
    "--format", "kind", type=click.Choice(["json", "yaml", "env"]), help="What the file is, if its name does not tell."
)  # fmt: skip
@write_options
@standard
@click.pass_obj
def command(
    session: Session,
    file: str,
    kind: str | None,
    expect_version: int | None,
    reason: str | None,
    dry_run: bool,
) -> None:
    """Replace the set values of every service that a file names; all of them or none.

    Reads what `export` writes. Every named service gets exactly the file's values: what the file does
    not set is unset. Versions in the file are for people; an import makes new versions.

    \b
    config-daemon import fleet.json --dry-run
    config-daemon import settings.env --reason "moved from the old host"
    config-daemon export --data /old --format yaml | config-daemon import - --format yaml
    """
    from config_daemon.cli.documents import format_of, read_documents
    from config_daemon.cli.replacing import replace_services

    env = (kind or format_of(file)) == "env"
    documents = _from_env(session, file) if env else read_documents([file], kind)
    replace_services(session, documents, expect_version, reason, dry_run)


def _from_env(session: Session, file: str) -> list[Document]:
    from pathlib import Path

    from config_daemon.cli.documents import read_text
    from config_daemon.cli.env_text import documents_from
    from config_daemon.cli.words import counted
    from config_daemon.errors import InvalidConfig, SettingsError
    from config_daemon.store import dotenv

    text, path = read_text(file, dotenv.MAX_BYTES), Path("standard input" if file == "-" else file)
    try:
        env = dotenv.parse(text, path)
    except SettingsError as error:  # not our settings: a file that somebody wants to bring in
        raise InvalidConfig(error.message, suggestion=error.suggestion, contexts=error.contexts) from error
    documents, passed_over = documents_from(env, session.catalog)
    if passed_over:
        session.say(f"note: passed over {counted(len(passed_over), 'setting')} of config-daemon itself")
    if not documents:
        raise InvalidConfig(
            f"{env.path} sets no value of a service", suggestion="Names look like STT_WORKER__CHANNELS."
        )
    return documents
