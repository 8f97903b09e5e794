"""The messages, as values: what each member means, and how a body's bytes become one and back.

Laws: parsing happens after the signature was verified, and is strict (types, timestamps, duplicate
keys); members that we do not know are ignored, so that a new field is no flag day; a config's bytes
are taken from where they stand (offset 88) and are never written out again.

Sources: seed 004 `ConfigUpdatePayload`, `ConfigHealthPayload`; docs/protocol.md.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from config_daemon.errors import RejectedUpdate
from config_daemon.wire import values
from config_daemon.wire.sealing import canonical
from config_daemon.wire.topics import NAME_PATTERN

FORMAT_VERSION = 1
CONFIG_UPDATE = "config-update"
HEALTH = "health"
NIL_EPOCH = "00000000-0000-0000-0000-000000000000"
CONFIG_OFFSET = 88
TOLD_ERRORS = 100
_UPDATE_HEAD = re.compile(rb'\{"checksum":"[0-9a-f]{64}","config":')

TIMESTAMP_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"
Timestamp = Annotated[str, StringConstraints(pattern=TIMESTAMP_PATTERN)]
Uuid = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
KeyId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Counter = Annotated[int, Field(ge=1, le=values.MAX_INTEGER)]


def _no_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("Input should be True")  # a Literal compares with ==, and 1 == True
    return value


Flag = Annotated[Literal[True] | None, BeforeValidator(_no_number)]


class Message(BaseModel):
    """One signed body; unknown members are ignored, wrong types never."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", hide_input_in_errors=True, defer_build=True
    )


class Secrets(Message):
    """Secret values, sealed to each recipient's own key."""

    nonce: str = Field(description="what the ciphertext was made with, base64")
    ciphertext: str = Field(description="the secret values under one data key, base64")
    recipients: dict[str, str] = Field(description="worker id to the data key, sealed to that worker; base64")


class ConfigUpdate(Message):
    """One service's complete effective config, as it travels."""

    checksum: Sha256 = Field(description="SHA-256 of the exact bytes of the config value")
    config: dict[str, Any] = Field(description="the complete effective config, without secret values")
    config_epoch: Uuid = Field(description="the life of the database that this came from")
    config_version: Counter = Field(description="the row's optimistic-lock version")
    generation: Counter = Field(description="the keyring's generation when this was sealed")
    issued_at: Timestamp = Field(description="when this was sealed; for display only")
    key_id: KeyId = Field(description="which trusted key signed; it selects and never adds one")
    sequence: Counter = Field(description="the daemon's counter; orders messages within a generation")
    service: Name = Field(description="whose config; the topic's last segment")
    version: Literal[1] = Field(description="message format version")
    deleted: Flag = Field(None, description="a signed tombstone; config is empty")
    secrets: Secrets | None = Field(None, description="secret values, sealed to each worker")
    expires_at: Timestamp | None = Field(None, description="from then on a reader flags the config as stale")
    confirm_seconds: Annotated[int, Field(ge=10, le=3600)] | None = Field(
        None, description="how long a worker waits for confirmation before it steps back"
    )
    until: Timestamp | None = Field(
        None, description="from then on `then` is in force; the two come together"
    )
    then: dict[str, Any] | None = Field(None, description="the complete config after `until`")
    feed: Any = Field(None, description="the daemon's own place in its database; for nobody else to judge")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ConfigUpdate:
        if self.deleted and self.config:
            raise ValueError("a tombstone carries no config")
        if (self.until is None) != (self.then is None):
            raise ValueError("until and then come together")
        return self


class Condition(Message):
    """One named health finding."""

    name: str = Field(description="which kind of finding, in kebab-case")
    subject: str = Field(description="what it is about: a service, a file, or empty")
    severity: Literal["info", "warning", "critical"] = Field(description="how bad it is")
    since: Timestamp = Field(description="when it began")
    detail: str = Field(description="what was found, for a person")


class Health(Message):
    """How the daemon is: ten fields that are always there, and what orders and explains them."""

    ok: bool = Field(description="the store is healthy, the mode normal, and nothing critical open")
    database_status: Literal["healthy", "locked", "corrupted", "schema-mismatch"] = Field(
        description="what the store says about itself"
    )
    operational_mode: Literal["normal", "read-only-fallback", "rebuilding"] = Field(
        description="what the daemon does about it"
    )
    config_epoch: Uuid = Field(description="the life of the database; the nil UUID when it was never known")
    schema_version: Annotated[int, Field(ge=0)] = Field(description="the database's format; 0 when unknown")
    lkg_cache_valid: bool = Field(description="the last-known-good cache is there and authentic")
    litestream_status: Literal["healthy", "error", "disabled"] = Field(description="how replication is")
    last_backup: Timestamp | None = Field(
        description="when the newest backup was made; null when there is none"
    )
    event: str | None = Field(description="what just happened; `offline` in the last will")
    err: str | None = Field(description="the worst finding in one line; null when there is none")
    version: Literal[1] = Field(1, description="message format version")
    session: Uuid = Field(description="one connection to the broker; a will counts for its own session only")
    generation: Counter = Field(description="the keyring's generation when this was sealed")
    sequence: Counter = Field(description="the daemon's counter; orders messages within a generation")
    issued_at: Timestamp = Field(description="when this was sealed")
    key_id: KeyId = Field(description="which trusted key signed; it selects and never adds one")
    conditions: Annotated[list[Condition], FailFast()] = Field(
        description="the open findings, the worst first"
    )
    services: Annotated[int, Field(ge=0)] = Field(description="how many services the daemon publishes")
    behind: Annotated[int, Field(ge=0)] = Field(description="how many of them the broker has not confirmed")


class Envelope(NamedTuple):
    """Everything of a config update but the config itself; with its SHA-256 where that is known already."""

    service: str
    config_epoch: str
    config_version: int
    generation: int
    sequence: int
    key_id: str
    issued_at: str
    deleted: bool = False
    feed: tuple[int, str] | None = None
    config_sha256: bytes | None = None


def timestamp(unix_ms: int) -> str:
    """Return milliseconds since 1970 as `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    seconds, ms = divmod(unix_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def update_body(config: bytes, envelope: Envelope) -> bytes:
    """Return a config update's body around the canonical bytes of its config.

    The two members before the config are written by hand, so that it begins at offset 88.
    """
    members: dict[str, Any] = {
        "config_epoch": envelope.config_epoch, "config_version": envelope.config_version,
        "generation": envelope.generation, "issued_at": envelope.issued_at, "key_id": envelope.key_id,
        "sequence": envelope.sequence, "service": envelope.service, "version": FORMAT_VERSION,
    }  # fmt: skip
    if envelope.deleted:
        members["deleted"] = True
    if envelope.feed is not None:
        members["feed"] = envelope.feed
    checksum = (envelope.config_sha256 or hashlib.sha256(config).digest()).hex().encode()
    return b'{"checksum":"%s","config":%s,%s' % (checksum, config, canonical(members)[1:])


def parse_update(body: bytes) -> tuple[ConfigUpdate, bytes | None]:
    """Parse a verified config update; also return the bytes of its config, None if not at offset 88.

    Raises: RejectedUpdate `bad-json` (step 4), `unknown-version` (5).
    """
    members = members_of(body)
    try:
        return ConfigUpdate.model_validate(members), _config_bytes(body)
    except ValidationError as error:
        raise misshapen(error) from error


def parse_health(body: bytes) -> Health:
    """Parse a verified health message.

    Raises: RejectedUpdate `bad-json` (step 4), `unknown-version` (5).
    """
    try:
        return Health.model_validate(members_of(body))
    except ValidationError as error:
        raise misshapen(error) from error


def health_body(health: Health) -> bytes:
    """Return a health message's body; its ten first fields are always there, null or not."""
    return canonical(health.model_dump(mode="json"))


def members_of(body: bytes) -> dict[str, Any]:
    """Return a verified body's members.

    Raises: RejectedUpdate `bad-json` (step 4), `unknown-version` (5).
    """
    try:
        values.check_parts(body)
        members = values.parse(body)
    except values.BadJson as error:
        raise RejectedUpdate("bad-json", 4, str(error)) from error
    if not isinstance(members, dict):
        raise RejectedUpdate("bad-json", 4, "not an object")
    version = members.get("version")
    if type(version) is not int:  # neither true nor 1.0, which equal 1
        raise RejectedUpdate("bad-json", 4, "version: Input should be a valid integer")
    if version != FORMAT_VERSION:
        raise RejectedUpdate("unknown-version", 5, f"format version {version}")
    return members


def _config_bytes(body: bytes) -> bytes | None:
    if not _UPDATE_HEAD.match(body):
        return None
    text = body[CONFIG_OFFSET:].decode("utf-8")
    end = values.end_of_value(text)
    return None if end is None else text[:end].encode("utf-8")


def misshapen(error: ValidationError) -> RejectedUpdate:
    """Return the refusal (step 4) of a body whose members have the wrong types."""
    if error.error_count() > TOLD_ERRORS:  # Pydantic makes all or none of them, at 10 µs each
        return RejectedUpdate(
            "bad-json", 4, f"{error.error_count()} members are missing or of the wrong type"
        )
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the message"
    return RejectedUpdate("bad-json", 4, f"{place}: {first['msg']}")
