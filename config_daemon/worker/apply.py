"""What a program's `apply` may raise beside an ordinary failure: it put the old config back, or needs a restart.

Laws: whoever raises `RolledBack` says that the previous config runs again; anything else that is raised
says only that the new one does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from config_daemon.errors import ConfigDaemonError, ErrorContext


class RolledBack(ConfigDaemonError):
    """The new config was tried and the previous one is in force again; `reason` is a word for programs (kebab-case)."""

    code = "ROLLED_BACK"
    suggestion = "Look at why the new config did not work, mend it and publish it again."

    def __init__(
        self, message: str, reason: str = "apply-failed", contexts: Sequence[ErrorContext] = ()
    ) -> None:
        super().__init__(message, contexts=contexts)
        self.reason = reason


class RestartNeeded(Exception):
    """The new config can only be had by starting anew; it is kept, and tried at the next start."""
