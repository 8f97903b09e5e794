"""What a worker says of each message: one verdict, for a person and for a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from config_daemon.errors import ErrorContext

State = Literal["applied", "rejected", "deleted", "held"]


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


def cannot_keep(error: OSError) -> ErrorContext:
    """Return what to tell when something new could not be made durable."""
    return ErrorContext(
        "storage",
        "CANNOT_KEEP",
        f"what is new could not be made durable: {error.strerror}",
        "Free space in the worker's state folder; what was there runs on and the new one is tried again.",
    )
