"""How a worker stands with one service: what runs, what was tried last, what a person should know. Pure.

Laws: only a message that was verified and is not below the floor counts as tried; what was tried stays until
another message is tried, so that neither a re-seal of what runs nor another service hides a failure; what is
told fits a status whatever the program said.

Source: docs/protocol.md "Status".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from config_daemon.errors import ErrorContext
from config_daemon.wire.messages import timestamp
from config_daemon.wire.status import (
    MAX_STATUS_BYTES,
    TOLD_ERRORS,
    Attempt,
    Problem,
    Running,
    Source,
    Status,
    problems,
)
from config_daemon.wire.workerkeys import WorkerKeys
from config_daemon.worker.report import PROCESS_ENDED, Verdict
from config_daemon.worker.trust import Accepted, Belief, Outcome

_REASON = re.compile(r"[a-z][a-z0-9-]{0,63}")
_CODE = re.compile(r"[A-Z_]{1,64}")
_WORD = re.compile(r"\S+")


class Standing(NamedTuple):
    """What a status says beside who says it, and when."""

    running: Running | None = None
    last_attempt: Attempt | None = None
    flags: tuple[str, ...] = ()


def running_of(accepted: Accepted, source: Source, unix_ms: int) -> Running:
    """Return what runs from now on."""
    update, (_, _, digest) = accepted.update, accepted.floor
    return Running(
        generation=update.generation,
        sequence=update.sequence,
        config_version=update.config_version,
        body_sha256=digest,
        source=source,
        applied_at=timestamp(unix_ms),
    )


def attempt_of(accepted: Accepted, verdict: Verdict, unix_ms: int) -> Attempt:
    """Return how it ended with a message that was tried."""
    assert verdict.state != "held"
    update, (_, _, digest) = accepted.update, accepted.floor
    return Attempt(
        generation=update.generation,
        sequence=update.sequence,
        config_version=update.config_version,
        body_sha256=digest,
        state=verdict.state,
        reason=verdict.reason,
        errors=_told(verdict.errors),
        at=timestamp(unix_ms),
    )


def fatal(attempt: Attempt | None) -> Attempt | None:
    """Return what is told of an attempt that was under way when the process ended."""
    if attempt is None or attempt.state != "pending":
        return attempt
    changes = {"state": "rejected", "reason": "apply-failed", "errors": _told([PROCESS_ENDED])}
    return attempt.model_copy(update=changes)


def withdrawn(attempt: Attempt | None, verdict: Verdict, unix_ms: int) -> Attempt | None:
    """Return what is told of a withdrawal that the program was told of just now."""
    if attempt is None:
        return None
    changes = {"state": verdict.state, "reason": verdict.reason, "errors": _told(verdict.errors)}
    return attempt.model_copy(update={**changes, "at": timestamp(unix_ms)})


def with_trouble(attempt: Attempt | None, error: ErrorContext) -> Attempt | None:
    """Return an attempt with one more problem, the first to be told."""
    if attempt is None:
        return None
    return attempt.model_copy(update={"errors": [*_told([error]), *attempt.errors][:TOLD_ERRORS]})


def ended(pending: Belief, verdict: Verdict, attempt: Attempt | None) -> Belief:
    """Return the belief after an unfinished message: of one that did not work only its number stays."""
    if verdict.state == "pending":
        return replace(pending, attempt=attempt)
    if verdict.state == "applied":
        return replace(pending, outcome="applied", attempt=attempt)
    outcome: Outcome = "rolled-back" if verdict.state == "rolled-back" else "rejected"
    return Belief(pending.floor, pending.previous, None, outcome, pending.current, attempt)


def reason_of(word: object, otherwise: str) -> str:
    """Return a program's own reason where it has the form of one."""
    return word if isinstance(word, str) and _REASON.fullmatch(word) else otherwise


def presentable(text: str) -> str:
    """Return text that any reader can take, without the credentials of URLs in it."""
    return _WORD.sub(_without_credentials, text.encode("utf-8", "backslashreplace").decode())


def _without_credentials(found: re.Match[str]) -> str:
    # by hand: a pattern for all of it takes the square of the length
    word = found.group()
    begin, end = word.find("//") + 2, word.rfind("@")
    return f"{word[:begin]}***{word[end:]}" if 2 <= begin < end else word


def sealed(status: Status, keys: WorkerKeys) -> bytes:
    """Return a status as it travels; of errors that are too long for one, the first."""
    raw, attempt = keys.sign(status), status.last_attempt
    while len(raw) > MAX_STATUS_BYTES and attempt is not None and attempt.errors:
        attempt = attempt.model_copy(update={"errors": attempt.errors[:-1]})
        raw = keys.sign(status.model_copy(update={"last_attempt": attempt}))
    return raw


def _told(errors: Sequence[ErrorContext]) -> list[Problem]:
    return problems(tuple(_presentable(one) for one in errors))


def _presentable(context: ErrorContext) -> ErrorContext:
    return ErrorContext(
        presentable(context.error_type),
        context.error_code if _CODE.fullmatch(context.error_code) else "INVALID",
        presentable(context.message),
        presentable(context.suggestion),
        presentable(context.failed_field),
        presentable(context.received_value),
        presentable(context.expected_type),
        context.fallback_applied,
    )
