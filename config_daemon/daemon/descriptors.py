"""Whether this process may open anything more: without descriptors half of what the daemon does fails in its own words.

Laws: it is asked of the system now and then, so that one condition tells of it whoever ran into it; it ends by itself.
"""

from __future__ import annotations

import resource
from collections.abc import Callable

from config_daemon.core.health import Findings
from config_daemon.store.files import has_descriptors

EXHAUSTED = "fd-exhausted"
LOOK_SECONDS = 1.0


class Descriptors:
    """Looks whether a few files could be opened."""

    def __init__(self, findings: Findings, now_text: Callable[[], str]) -> None:
        self._findings, self._now_text = findings, now_text
        self._look_at = 0.0

    def step(self, now: float) -> None:
        """Look, if it is time."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        if has_descriptors():
            self._findings.close(EXHAUSTED, "daemon")
        else:
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            detail = f"no more files and connections can be opened; this process may have {most}"
            self._findings.open(EXHAUSTED, "daemon", detail, self._now_text())
