"""What a worker says of each message: one verdict, for a person and for a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from config_daemon.errors import ErrorContext, RejectedUpdate
from config_daemon.wire.messages import ConfigUpdate
from config_daemon.wire.status import Attempt

State = Literal["applied", "rejected", "rolled-back", "pending", "deleted", "held"]


class Verdict(NamedTuple):
    """How it ended with a message, why, and what is wrong in words."""

    state: State
    reason: str | None = None
    errors: tuple[ErrorContext, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One verdict: which message, what became of it, why, and what a person should know.

    Of the keyring, `service` is `keyring` and `sequence` its number.
    """

    service: str
    generation: int | None
    sequence: int | None
    config_version: int | None
    state: State
    reason: str | None = None
    flags: tuple[str, ...] = ()
    errors: tuple[ErrorContext, ...] = ()

    @classmethod
    def about(
        cls, service: str, update: ConfigUpdate | Attempt | None, verdict: Verdict, flags: tuple[str, ...]
    ) -> Report:
        """Return the report of a verdict; None for the message where nobody knows which it was."""
        return cls(
            service,
            update.generation if update else None,
            update.sequence if update else None,
            update.config_version if update else None,
            verdict.state,
            verdict.reason,
            flags,
            verdict.errors,
        )


def refused(rejection: RejectedUpdate) -> Verdict:
    """Return the verdict on a message that was refused."""
    return Verdict("rejected", rejection.reason, rejection.contexts)


def cannot_keep(error: OSError) -> ErrorContext:
    """Return what to tell when something new could not be made durable."""
    return ErrorContext(
        "storage",
        "CANNOT_KEEP",
        f"what is new could not be made durable: {error.strerror}",
        "Free space in the worker's state folder; what was there runs on and the new one is tried again.",
    )


STILL_APPLYING = ErrorContext(
    "apply",
    "STILL_APPLYING",
    "the program takes nothing now: it has not come back from the config before, or left its loop over changes",
    "This one is handed over once it does; if it hangs, restart the worker's program.",
)
RESTART_NEEDED = ErrorContext(
    "apply",
    "RESTART_NEEDED",
    "the program takes this config only when it starts anew",
    "Restart the worker's program; the config is kept and tried then.",
)
PROCESS_ENDED = ErrorContext(
    "apply",
    "PROCESS_ENDED",
    "the process ended while the program applied it",
    "Look at why the program died; the next start goes on with the config before.",
)
