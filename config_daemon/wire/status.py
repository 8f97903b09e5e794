"""The status: what a worker runs, and what became of the last message it tried.

Laws: what runs and what was last attempted are told apart, so that a failed attempt never hides what still
runs, nor a later success the failure; statuses of a worker are ordered by (boot, n) and by nothing else; a
worker signs with a key of its own, which proves who speaks and gives no say in what is published.

Sources: docs/protocol.md "Status"; seed 000 "Error Context".
"""

from __future__ import annotations

from typing import Annotated, Literal

from nacl.signing import VerifyKey
from pydantic import Field, StringConstraints, ValidationError

from config_daemon.errors import ErrorContext, RejectedUpdate
from config_daemon.wire import values
from config_daemon.wire.messages import (
    Counter,
    KeyId,
    Message,
    Name,
    Sha256,
    Timestamp,
    members_of,
    misshapen,
)
from config_daemon.wire.sealing import canonical, unseal

STATUS = "status"
STATUS_SECONDS, JITTER_SECONDS = 60.0, 10.0
SILENT_SECONDS = 180.0
MAX_STATUS_BYTES = 64 << 10
TOLD_ERRORS, TOLD_FLAGS = 12, 12  # the longest status is below its limit
AttemptState = Literal["applied", "rejected", "rolled-back", "pending", "deleted"]
Source = Literal["broker", "cache", "then"]
Reason = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
_Zero = Annotated[int, Field(ge=0, le=values.MAX_INTEGER)]


Text = Annotated[str, StringConstraints(max_length=500)]
Short = Annotated[str, StringConstraints(max_length=100)]


class Problem(Message):
    """One ErrorContext, as it travels; values in it are masked already."""

    error_type: Short = Field(description="a category, such as `invalid_config`")
    error_code: Annotated[str, StringConstraints(pattern=r"^[A-Z_]{1,64}$")] = Field(
        description="which problem, for a program"
    )
    message: Text = Field(description="what is wrong, for a person")
    suggestion: Text = Field(description="how to mend it")
    failed_field: Text = Field("", description="the dotted key that it is about; empty when it is about none")
    received_value: Short = Field("", description="what was there, masked")
    expected_type: Text = Field("", description="what should have been there")
    fallback_applied: bool = Field(False, description="something else is used instead")


class Place(Message):
    """Which message: its pair of numbers, the row's version, and its body's digest."""

    generation: Counter = Field(description="the keyring's generation when the message was sealed")
    sequence: Counter = Field(description="the message's number")
    config_version: Counter = Field(description="the row's version in it")
    body_sha256: Sha256 = Field(description="SHA-256 of the message without its signature")


class Running(Place):
    """What the program runs."""

    source: Source = Field(
        description="whence it came: the broker, the worker's own copy, or a box that ended"
    )
    applied_at: Timestamp = Field(description="when the program took it, by the worker's clock")


class Attempt(Place):
    """What the worker tried last, and how that ended."""

    state: AttemptState = Field(description="how it ended")
    reason: Reason | None = Field(description="why it was not applied, in kebab-case; null when it was")
    errors: Annotated[list[Problem], Field(max_length=TOLD_ERRORS)] = Field(
        description="what is wrong, in words"
    )
    at: Timestamp = Field(description="when it ended, by the worker's clock")


class Status(Message):
    """What one worker says of one service."""

    version: Literal[1] = Field(1, description="message format version")
    service: Name = Field(description="which service; the topic's segment before the last")
    worker: Name = Field(description="who speaks; the topic's last segment")
    boot: Counter = Field(description="grows with every start of the worker")
    n: Counter = Field(description="grows with every status of that start")
    key_id: KeyId = Field(description="which of the worker's keys signed; it selects and never adds one")
    issued_at: Timestamp = Field(description="when this was signed, by the worker's clock")
    beacon: _Zero = Field(
        description="the highest number of a beacon seen since that start; 0 before the first"
    )
    running: Running | None = Field(description="what the program runs; null when it runs nothing")
    last_attempt: Attempt | None = Field(description="what was tried last; null before the first")
    flags: Annotated[list[Reason], Field(max_length=TOLD_FLAGS)] = Field(
        description="what a person should know about how the worker is served"
    )
    agent: Short = Field(description="the program that speaks, and its version")

    @property
    def order(self) -> tuple[int, int]:
        """Return what orders the statuses of one worker about one service."""
        return self.boot, self.n


def status_body(status: Status) -> bytes:
    """Return a status's body; every member is always there."""
    return canonical(status.model_dump(mode="json"))


def read_status(raw: bytes, service: str, worker: str, key: VerifyKey, name: str) -> Status:
    """Verify and parse a status that a worker wrote; `key` is its own one, and `name` that key's id.

    Raises: RejectedUpdate `oversize`, `wiped` (1), `bad-tail` (2), `bad-signature` (3), `bad-json` (4),
    `unknown-version`, `wrong-key` (5), `wrong-service` (6).
    """
    if len(raw) > MAX_STATUS_BYTES:
        raise RejectedUpdate("oversize", 1, f"longer than {MAX_STATUS_BYTES} bytes")
    body, _ = unseal(raw, STATUS, [key])
    try:
        status = Status.model_validate(members_of(body))
    except ValidationError as error:
        raise misshapen(error) from error
    if status.key_id != name:
        raise RejectedUpdate("wrong-key", 5, "it names another key than the one that signed it")
    if (status.service, status.worker) != (service, worker):
        raise RejectedUpdate("wrong-service", 6, f"it is of {status.worker}, about {status.service}")
    return status


def problems(contexts: tuple[ErrorContext, ...]) -> list[Problem]:
    """Return ErrorContexts as they travel: the first ones, each cut to size."""
    return [_problem(one) for one in contexts[:TOLD_ERRORS]]


def _problem(context: ErrorContext) -> Problem:
    return Problem(
        error_type=context.error_type[:100],
        error_code=context.error_code,
        message=context.message[:500],
        suggestion=context.suggestion[:500],
        failed_field=context.failed_field[:500],
        received_value=context.received_value[:100],
        expected_type=context.expected_type[:500],
        fallback_applied=context.fallback_applied,
    )
