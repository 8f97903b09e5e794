"""The beacon: which message of every service is current, and that the daemon lives.

Laws: it lists confirmed messages only, by number and digest; above a size the list moves into shards, of
which the beacon carries the digests; a shard is the same kind of message on a topic of its own.

Source: docs/protocol.md "The beacon".
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, SkipValidation, StringConstraints, ValidationError, field_validator

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
from config_daemon.wire.sealing import canonical

BEACON = "beacon"
BEACON_SECONDS = 30.0
INLINE_SERVICES = 500
_DIGEST = re.compile(r"[0-9a-f]{64}")
Shard = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{2}$")]


class Numbered(NamedTuple):
    """A message by its number and the digest of its body, or a keyring by the same; a chain by count and head."""

    number: Annotated[int, Field(ge=0, le=values.MAX_INTEGER)]
    sha256: Sha256


class Beacon(Message):
    """What is current; of a shard, only the services that belong to it."""

    version: Literal[1] = Field(1, description="message format version")
    generation: Counter = Field(description="the keyring's generation when this was sealed")
    sequence: Counter = Field(description="the daemon's counter; orders messages within a generation")
    issued_at: Timestamp = Field(description="when this was sealed")
    key_id: KeyId = Field(description="which trusted key signed; it selects and never adds one")
    shard: Shard | None = Field(None, description="of a shard: which one; absent in the beacon itself")
    keyring: Numbered | None = Field(None, description="number and digest of the keyring in force")
    services: dict[Name, SkipValidation[Numbered]] = Field(  # `numbered` did, in a third of the time
        description="each service's confirmed message: number, body digest"
    )
    shards: dict[Shard, Sha256] | None = Field(None, description="instead of services: each shard's digest")
    audit: dict[Literal["history", "access"], Numbered] | None = Field(
        None, description="count and head of each audit chain, while they extend what was known"
    )

    @field_validator("keyring", mode="before")
    @classmethod
    def _read_keyring(cls, value: Any) -> Any:
        return None if value is None else numbered(value)

    @field_validator("services", "audit", mode="before")
    @classmethod
    def _read_lists(cls, value: Any) -> Any:
        return {name: numbered(one) for name, one in value.items()} if isinstance(value, dict) else value


def numbered(value: Any) -> Numbered:
    """Return a pair of a message: a counter or zero, and a digest.

    Raises: ValueError.
    """
    if isinstance(value, Numbered):
        return value
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("Input should be a number and a digest")
    number, digest = value
    if type(number) is not int or not 0 <= number <= values.MAX_INTEGER:
        raise ValueError("Input should begin with a counter")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError("Input should end with 64 hex digits")
    return Numbered(number, digest)


def shard_of(service: str) -> str:
    """Return which of the 256 shards a service belongs to."""
    return hashlib.sha256(service.encode()).hexdigest()[:2]


def list_digest(services: dict[str, Numbered]) -> str:
    """Return the digest by which a beacon names the list of a shard: of the list alone, whatever sealed it."""
    return hashlib.sha256(canonical(services)).hexdigest()


def beacon_body(beacon: Beacon) -> bytes:
    """Return a beacon's body; members that say nothing are left out."""
    return canonical(beacon.model_dump(mode="json", exclude_none=True))


def parse_beacon(body: bytes) -> Beacon:
    """Parse a verified beacon or shard.

    Raises: RejectedUpdate `bad-json` (step 4), `unknown-version` (5).
    """
    try:
        return Beacon.model_validate(members_of(body))
    except ValidationError as error:
        raise misshapen(error) from error
