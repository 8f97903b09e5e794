"""A message on a config topic that is not the one we sent: explain it, or stop and ask.

Laws: only a message that our own key signed can mean that we are a copy or a restored past; anything
else is put right and counted; a message that cannot be explained stops publishing, because going on
could overwrite what was acknowledged elsewhere.

Source: docs/protocol.md "A message of our own that we did not expect".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from config_daemon.core.plan import Service
from config_daemon.core.sealed import Sealed

Meaning = Literal["ours", "resend", "seal-anew", "hold", "elsewhere", "orphan"]


class OwnMessage(NamedTuple):
    """What counts of a message that our own key signed for the topic it was on."""

    generation: int
    sequence: int
    epoch: str
    config_version: int
    place: tuple[int, str] | None = None  # in the database that it came from

    def is_above(self, sealed: Sealed) -> bool:
        """Tell whether this was sealed after the message that we know."""
        return (self.generation, self.sequence) > (sealed.fingerprint.generation, sealed.sequence)

    @property
    def words(self) -> str:
        """Return how a person finds the message again."""
        return f"number {self.sequence} (version {self.config_version}, epoch {self.epoch})"


class Standing(NamedTuple):
    """Where this daemon stands: its generation, first and last number of this process, its epoch."""

    generation: int
    first: int
    last: int
    epoch: str | None

    def is_ours(self, own: OwnMessage) -> bool:
        """Tell whether this very process may have sealed a message."""
        return own.generation == self.generation and self.first < own.sequence <= self.last


def explain(
    raw: bytes,
    own: OwnMessage | None,
    entry: Service | None,
    standing: Standing,
    holds: Callable[[tuple[int, str]], bool],
) -> Meaning:
    """Return what a message means; `own` is None unless our key signed it, `entry` what we know of the service.

    `holds` tells whether a place is in the database.
    """
    sealed = entry.sealed if entry else None
    if sealed is not None and sealed.is_same(raw):
        return "ours"
    if own is None or own.generation < standing.generation:
        return "resend"
    if own.generation > standing.generation or own.sequence > standing.last:
        return "hold"
    if own.sequence == standing.last > standing.first:
        return "hold"
    if own.epoch == standing.epoch and own.place is not None and not holds(own.place):
        return "elsewhere"  # what it was sealed from was acknowledged, and is not here
    known = entry.version if entry else 0
    if own.epoch == standing.epoch and own.config_version > known:
        return "hold"
    if entry is None:
        return "orphan"
    if sealed is None or own.is_above(sealed):
        return "seal-anew"
    return "resend"
