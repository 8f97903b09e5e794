"""Convergence: of one service's confirmed message, how many workers run it, and who does not.

Laws: it counts the workers that are expected, not those that spoke; each of them counts once; it is told of
one message, named by its pair of numbers.

Source: docs/protocol.md "Convergence".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from config_daemon.wire.messages import Counter, KeyId, Message, Name, Timestamp, members_of, misshapen
from config_daemon.wire.sealing import canonical
from config_daemon.wire.status import Reason

CONVERGENCE = "convergence"
TOLD_WORKERS = 10
WorkerState = Literal["applied", "pending", "rejected", "rolled-back", "offline", "silent", "stale"]
_Count = Annotated[int, Field(ge=0)]


class Laggard(Message):
    """One worker that does not run the message."""

    worker: Name = Field(description="which one")
    state: WorkerState = Field(description="how it stands")
    reason: Reason | None = Field(description="why, where the worker said so")


class Convergence(Message):
    """How far one message got; the seven counts add up to `total`."""

    version: Literal[1] = Field(1, description="message format version")
    service: Name = Field(description="which service; the topic's last segment")
    config_version: Counter = Field(description="the row's version in the message that is counted")
    generation: Counter = Field(description="the generation of the message that is counted")
    sequence: Counter = Field(description="the number of the message that is counted")
    number: Counter = Field(description="this message's own number, from the daemon's one counter")
    issued_at: Timestamp = Field(description="when this was sealed")
    key_id: KeyId = Field(description="which trusted key signed; it selects and never adds one")
    total: _Count = Field(description="the workers that are expected to run it")
    applied: _Count = Field(description="run it, and have seen one of the last beacons")
    pending: _Count = Field(description="have not said how it ended")
    rejected: _Count = Field(description="refused it, or could not apply it")
    rolled_back: _Count = Field(description="applied it and went back to the one before")
    offline: _Count = Field(description="do not run it, and have left the broker")
    silent: _Count = Field(description="said nothing for three minutes, or never")
    stale: _Count = Field(description="run it, and have not seen any of the last beacons")
    converged: bool = Field(description="all that are expected run it, and there is at least one")
    converged_ms: _Count | None = Field(
        description="from the broker's confirmation to the last of them; else null"
    )
    worst: Annotated[list[Laggard], Field(max_length=TOLD_WORKERS)] = Field(
        description="some of those that do not run it, the gravest first"
    )


def convergence_body(convergence: Convergence) -> bytes:
    """Return the body; every member is always there."""
    return canonical(convergence.model_dump(mode="json"))


def parse_convergence(body: bytes) -> Convergence:
    """Parse a verified convergence.

    Raises: RejectedUpdate `bad-json` (step 4), `unknown-version` (5).
    """
    try:
        return Convergence.model_validate(members_of(body))
    except ValidationError as error:
        raise misshapen(error) from error
