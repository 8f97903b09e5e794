"""Replace the set values of services by what documents say, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from config_daemon.cli.arguments import unknown_service
from config_daemon.cli.changes import show_written
from config_daemon.errors import NotFound, UsageError
from config_daemon.store.ports import Edit

if TYPE_CHECKING:
    from config_daemon.cli.documents import Document
    from config_daemon.cli.session import Session


def replace_services(
    session: Session,
    documents: Sequence[Document],
    expect_version: int | None,
    reason: str | None,
    dry_run: bool,
) -> None:
    """Give every named service exactly its document's values, and print what changed.

    Raises: NotFound with every unknown service; UsageError; what `SqliteWriter.commit` raises.
    """
    unknown = [
        unknown_service(session, d.service) for d in documents if session.catalog.get(d.service) is None
    ]
    if unknown:
        headline = (
            unknown[0].message if len(unknown) == 1 else f"{len(unknown)} of these services are not defined"
        )
        contexts = [context for error in unknown for context in error.contexts]
        raise NotFound(headline, suggestion=unknown[0].suggestion, contexts=contexts)
    if expect_version is not None and len(documents) > 1:
        raise UsageError(
            f"--expect-version is about one service, and {len(documents)} are named",
            suggestion="Apply that service by itself.",
        )
    edits = [Edit(document.service, _to(document.values), expect_version) for document in documents]
    written = session.writer().commit(edits, by=session.actor, reason=reason, dry_run=dry_run)
    show_written(session, written, dry_run, many=True)


def _to(values: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda _stored: values
