"""Number and sign what the daemon publishes.

Laws: a number is reserved on disk before it is used, and used once; every message carries the
generation and the id of the key that signed it; no key signs that the keyring does not list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from config_daemon import failpoints
from config_daemon.core.health import Findings
from config_daemon.core.plan import Service
from config_daemon.core.sealed import Sealed
from config_daemon.core.surprise import Standing
from config_daemon.daemon.identity import Identity
from config_daemon.store.cache import Head
from config_daemon.store.marks import Numbers
from config_daemon.store.ports import Place, StoreFacts
from config_daemon.wire.beacon import BEACON, Beacon, beacon_body
from config_daemon.wire.convergence import CONVERGENCE, Convergence, convergence_body
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

RETRY_SECONDS = 1.0


class Sealer:
    """Seals messages as the identity says; nothing while no key may sign. `unix_ms` is read for display only."""

    def __init__(
        self,
        identity: Identity,
        numbers: Numbers,
        findings: Findings,
        unix_ms: Callable[[], int],
    ) -> None:
        self._identity, self.numbers, self._findings, self._unix_ms = identity, numbers, findings, unix_ms
        self.first = numbers.last
        self._retry_at = 0.0
        self._place: Place | None = None

    def update(self, service: str, entry: Service) -> Sealed | None:
        """Return a new config update with what is wanted of a service; None while no number can be reserved."""
        wanted, config = entry.wanted, entry.config
        assert wanted is not None
        if self._identity.signer is None or (wanted.generation, wanted.key_id) != self._identity.signs:
            return None  # it is to be read again first
        try:
            number = self.numbers.next()
        except OSError:
            return None
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
            feed=self._place,
            config_sha256=wanted.config_sha256,
        )
        raw = self._seal(update_body(config, envelope), CONFIG_UPDATE)
        failpoints.reached("after_seal")
        return Sealed(raw, number, wanted, len(config))

    def health(self, health: Health) -> bytes:
        """Return a health message made from `numbered()`, sealed."""
        return self._seal(health_body(health), HEALTH)

    def beacon(self, beacon: Beacon) -> bytes:
        """Return a beacon made from `numbered()`, sealed."""
        return self._seal(beacon_body(beacon), BEACON)

    def convergence(self, convergence: Convergence) -> bytes:
        """Return a convergence message made from `numbered()`, sealed."""
        return self._seal(convergence_body(convergence), CONVERGENCE)

    def _seal(self, body: bytes, body_type: str) -> bytes:
        signer = self._identity.signer
        assert signer is not None, "what was numbered is sealed in the same turn of the loop"
        return seal(body, body_type, signer.key)

    def numbered(self) -> dict[str, Any] | None:
        """Return the members that order a message, with a number of its own; None while nothing may be sealed."""
        if self._identity.signer is None:
            return None
        try:
            return self._members(self.numbers.next())
        except OSError:
            return None

    def tend(self, now: float, place: Place | None, epoch: str) -> None:
        """Note where we stand; tell of trouble with reserving numbers, and try again once a second."""
        if place is not None and place != self._place:
            self._place = place
            self.numbers.note(place, epoch)
            if self.numbers.marks.feed is None:
                self.numbers.reserve()  # from here on this host has a past, and says so before it publishes
        if self.numbers.trouble and now >= self._retry_at:
            self._retry_at = now + RETRY_SECONDS
            self.numbers.reserve()
        if self.numbers.trouble:
            self._findings.open("disk-full", "marks.json", self.numbers.trouble, self.now())
        elif self._retry_at:
            self._retry_at = 0.0
            self._findings.close("disk-full", "marks.json")

    def unsealed(self) -> dict[str, Any]:
        """Return the same members for a health that is shown but not sent: no number is used up."""
        return self._members(max(1, self.numbers.last))

    def _members(self, sequence: int) -> dict[str, Any]:
        generation, key_id = self._identity.signs
        return {"generation": generation, "sequence": sequence, "issued_at": self.now(), "key_id": key_id}

    @property
    def signs(self) -> tuple[int, str]:
        """Return generation and key id of what is sealed now."""
        return self._identity.signs

    def standing(self, epoch: str | None) -> Standing:
        """Return where this daemon stands among its own messages."""
        return Standing(self._identity.keyring.generation, self.first, self.numbers.last, epoch)

    def head(self, place: Place | None, facts: StoreFacts | None) -> Head | None:
        """Return the head of a new last-known-good cache; None while the store is not known."""
        if place is None or facts is None:
            return None
        return Head(
            config_epoch=facts.epoch,
            generated_at=self.now(),
            generation=self._identity.keyring.generation,
            sequence=self.numbers.last,
            feed=place,
            schema_version=facts.schema_version,
            key_id=self._identity.hmac[0],
        )

    def now(self) -> str:
        """Return the time as messages show it."""
        return timestamp(self._unix_ms())
