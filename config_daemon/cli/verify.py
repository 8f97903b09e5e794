"""`verify`: one message against a public key or a keyring, as a worker would judge it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config_daemon.cli.printing import quoted
from config_daemon.cli.session import Session, standard
from config_daemon.errors import RejectedUpdate, UsageError

if TYPE_CHECKING:
    from config_daemon.wire.keyring import Keyring

_KNOWN = "PREFIX/config/SERVICE, PREFIX/health/DAEMON, PREFIX/trust/beacon[/XX] and PREFIX/trust/keyring[/N]"
_KEYRING_NEEDED = (
    "a public key alone knows no later keyring: give --keyring FILE, with what"
    " `config-daemon keys public --keyring` prints"
)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--topic", required=True, metavar="T", help="The topic the message was on.")
@click.option("--public-key", metavar="FILE", help="PEM or hex, instead of the data folder's keyring.")
@click.option("--keyring", metavar="FILE", help="A keyring file, instead of the data folder's.")
@standard
@click.pass_obj
def command(session: Session, file: str, topic: str, public_key: str | None, keyring: str | None) -> int:
    """Check one message as a worker would, and name the step that refused it. FILE may be -.

    \b
    mosquitto_sub -t system/config/stt-worker -C 1 -N > message.json
    config-daemon verify message.json --topic system/config/stt-worker
    """
    if public_key and keyring:
        raise UsageError("a public key or a keyring, not both", suggestion="Leave one of them out.")
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        trusted = _trusted(session, public_key, keyring)
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be read: {error.strerror}", suggestion="Name a readable file."
        ) from error
    try:
        data, headline = _verified(
            trusted, topic, raw.removesuffix(b"\n")
        )  # a line of mosquitto_sub is the message
    except RejectedUpdate as rejection:
        refused = {"verdict": "rejected", "step": rejection.step, "reason": rejection.reason}
        told = f"rejected at {rejection.message}"
        session.show({**refused, "detail": rejection.detail}, lambda: told)
        if public_key and rejection.reason == "keyring-behind":
            session.say(_KEYRING_NEEDED)
        return 1
    session.show({"verdict": "good", **data}, lambda: f"good: {headline}")
    return 0


def _trusted(session: Session, public_key: str | None, keyring: str | None) -> Keyring:
    """Return what to verify with. Raises: OSError, KeyUnavailable."""
    from config_daemon.wire.keyring import installed_keyring, of_key
    from config_daemon.wire.keys import public_key_from_text

    if public_key:
        return of_key(public_key_from_text(Path(public_key).read_text()))
    if keyring is None:
        return session.ground.keyring()
    try:
        return installed_keyring(Path(keyring).read_bytes().removesuffix(b"\n"))
    except RejectedUpdate as rejection:
        raise UsageError(
            f"{keyring} is no keyring: {rejection.message}",
            suggestion="`config-daemon keys public --keyring` prints the one in force.",
        ) from rejection


def _verified(keyring: Keyring, topic: str, raw: bytes) -> tuple[dict[str, Any], str]:
    """Return a good message's members and what to say of it.

    Raises: RejectedUpdate; UsageError for a topic of no such message.
    """
    from config_daemon.wire.keyring import follow
    from config_daemon.wire.topics import Topics, is_name, is_service
    from config_daemon.worker.trust import Trust

    if topic.endswith("/trust/keyring") or "/trust/keyring/" in topic:
        shown = follow(keyring, raw)
        words = f"keyring {shown.number} of generation {shown.generation}, sealed {shown.issued_at}"
        return shown.body.model_dump(mode="json"), words
    prefix, is_beacon, _ = topic.partition("/trust/beacon")
    if is_beacon:
        beacon = Trust(keyring, [], Topics(prefix)).beacon(topic, raw)
        words = (
            f"beacon number {beacon.sequence} of generation {beacon.generation}, sealed {beacon.issued_at}"
        )
        return beacon.model_dump(mode="json", exclude_none=True), words
    head, _, service = topic.rpartition("/")
    if head.endswith("/health") and is_name(service):
        return _health(keyring, raw)
    if not (head.endswith("/config") and is_service(service)):
        raise UsageError(
            f"{quoted(topic)} is no topic of a signed message", suggestion=f"Name one of {_KNOWN}."
        )
    update, body_sha256 = Trust(keyring, [service], Topics(head.removesuffix("/config"))).verify(topic, raw)
    words = (
        f"{update.service} version {update.config_version}, number {update.sequence} of "
        f"generation {update.generation}, sealed {update.issued_at}"
    )
    return {"body_sha256": body_sha256, **update.model_dump(mode="json", exclude_none=True)}, words


def _health(keyring: Keyring, raw: bytes) -> tuple[dict[str, Any], str]:
    """Return a good health message's members and what to say of it.

    Raises: RejectedUpdate.
    """
    from config_daemon.wire.messages import HEALTH, parse_health
    from config_daemon.wire.sealing import unseal

    health = parse_health(unseal(raw, HEALTH, keyring.config_keys)[0])
    words = (
        f"health ({'ok' if health.ok else 'not ok'}, {health.operational_mode}, {health.event}), number"
        f" {health.sequence} of generation {health.generation}, sealed {health.issued_at}"
    )
    return health.model_dump(mode="json"), words
