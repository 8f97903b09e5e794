"""`worker add`: expect a worker, known by its own keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from config_daemon.cli.arguments import Service, reason_option, unknown_service
from config_daemon.cli.printing import quoted
from config_daemon.cli.session import Session, standard
from config_daemon.errors import KeyUnavailable, UsageError

if TYPE_CHECKING:
    from config_daemon.store.ports import WorkerRow
    from config_daemon.store.workers import Outcome
    from config_daemon.wire.workerkeys import PublicKeys

MAX_BYTES = 16 << 10


@click.command(short_help="Expect a worker, known by its own keys.")
@click.argument("name")
@click.option(
    "--service", "services", type=Service(), multiple=True, required=True, metavar="S",
    help="A service that it runs; repeat it for more. These and no others are expected of it.",
)  # fmt: skip
@click.option(
    "--keys", metavar="FILE", required=True,
    help="Its public keys: worker.public.json of its state folder (- for stdin).",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Take these keys in place of the ones that are known.")
@reason_option
@standard
@click.pass_obj
def add(
    session: Session, name: str, services: tuple[str, ...], keys: str, replace: bool, reason: str | None
) -> None:
    """Expect a worker: from then on its statuses count, when they are signed by these keys.

    Compare the fingerprint with the one that the worker's own host shows before you rely on it. The same again
    changes nothing.

    \b
    config-daemon worker add box-7 --service stt-worker --keys box-7.json
    config-daemon worker add box-7 --service stt-worker --keys box-7.json --replace --reason "new SD card"
    """
    check_name(name)
    public = _read(name, keys)
    for service in services:
        if session.catalog.get(service) is None and session.reports.row(service) is None:
            raise unknown_service(session, service)
    outcome, before = expect(session, public, services, replace, reason)
    data = {
        "worker": name, "services": sorted(set(services)), "fingerprint": public.fingerprint,
        "key_id": public.key_id, "outcome": outcome,
    }  # fmt: skip
    session.show(data, lambda: _told(public, sorted(set(services)), outcome, before))


def expect(
    session: Session, public: PublicKeys, services: Sequence[str], replace: bool, reason: str | None
) -> tuple[Outcome, WorkerRow | None]:
    """Write the row. Raises: NotAllowed; StoreError."""
    from config_daemon.store.workers import add as add_row

    writer = session.writer()
    try:
        return writer.change_workers(
            lambda db, deed: add_row(db, deed, public, services, replace), by=session.actor, reason=reason
        )
    finally:
        writer.close()


def check_name(name: str) -> None:
    """Refuse (UsageError) what can be no worker's name."""
    from config_daemon.wire.topics import is_name

    if not is_name(name):
        raise UsageError(
            f"{quoted(name)} is no name of a worker",
            suggestion="Names are lower-case letters, digits and hyphens, begin with a letter, and have at most 64.",
        )


def _read(name: str, file: str) -> PublicKeys:
    """Return the keys in a file, which are this worker's. Raises: KeyUnavailable; UsageError."""
    from config_daemon.cli.documents import read_text
    from config_daemon.wire.workerkeys import PublicKeys

    public = PublicKeys.from_text(read_text(file, MAX_BYTES))
    if public.worker != name:
        raise KeyUnavailable(
            f"these are the keys of {public.worker}, not of {name}",
            suggestion=f"Use the file that {name} wrote, or call the worker {public.worker}.",
        )
    return public


def _told(public: PublicKeys, services: list[str], outcome: Outcome, before: WorkerRow | None) -> str:
    runs = ", ".join(services)
    words = {
        "added": f"{public.worker} is expected now, to run {runs}",
        "unchanged": f"{public.worker} is expected already, to run {runs}; nothing was changed",
        "services": f"{public.worker} is expected to run {runs} from now on"
        + (f", no longer {', '.join(before.services)}" if before else ""),
        "replaced": f"{public.worker} has other keys now, and is expected to run {runs}"
        + (f"; those before had the fingerprint {before.keys.fingerprint}" if before else ""),
    }
    return f"{words[outcome]}\nfingerprint {public.fingerprint}"
