"""Number and sign what the daemon publishes.

Laws: a number is reserved on disk before it is used, and used once; every message carries the
generation and the id of the key that signed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from config_daemon import failpoints
from config_daemon.core.plan import Fingerprint, Sealed
from config_daemon.store.keyfiles import Signer
from config_daemon.store.marks import Numbers
from config_daemon.wire.messages import (
    CONFIG_UPDATE,
    HEALTH,
    Envelope,
    Health,
    health_body,
    timestamp,
    update_body,
)
from config_daemon.wire.sealing import seal


class Sealer:
    """Seals messages with one key of one generation; `unix_ms` is read for display only."""

    def __init__(self, signer: Signer, numbers: Numbers, unix_ms: Callable[[], int]) -> None:
        self._signer, self.numbers, self._unix_ms = signer, numbers, unix_ms
        self.identity = (numbers.marks.generation, signer.key_id)

    def update(self, service: str, wanted: Fingerprint, config: bytes) -> Sealed:
        """Return a new config update.

        Raises: OSError when no number can be reserved.
        """
        number = self.numbers.next()
        failpoints.reached("after_reserve")
        envelope = Envelope(
            service=service,
            config_epoch=wanted.epoch,
            config_version=wanted.config_version,
            generation=wanted.generation,
            sequence=number,
            key_id=wanted.key_id,
            issued_at=self.now(),
            deleted=wanted.deleted,
        )
        raw = seal(update_body(config, envelope), CONFIG_UPDATE, self._signer.key)
        failpoints.reached("after_seal")
        return Sealed(raw, number, wanted)

    def health(self, health: Health) -> bytes:
        """Return a health message made from `numbered()`, sealed."""
        return seal(health_body(health), HEALTH, self._signer.key)

    def numbered(self) -> dict[str, Any]:
        """Return the members that order a message, with a number of its own.

        Raises: OSError when no number can be reserved.
        """
        return self._members(self.numbers.next())

    def unsealed(self) -> dict[str, Any]:
        """Return the same members for a health that is shown but not sent: no number is used up."""
        return self._members(max(1, self.numbers.last))

    def _members(self, sequence: int) -> dict[str, Any]:
        generation, key_id = self.identity
        return {"generation": generation, "sequence": sequence, "issued_at": self.now(), "key_id": key_id}

    def now(self) -> str:
        """Return the time as messages show it."""
        return timestamp(self._unix_ms())
