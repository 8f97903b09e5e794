"""Signed config updates as a daemon would make them, and as it never would.

Laws: everything is derived from fixed keys and the arguments, so that the same call gives the same bytes.
"""

from __future__ import annotations

import hashlib
from typing import Any

from nacl.signing import SigningKey

from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import CONFIG_UPDATE
from config_daemon.wire.sealing import canonical, seal
from config_daemon.wire.topics import Topics

KEY = SigningKey(b"\x01" * 32)
OTHER_KEY = SigningKey(b"\x02" * 32)
SERVICE = "stt-worker"
TOPICS = Topics()
TOPIC = TOPICS.config(SERVICE)
EPOCH = "0b0e7a3c-5d1f-4c3e-9a61-6f2d1c8e4b7a"
ABSENT = object()


def members(sequence: int = 1, config: Any = None, /, **changes: Any) -> dict[str, Any]:
    """Return the members of a good update; `changes` replace members, ABSENT removes one."""
    values = {"number": sequence} if config is None else config
    whole = {
        "checksum": hashlib.sha256(canonical(values)).hexdigest(),
        "config": values,
        "config_epoch": EPOCH,
        "config_version": sequence,
        "generation": 1,
        "issued_at": "2026-01-02T03:04:05.678Z",
        "key_id": key_id(bytes(KEY.verify_key)),
        "sequence": sequence,
        "service": SERVICE,
        "version": 1,
    } | changes
    return {name: value for name, value in whole.items() if value is not ABSENT}


def sealed_body(body: bytes, key: SigningKey = KEY, body_type: str = CONFIG_UPDATE) -> bytes:
    """Return exactly these bytes under a good signature."""
    return seal(body, body_type, key)


def update(sequence: int = 1, config: Any = None, /, *, key: SigningKey = KEY, **changes: Any) -> bytes:
    """Return one sealed update; its config tells its number unless one is given."""
    if key is not KEY:
        changes.setdefault("key_id", key_id(bytes(key.verify_key)))
    return sealed_body(canonical(members(sequence, config, **changes)), key)


def tombstone(sequence: int) -> bytes:
    """Return the message that withdraws the service's config."""
    return update(sequence, {}, deleted=True)


def with_secrets(sequence: int) -> bytes:
    """Return an update that needs a key which this worker has not."""
    return update(sequence, secrets={"nonce": "", "ciphertext": "", "recipients": {}})
