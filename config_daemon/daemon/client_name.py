"""Under which name the daemon connects: a name of its own for each process, and another one when somebody takes it.

Laws: a broker gives a name to whoever came last, so that two under one name end each other's connections for ever;
whoever is pushed out three times in a minute takes a fresh name. That somebody took the name is told when the
broker says so, or, since not every broker does, when the connection stands under the fresh one.

Source: MQTT 5.0 §3.1.4 (the Client Identifier of another connection), §3.14.2.1 (reason 0x8E).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from config_daemon.core.health import Findings

CONFLICT = "client-id-conflict"
BROKE = "broker-down: the connection broke"
TIMES, WITHIN_SECONDS, QUIET_SECONDS = 3, 60.0, 600.0
SHORT_SECONDS = (
    5.0  # a connection that ends sooner, again and again, is ended by somebody; one that lasts stands
)


class ClientName:
    """The name for the next connection, and how often the last ones were pushed out."""

    def __init__(self, name: str, findings: Findings, now_text: Callable[[], str]) -> None:
        self._name, self._findings, self._now_text = name, findings, now_text
        self._pushed_at: list[float] = []
        self._connected_at: float | None = None
        self._suspicion = ""
        self._told_at = 0.0
        self.current = self._fresh()

    def connected(self, now: float) -> None:
        """Note that the broker accepted us."""
        self._connected_at = now

    def lost(self, reason: str, now: float) -> str:
        """Note why a connection ended, or none came about; return the reason as the world gets to know it."""
        name, _, detail = reason.partition(": ")
        since, self._connected_at, self._suspicion = self._connected_at, None, ""
        if since is None or (name != CONFLICT and reason != BROKE):
            self._pushed_at = []  # a broker that is down, or silent
        else:
            is_short = name == CONFLICT or now - since < SHORT_SECONDS
            lately = [at for at in self._pushed_at if now - at < WITHIN_SECONDS]
            self._pushed_at = [*(lately if is_short else ()), now]
        if len(self._pushed_at) >= TIMES:
            self._suspicion = (
                f"{len(self._pushed_at)} times in a minute another client connected as {self.current}"
            )
            self._pushed_at, self.current = [], self._fresh()
            if name == CONFLICT:
                self._tell(now)
        return f"broker-down: {detail}" if name == CONFLICT else reason

    def step(self, now: float) -> None:
        """Tell of a suspicion that came true, and of nothing more when all was quiet for a while."""
        if self._suspicion and self._connected_at is not None and now - self._connected_at >= SHORT_SECONDS:
            self._tell(now)
        if self._told_at and now - self._told_at > QUIET_SECONDS:
            self._told_at = 0.0
            self._findings.close(CONFLICT)

    def _tell(self, now: float) -> None:
        self._findings.open(CONFLICT, "broker", self._suspicion, self._now_text())
        self._suspicion, self._told_at = "", now

    def _fresh(self) -> str:
        return f"{self._name}-{uuid.uuid4().hex[:12]}"
