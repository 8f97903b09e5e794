"""The messages, as values: what each member means, and how a body's bytes become one and back.

Laws: parsing happens after the signature was verified, and is strict (types, timestamps, duplicate
keys); members that we do not know are ignored, so that a new field is no flag day; a config's bytes
are taken from where they stand (offset 88) and are never written out again.

Sources: seed 004 `ConfigUpdatePayload`, `ConfigHealthPayload`; docs/protocol.md.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from config_daemon.errors import RejectedUpdate
from config_daemon.wire import values
from config_daemon.wire.sealing import canonical
from config_daemon.wire.topics import NAME_PATTERN

FORMAT_VERSION = 1
CONFIG_UPDATE = "config-update"
HEALTH = "health"
NIL_EPOCH = "00000000-0000-0000-0000-000000000000"
CONFIG_OFFSET = 88
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


class Message(BaseModel):
    """One signed body; unknown members are ignored, wrong types never."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)


class Secrets(Message):
    """Secret values, sealed to each recipient's own key."""

    nonce: str
    ciphertext: str
    recipients: dict[str, str]


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
    deleted: Literal[True] | None = Field(None, description="a signed tombstone; config is empty")
    secrets: Secrets | None = Field(None, description="secret values, sealed to each worker")
    expires_at: Timestamp | None = Field(None, description="from then on a reader flags the config as stale")
    confirm_seconds: Annotated[int, Field(ge=10, le=3600)] | None = None
    until: Timestamp | None = None
    then: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ConfigUpdate:
        if self.deleted and self.config:
            raise ValueError("a tombstone carries no config")
        if (self.until is None) != (self.then is None):
            raise ValueError("until and then come together")
        return self


class Condition(Message):
    """One named health finding."""

    name: str
    subject: str
    severity: Literal["info", "warning", "critical"]
    since: Timestamp
    detail: str


class Health(Message):
    """How the daemon is: the seed's ten fields, and what orders and explains them."""

    ok: bool
    database_status: Literal["healthy", "locked", "corrupted", "schema-mismatch"]
    operational_mode: Literal["normal", "read-only-fallback", "rebuilding"]
    config_epoch: Uuid
    schema_version: Annotated[int, Field(ge=0)]
    lkg_cache_valid: bool
    litestream_status: Literal["healthy", "error", "disabled"]
    last_backup: Timestamp | None
    event: str | None
    err: str | None
    version: Literal[1] = 1
    session: Uuid
    generation: Counter
    sequence: Counter
    issued_at: Timestamp
    key_id: KeyId
    conditions: list[Condition]
    services: Annotated[int, Field(ge=0)]
    behind: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Envelope:
    """Everything of a config update but the config itself."""

    service: str
    config_epoch: str
    config_version: int
    generation: int
    sequence: int
    key_id: str
    issued_at: str
    deleted: bool = False


def timestamp(unix_ms: int) -> str:
    """Return milliseconds since 1970 as `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    moment = datetime.fromtimestamp(unix_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{unix_ms % 1000:03d}Z"


def update_body(config: bytes, envelope: Envelope) -> bytes:
    """Return a config update's body around the canonical bytes of its config.

    The two members before the config are written by hand, so that it begins at offset 88.
    """
    members: dict[str, Any] = {
        name: getattr(envelope, name) for name in envelope.__slots__ if name != "deleted"
    }
    members["version"] = FORMAT_VERSION
    if envelope.deleted:
        members["deleted"] = True
    checksum = hashlib.sha256(config).hexdigest().encode()
    return b'{"checksum":"%s","config":%s,%s' % (checksum, config, canonical(members)[1:])


def parse_update(body: bytes) -> tuple[ConfigUpdate, bytes | None]:
    """Parse a verified config update; also return the bytes of its config, None if not at offset 88.

    Raises: RejectedUpdate `bad-json` (step 4), `unknown-version` (5).
    """
    members = _members(body)
    version = members.get("version")
    if type(version) is int and version != FORMAT_VERSION:
        raise RejectedUpdate("unknown-version", 5, f"format version {version}")
    try:
        return ConfigUpdate.model_validate(members), _config_bytes(body)
    except ValidationError as error:
        raise _misshapen(error) from error


def parse_health(body: bytes) -> Health:
    """Parse a verified health message.

    Raises: RejectedUpdate `bad-json` (step 4).
    """
    try:
        return Health.model_validate(_members(body))
    except ValidationError as error:
        raise _misshapen(error) from error


def health_body(health: Health) -> bytes:
    """Return a health message's body; its ten first fields are always there, null or not."""
    return canonical(health.model_dump(mode="json"))


def _members(body: bytes) -> dict[str, Any]:
    try:
        members = values.parse(body)
    except values.BadJson as error:
        raise RejectedUpdate("bad-json", 4, str(error)) from error
    if not isinstance(members, dict):
        raise RejectedUpdate("bad-json", 4, "not an object")
    return members


def _config_bytes(body: bytes) -> bytes | None:
    if not _UPDATE_HEAD.match(body):
        return None
    text = body[CONFIG_OFFSET:].decode("utf-8")
    end = values.end_of_value(text)
    return None if end is None else text[:end].encode("utf-8")


def _misshapen(error: ValidationError) -> RejectedUpdate:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the message"
    return RejectedUpdate("bad-json", 4, f"{place}: {first['msg']}")
