"""Follow services: take each message through all steps, keep it, apply it, say what became of it.

Laws: nothing is applied that was not verified and made durable first; `applied` is said after the
program's own `apply` returned; a refusal keeps what runs and raises the floor; an attempt that failed
is tried once more at the next start, because the program may have been mended; one that ended the
process is tried by the next start and not by the one after that, which starts from the good one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from config_daemon import failpoints
from config_daemon.errors import ErrorContext, InvalidConfig, RejectedUpdate
from config_daemon.wire.keyring import KEYRING
from config_daemon.wire.messages import ConfigUpdate
from config_daemon.wire.topics import Topics
from config_daemon.worker.keep import Keep
from config_daemon.worker.keyrings import Keyrings
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.report import Report, State, cannot_keep
from config_daemon.worker.trust import RETIRED, REVOKED, Accepted, Belief, Trust

KEYRING_BEHIND = "keyring-behind"
FirstUse = Literal["wait", "run"]
OnRevoked = Literal["keep", "refuse-start"]
Apply = Callable[[str, Any], None]
Validate = Callable[[Mapping[str, Any]], Any]


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
        lookout: Lookout,
        validate: Mapping[str, Validate] | None = None,
        first_use: FirstUse = "wait",
        on_revoked: OnRevoked = "keep",
    ) -> None:
        self._trust, self._keep, self._topics, self._lookout = trust, keep, topics, lookout
        self._first_use, self._on_revoked = first_use, on_revoked
        self._keyrings = Keyrings(trust, keep, topics, lookout, report)
        self._apply, self._report, self._validate = apply, report, validate or {}
        self._services = tuple(services)
        self._belief: dict[str, Belief] = {}
        self._flags: dict[str, tuple[str, ...]] = {}
        self._running: dict[str, ConfigUpdate] = {}  # what the program applied last
        self._tried: set[str] = set()
        self._waiting: dict[str, Accepted] = {}
        self._said_flags: dict[str, tuple[str, ...]] = {}

    def start(self) -> None:
        """Run what was accepted before, without asking any broker."""
        keyring_lost = self._keyrings.start()
        for service in self._services:
            belief, lost = self._keep.load(service)
            lost |= keyring_lost
            self._belief[service] = belief
            unconfirmed = ("unconfirmed",) if belief.floor is None else ()
            self._flags[service] = (*unconfirmed, "floor-lost") if lost else unconfirmed
            self._said_flags[service] = self._flags[service]  # told with the first message
            if belief.current is not None and belief.outcome != "deleted":
                self._start_from_kept(service, belief, belief.current)

    def receive(self, topic: str, raw: bytes) -> bool:
        """Take one message; a config ends in exactly one report. False: have what is retained delivered again.

        Raises: RuntimeError before `start`, when nobody knows the floor yet.
        """
        if self._topics.is_keyring(topic):
            return self._heed_keyring(topic, raw)
        if self._topics.is_beacon(topic):
            return self._heed(topic, raw)
        service = self._topics.service_of(topic) or ""
        if service in self._services and service not in self._belief:
            raise RuntimeError("start() comes before the first message")
        belief = self._belief.get(service, Belief())
        try:
            accepted = self._trust.judge(topic, raw, belief)
        except RejectedUpdate as rejection:
            if rejection.reason in ("rollback", "fork"):
                self._lookout.show(service, *filter(None, [belief.at_floor]))
            elif rejection.reason in ("wrong-key", "revoked-key"):  # whoever signs so has forgotten a keyring
                self._lookout.show(KEYRING, *self._trust.proof)
            self._say(service, None, "rejected", rejection)
            return rejection.reason != KEYRING_BEHIND
        if belief.floor is None and not self._may_run(service, accepted):
            self._say(service, accepted, "held")
            return True
        if accepted.again and not self._worth_another_try(service, belief):
            self._say(service, accepted, "held")
            return True
        return self._take(service, belief, accepted)

    def tick(self) -> None:
        """Report what changes by the passing of time alone: nobody may have said anything for a while."""
        self._lookout.tick()
        for service in self._services:
            if service in self._belief and self._all_flags(service) != self._said_flags.get(service, ()):
                self._say(service, None, "held")

    def _may_run(self, service: str, accepted: Accepted) -> bool:
        """Tell whether a first message may be taken: without a floor, only a fresh beacon tells today's from old."""
        if self._lookout.confirms(service, accepted.floor):
            self._confirmed(service)
            return True
        waiting = self._waiting.get(service)
        if waiting is None or accepted.floor[:2] > waiting.floor[:2]:
            self._waiting[service] = accepted
        return self._first_use == "run"

    def _heed(self, topic: str, raw: bytes) -> bool:
        """Take a beacon. False: it lists what never came, have it delivered again."""
        try:
            news = self._lookout.take(topic, raw, {name: one.floor for name, one in self._belief.items()})
        except RejectedUpdate as rejection:  # proves nothing; if no good one comes, that shows
            return rejection.reason != KEYRING_BEHIND
        if not news:
            return True
        is_starved = self._lookout.compare_keyring()
        for service, belief in list(self._belief.items()):
            waiting = self._waiting.get(service)
            if (
                belief.floor is None
                and waiting is not None
                and self._lookout.confirms(service, waiting.floor)
            ):
                self._confirmed(service)
                is_starved |= not self._take(service, belief, waiting)
            elif belief.floor is not None and self._lookout.confirms(service, belief.floor):
                self._confirmed(service)
                self._lookout.compare(service, belief)
            else:
                is_starved |= self._lookout.compare(service, belief)
        self.tick()
        return not is_starved

    def _heed_keyring(self, topic: str, raw: bytes) -> bool:
        """Take a keyring. False: what was refused before may be accepted now, have it delivered again."""
        outcome = self._keyrings.take(topic, raw)
        if outcome == "taken":
            for service, belief in self._belief.items():
                if belief.current is not None and service in self._running:
                    self._flag_signer(service, self._recalled_flag(service, belief.current))
            self.tick()
        return outcome == "known"

    def _recalled_flag(self, service: str, raw: bytes) -> str | None:
        return self._trust.recall(self._topics.config(service), raw)[1]

    def _flag_signer(self, service: str, flag: str | None) -> None:
        """Say of what runs how its signer would be judged today."""
        others = (one for one in self._flags[service] if one not in (RETIRED, REVOKED))
        self._flags[service] = (*others, flag) if flag else tuple(others)

    def _confirmed(self, service: str) -> None:
        self._waiting.pop(service, None)
        self._flags[service] = tuple(flag for flag in self._flags[service] if flag != "unconfirmed")

    def _all_flags(self, service: str) -> tuple[str, ...]:
        found = (*self._flags.get(service, ()), *self._lookout.flags(service, self._running.get(service)))
        return tuple(dict.fromkeys(found))

    def _worth_another_try(self, service: str, belief: Belief) -> bool:
        return belief.outcome in ("pending", "rejected") and service not in self._tried

    def _take(self, service: str, belief: Belief, accepted: Accepted) -> bool:
        """Keep it, apply it, keep how that ended, report. False: it could not be kept, nothing has changed."""
        kept, values, rejection = self._decide(service, belief, accepted)
        try:
            self._keep.save(service, kept)
        except OSError as error:
            self._say(service, accepted, "held", errors=(cannot_keep(error),))
            return False
        self._belief[service] = kept
        self._tried.add(service)
        trouble: tuple[ErrorContext, ...] = ()
        if kept.outcome == "pending":
            failpoints.reached("worker_after_persist")
            rejection = self._hand_over(service, accepted, values)
            ended = _undone(kept) if rejection else replace(kept, outcome="applied")
            trouble = self._conclude(service, ended)
        verdict: State = "rejected" if rejection else "deleted" if kept.outcome == "deleted" else "applied"
        self._say(service, accepted, verdict, rejection, trouble)
        return True

    def _decide(
        self, service: str, belief: Belief, accepted: Accepted
    ) -> tuple[Belief, Any, RejectedUpdate | None]:
        """Return what to keep before anything is applied, the values to apply, and why not to."""
        if accepted.update.deleted:
            return Belief(accepted.floor, None, belief.good, "deleted", accepted.raw), None, None
        try:
            values = self._check(service, accepted)
        except RejectedUpdate as rejection:
            kept = Belief(accepted.floor, belief.good, belief.previous, "rejected", accepted.raw)
            return kept, None, rejection
        return Belief(accepted.floor, accepted.raw, belief.good, "pending"), values, None

    def _conclude(self, service: str, belief: Belief) -> tuple[ErrorContext, ...]:
        """Keep how an attempt ended; where the disk does not take it, this process knows it all the same."""
        self._belief[service] = belief
        self._tried.add(service)
        try:
            self._keep.save(service, belief)
        except OSError as error:
            return (cannot_keep(error),)
        return ()

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

    def _hand_over(self, service: str, accepted: Accepted, values: Any) -> RejectedUpdate | None:
        """Step 12: have the program apply the values unless they run; return why it did not."""
        # by their bytes: Python calls 1 and True equal, and a program may change the values it was given
        before = self._running.get(service)
        if before is None or before.checksum != accepted.update.checksum:
            try:
                self._apply(service, values)
            except Exception as error:  # noqa: BLE001 - whatever the program raises, the old config stays
                return RejectedUpdate("apply-failed", 12, f"{type(error).__name__}: {error}")
            failpoints.reached("worker_after_apply")
        self._running[service] = accepted.update
        self._flag_signer(service, None)
        return None

    def _start_from_kept(self, service: str, belief: Belief, raw: bytes) -> None:
        if belief.outcome != "pending":
            self._run_kept(service, raw)
            return
        # Should this try end the process too, the next start begins with the one before and hears the
        # broker: otherwise one message that kills the program could never be replaced from afar.
        trouble = self._conclude(service, _undone(belief))
        if not self._run_kept(service, raw, belief, trouble) and belief.previous is not None:
            self._run_kept(service, belief.previous)

    def _run_kept(
        self,
        service: str,
        raw: bytes,
        unfinished: Belief | None = None,
        trouble: tuple[ErrorContext, ...] = (),
    ) -> bool:
        """Apply a message that was accepted before, and tell whether that worked."""
        accepted: Accepted | None = None
        rejection: RejectedUpdate | None
        try:
            accepted, flag = self._trust.recall(self._topics.config(service), raw)
            if flag == REVOKED and self._on_revoked == "refuse-start":
                raise RejectedUpdate("revoked-key", 5, f"key {accepted.update.key_id} was revoked")
            rejection = self._hand_over(service, accepted, self._check(service, accepted))
            if not rejection:
                self._flag_signer(service, flag)
        except RejectedUpdate as error:
            rejection = error
        if unfinished is not None and not rejection:
            trouble = self._conclude(service, replace(unfinished, outcome="applied"))
        self._say(service, accepted, "rejected" if rejection else "applied", rejection, trouble)
        return not rejection

    def _say(
        self,
        service: str,
        accepted: Accepted | None,
        state: State,
        rejection: RejectedUpdate | None = None,
        errors: tuple[ErrorContext, ...] = (),
    ) -> None:
        update = accepted.update if accepted else None
        self._said_flags[service] = self._all_flags(service)
        self._report(
            Report(
                service,
                update.generation if update else None,
                update.sequence if update else None,
                update.config_version if update else None,
                state,
                rejection.reason if rejection else None,
                self._said_flags[service],
                (*(rejection.contexts if rejection else ()), *errors),
            )
        )


def _undone(pending: Belief) -> Belief:
    """Return the belief without an unfinished message: only its number stays."""
    return Belief(pending.floor, pending.previous, None, "rejected", pending.current)
