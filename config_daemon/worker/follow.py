"""Follow services: take each message through all steps, keep it, apply it, say what became of it.

Laws: nothing is applied that was not verified and made durable first; `applied` is said after the
program's own `apply` returned; a refusal keeps what runs and raises the floor; an attempt that failed
is tried once more at the next start, because the program may have been mended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from config_daemon import failpoints
from config_daemon.errors import ErrorContext, InvalidConfig, RejectedUpdate
from config_daemon.wire.topics import Topics
from config_daemon.worker.keep import Keep
from config_daemon.worker.trust import Accepted, Belief, Trust

State = Literal["applied", "rejected", "deleted", "held"]
Apply = Callable[[str, Any], None]
Validate = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Report:
    """One verdict: which message, what became of it, why, and what a person should know."""

    service: str
    generation: int | None
    sequence: int | None
    config_version: int | None
    state: State
    reason: str | None = None
    flags: tuple[str, ...] = ()
    errors: tuple[ErrorContext, ...] = ()


class Follower:
    """Holds the belief of every followed service, and changes it in one place."""

    def __init__(
        self,
        trust: Trust,
        keep: Keep,
        services: Sequence[str],
        topics: Topics,
        apply: Apply,
        report: Callable[[Report], None],
        validate: Mapping[str, Validate] | None = None,
    ) -> None:
        self._trust, self._keep, self._topics = trust, keep, topics
        self._apply, self._report, self._validate = apply, report, validate or {}
        self._services = tuple(services)
        self._belief: dict[str, Belief] = {}
        self._flags: dict[str, tuple[str, ...]] = {}
        self._running: dict[str, dict[str, Any]] = {}
        self._tried: set[str] = set()

    def start(self) -> None:
        """Run what was accepted before, without asking any broker."""
        for service in self._services:
            belief, lost = self._keep.load(service)
            self._belief[service] = belief
            unconfirmed = ("unconfirmed",) if belief.floor is None else ()
            self._flags[service] = (*unconfirmed, "floor-lost") if lost else unconfirmed
            if belief.current is not None and belief.outcome != "deleted":
                self._start_from_kept(service, belief, belief.current)

    def receive(self, topic: str, raw: bytes) -> bool:
        """Take one message; ends in exactly one report. False: a passing trouble, have it delivered again."""
        service = self._topics.service_of(topic) or ""
        belief = self._belief.get(service, Belief())
        try:
            accepted = self._trust.judge(topic, raw, belief)
        except RejectedUpdate as rejection:
            self._say(service, None, "rejected", rejection)
            return True
        if accepted.again and not self._worth_another_try(service, belief):
            self._say(service, accepted, "held")
            return True
        try:
            self._take(service, belief, accepted)
        except OSError as error:
            self._say(service, accepted, "held", errors=(_cannot_keep(error),))
            return False
        return True

    def _worth_another_try(self, service: str, belief: Belief) -> bool:
        return belief.outcome in ("pending", "rejected") and service not in self._tried

    def _take(self, service: str, belief: Belief, accepted: Accepted) -> None:
        self._tried.add(service)
        if accepted.update.deleted:
            self._save(service, Belief(accepted.floor, None, belief.current, "deleted"))
            self._say(service, accepted, "deleted")
            return
        try:
            values = self._check(service, accepted)
        except RejectedUpdate as rejection:
            self._save(service, replace(belief, floor=accepted.floor, outcome="rejected"))
            self._say(service, accepted, "rejected", rejection)
            return
        before = belief.previous if belief.outcome == "pending" and accepted.again else belief.current
        pending = Belief(accepted.floor, accepted.raw, before, "pending")
        self._save(service, pending)
        failpoints.reached("worker_after_persist")
        if self._hand_over(service, accepted, values):
            self._save(service, replace(pending, outcome="applied"))
        else:
            self._save(service, Belief(accepted.floor, before, None, "rejected"))

    def _check(self, service: str, accepted: Accepted) -> Any:
        """Steps 10 and 11: what the message needs from this worker, and the program's own schema."""
        if accepted.update.secrets is not None:
            raise RejectedUpdate(
                "cannot-open", 10, "it carries secrets, and this worker has no key to open them"
            )
        validate = self._validate.get(service)
        if validate is None:
            return accepted.update.config
        try:
            return validate(accepted.update.config)
        except InvalidConfig as error:
            raise RejectedUpdate("invalid", 11, error.message, contexts=error.contexts) from error
        except Exception as error:
            raise RejectedUpdate("invalid", 11, type(error).__name__) from error

    def _hand_over(self, service: str, accepted: Accepted, values: Any) -> bool:
        config = accepted.update.config
        if self._running.get(service) == config:
            self._say(service, accepted, "applied")
            return True
        try:
            self._apply(service, values)
        except Exception as error:  # noqa: BLE001 - whatever the program raises, the old config stays
            self._say(
                service,
                accepted,
                "rejected",
                RejectedUpdate("apply-failed", 12, f"{type(error).__name__}: {error}"),
            )
            return False
        failpoints.reached("worker_after_apply")
        self._running[service] = config
        self._say(service, accepted, "applied")
        return True

    def _start_from_kept(self, service: str, belief: Belief, raw: bytes) -> None:
        topic = self._topics.config(service)
        try:
            accepted = self._trust.judge(topic, raw, replace(belief, floor=None))
            values = self._check(service, accepted)
        except RejectedUpdate as rejection:
            self._say(service, None, "rejected", rejection)
            return
        if belief.outcome == "pending":
            self._tried.add(service)
        done = self._hand_over(service, accepted, values)
        if belief.outcome == "pending" and belief.floor is not None:
            kept = (
                replace(belief, outcome="applied")
                if done
                else Belief(belief.floor, belief.previous, None, "rejected")
            )
            self._save(service, kept)

    def _save(self, service: str, belief: Belief) -> None:
        self._keep.save(service, belief)
        self._belief[service] = belief

    def _say(
        self,
        service: str,
        accepted: Accepted | None,
        state: State,
        rejection: RejectedUpdate | None = None,
        errors: tuple[ErrorContext, ...] = (),
    ) -> None:
        update = accepted.update if accepted else None
        self._report(
            Report(
                service,
                update.generation if update else None,
                update.sequence if update else None,
                update.config_version if update else None,
                state,
                rejection.reason if rejection else None,
                self._flags.get(service, ()),
                errors or (rejection.contexts if rejection else ()),
            )
        )


def _cannot_keep(error: OSError) -> ErrorContext:
    return ErrorContext(
        "storage",
        "CANNOT_KEEP",
        f"the new config could not be made durable: {error.strerror}",
        "Free space in the worker's state folder; the old config runs on and the new one is tried again.",
    )
