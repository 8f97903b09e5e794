"""`lkg`: look at the last-known-good cache."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.session import Session, standard
from config_daemon.cli.words import counted
from config_daemon.errors import NotFound

if TYPE_CHECKING:
    from config_daemon.store.cache import Cache


@click.group()
@standard
def command() -> None:
    """Look at the last-known-good cache, which the daemon goes on with when the database cannot be read."""


@command.command(short_help="Show what the cache holds.")
@click.argument("service", required=False)
@standard
@click.pass_obj
def show(session: Session, service: str | None) -> None:
    """Show what the cache holds, after verifying it; with SERVICE its config.

    \b
    config-daemon lkg show
    config-daemon lkg show stt-worker
    """
    from config_daemon.wire.values import parse

    path, cached = _verified(session)
    if service is None:
        session.show(_facts(path, cached), lambda: _page(path, cached))
        return
    sealed = cached.sealed.get(service)
    if sealed is None:
        raise NotFound(
            f"{path} holds no {service!r}", suggestion=f"It holds: {', '.join(cached.sealed) or 'nothing'}."
        )
    config = sealed.read_config() or b"{}"
    data = {
        "service": service,
        "config_version": sealed.fingerprint.config_version,
        "sequence": sealed.sequence,
        "deleted": sealed.fingerprint.deleted,
        "config": parse(config),
    }
    session.show(data, lambda: config.decode())


@command.command(short_help="Tell whether the cache can be trusted.")
@standard
@click.pass_obj
def verify(session: Session) -> None:
    """Check the cache's HMAC and form: exit 0 when it can be trusted, 69 when not, 5 when there is none."""
    path, cached = _verified(session)
    session.show(_facts(path, cached), lambda: f"good: {path}, {counted(len(cached.sealed), 'service')}")


def _verified(session: Session) -> tuple[Path, Cache]:
    """Return the cache.

    Raises: NotFound when there is none; CacheError when it cannot be trusted; KeyUnavailable.
    """
    from config_daemon.store.cache import load

    path = session.ground.files.cache
    cached = load(path, session.ground.keys.hmac_keys())
    if cached is None:
        raise NotFound(
            f"there is no cache at {path}", suggestion="A running daemon writes it after publishing."
        )
    return path, cached


def _facts(path: Path, cached: Cache) -> dict[str, Any]:
    head = asdict(cached.head)
    return {"file": str(path), "verdict": "good", **head, "feed": list(cached.head.feed),
            "services": {name: one.fingerprint.config_version for name, one in cached.sealed.items()}}  # fmt: skip


def _page(path: Path, cached: Cache) -> str:
    head = cached.head
    lines = [f"good: {path}, written {head.generated_at}, epoch {head.config_epoch}, number {head.sequence}"]
    width = max(map(len, cached.sealed), default=0)
    for name, sealed in sorted(cached.sealed.items()):
        word = "  deleted" if sealed.fingerprint.deleted else ""
        lines.append(
            f"{name:<{width}}  version {sealed.fingerprint.config_version}  number {sealed.sequence}{word}"
        )
    return "\n".join(lines)
