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
from config_daemon.errors import RejectedUpdate
from config_daemon.wire.keyring import KEYRING
from config_daemon.wire.status import Attempt
from config_daemon.wire.topics import Topics
from config_daemon.worker.flags import Flags
from config_daemon.worker.keep import Keep
from config_daemon.worker.keyrings import Keyrings
from config_daemon.worker.lookout import Lookout, unix_ms
from config_daemon.worker.program import Apply, Program, Validate
from config_daemon.worker.report import STILL_APPLYING, Report, Verdict, cannot_keep, refused
from config_daemon.worker.standing import Standing, attempt_of, ended, fatal, with_trouble, withdrawn
from config_daemon.worker.trust import REVOKED, Accepted, Belief, Outcome, Trust

KEYRING_BEHIND = "keyring-behind"
FirstUse = Literal["wait", "run"]
OnRevoked = Literal["keep", "refuse-start"]
_HELD, _FATAL = Verdict("held"), Verdict("rejected", "apply-failed")


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
        on_deleted: Callable[[str], None] = lambda service: None,
        is_busy: Callable[[], bool] = lambda: False,
        calendar: Callable[[], int] = unix_ms,
    ) -> None:
        self._trust, self._keep, self._topics, self._lookout = trust, keep, topics, lookout
        self._first_use, self._on_revoked = first_use, on_revoked
        self._keyrings = Keyrings(trust, keep, topics, lookout, report)
        self._program = Program(apply, validate or {}, on_deleted, calendar)
        self._report, self._is_busy, self._calendar = report, is_busy, calendar
        self._services = tuple(services)
        self._belief: dict[str, Belief] = {}
        self._flags = Flags(lambda service: lookout.flags(service, self._program.update(service)))
        self._attempts: dict[str, Attempt | None] = {}
        self._tried: set[str] = set()
        self._heard: set[str] = set()  # what came in this life
        self._waiting: dict[str, Accepted] = {}
        self._later: dict[str, Accepted] = {}  # what waits for a program that is not done yet
        self._unstarted: list[str] = []
        self.wants_restart = False  # the program asked for it: what is kept is tried by the next process

    def start(self) -> None:
        """Run what was accepted before, without asking any broker."""
        keyring_lost = self._keyrings.start()
        for service in self._services:
            belief, lost = self._keep.load(service)
            lost |= keyring_lost
            self._belief[service], self._attempts[service] = belief, belief.attempt
            self._flags.begin(service, has_floor=belief.floor is not None, is_lost=lost)
        for service in self._services:
            self._start_service(service)

    def standing(self, service: str) -> Standing:
        """Return what a status says of a service now."""
        return Standing(self._program.running(service), self._attempts.get(service), self._flags.all(service))

    def newest(self, service: str) -> Outcome | None:
        """Return how the newest message of a service ended; None while no fresh beacon says that it is that.

        It must have come in this life: what failed in an earlier one is tried once more.
        """
        belief = self._belief.get(service, Belief())
        if service not in self._heard or belief.floor is None:
            return None
        return belief.outcome if self._lookout.lists_no_newer(service, belief.floor) else None

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
            self._say(service, None, refused(rejection))
            return rejection.reason != KEYRING_BEHIND
        if belief.floor is None and not self._may_run(service, accepted):
            self._say(service, accepted, _HELD)
            return True
        if accepted.again and not self._worth_another_try(service, belief):
            self._heard.add(service)
            self._say(service, accepted, _HELD)
            return True
        return self._take(service, belief, accepted)

    def again(self, service: str) -> None:
        """Hand over once more what runs, to a program that has lost it."""
        belief = self._belief[service]
        if self._program.running(service) is not None and belief.outcome != "pending":
            self._program.forget(service)
            self._start_service(service)

    def tick(self) -> None:
        """Do and report what comes by the passing of time alone: nobody may have said anything for a while."""
        self._lookout.tick()
        self._catch_up()
        for service in self._services:
            if self._flags.is_news(service):
                self._say(service, None, _HELD)

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
                if belief.current is not None and self._program.update(service) is not None:
                    self._flags.signer(service, self._recalled_flag(service, belief.current))
            self.tick()
        return outcome == "known"

    def _recalled_flag(self, service: str, raw: bytes) -> str | None:
        return self._trust.recall(self._topics.config(service), raw)[1]

    def _confirmed(self, service: str) -> None:
        self._waiting.pop(service, None)
        self._flags.confirmed(service)

    def _worth_another_try(self, service: str, belief: Belief) -> bool:
        return belief.outcome in ("pending", "rejected", "rolled-back") and service not in self._tried

    def _take(self, service: str, belief: Belief, accepted: Accepted) -> bool:
        """Keep it, apply it, keep how that ended, report. False: it could not be kept, nothing has changed."""
        if self._is_busy():
            self._put_off(service, accepted)
            return True
        self._later.pop(service, None)
        kept, values, verdict = self._decide(belief, accepted)
        try:
            self._keep.save(service, kept)
        except OSError as error:
            trouble = (cannot_keep(error),)
            self._attempts[service] = self._attempt(accepted, Verdict("pending", "cannot-keep", trouble))
            self._say(service, accepted, Verdict("held", None, trouble))
            return False
        self._hold(service, kept)
        if kept.outcome == "pending":
            failpoints.reached("worker_after_persist")
            verdict = self._finish(service, kept, accepted, values)
        elif kept.outcome == "deleted":
            verdict = self._withdraw(service, kept)
        self._heard.add(service)
        self._say(service, accepted, verdict)
        return True

    def _decide(self, belief: Belief, accepted: Accepted) -> tuple[Belief, Any, Verdict]:
        """Return what to keep before anything is applied, the values to apply, and the verdict until then."""
        values, verdict = None, Verdict("deleted")
        if not accepted.update.deleted:
            try:
                values, verdict = self._program.check(accepted), Verdict("pending")
            except RejectedUpdate as rejection:
                verdict = refused(rejection)
        is_deleted = verdict.state == "deleted"
        attempt = self._attempt(accepted, Verdict("pending") if is_deleted else verdict)
        if is_deleted:  # done once the program was told
            kept = Belief(accepted.floor, None, belief.good, "deleted", accepted.raw, attempt)
        elif verdict.state == "rejected":
            kept = Belief(accepted.floor, belief.good, belief.previous, "rejected", accepted.raw, attempt)
        else:
            # of values that run already nothing is tried: what was tried last stays told
            told = belief.attempt if self._program.runs(accepted) else attempt
            kept = Belief(accepted.floor, accepted.raw, belief.good, "pending", attempt=told)
        return kept, values, verdict

    def _finish(self, service: str, kept: Belief, accepted: Accepted, values: Any) -> Verdict:
        """Hand the values of a kept message over, and keep how that ended."""
        is_known = self._program.runs(accepted)
        verdict = self._program.hand_over(accepted, values, "broker")
        if verdict.state == "applied":
            self._flags.signer(service, None)
        self.wants_restart |= verdict.state == "pending"
        attempt = kept.attempt if is_known else self._attempt(accepted, verdict)
        return self._conclude(service, ended(kept, verdict, attempt), verdict)

    def _withdraw(self, service: str, belief: Belief) -> Verdict:
        """Tell the program that its config was withdrawn, and keep how that ended for the next start."""
        errors = self._program.delete(service)
        verdict = Verdict("pending", "apply-failed", errors) if errors else Verdict("deleted")
        attempt = withdrawn(belief.attempt, verdict, self._calendar())
        return self._conclude(service, replace(belief, attempt=attempt), verdict)

    def _conclude(self, service: str, belief: Belief, verdict: Verdict) -> Verdict:
        """Keep how an attempt ended; where the disk does not take it, this process knows it all the same."""
        self._hold(service, belief)
        try:
            self._keep.save(service, belief)
        except OSError as error:
            trouble = cannot_keep(error)
            self._attempts[service] = with_trouble(belief.attempt, trouble)
            return verdict._replace(errors=(*verdict.errors, trouble))
        return verdict

    def _hold(self, service: str, belief: Belief) -> None:
        self._belief[service], self._attempts[service] = belief, belief.attempt
        self._tried.add(service)

    def _put_off(self, service: str, accepted: Accepted) -> None:
        """Have a message wait until the program is done with the one before."""
        waiting = self._later.get(service)
        if waiting is None or accepted.floor[:2] >= waiting.floor[:2]:
            self._later[service] = accepted
            verdict = Verdict("pending", "still-applying", (STILL_APPLYING,))
            self._attempts[service] = self._attempt(accepted, verdict)
            self._say(service, accepted, verdict)

    def _catch_up(self) -> None:
        """Take what waited for the program, once it is done."""
        while self._unstarted and not self._is_busy():
            self._start_service(self._unstarted.pop(0))
        for service, accepted in list(self._later.items()):
            if self._is_busy():
                return
            del self._later[service]
            if not self.receive(self._topics.config(service), accepted.raw):
                self._later[service] = accepted

    def _start_service(self, service: str) -> None:
        belief = self._belief[service]
        is_deleted, attempt = belief.outcome == "deleted", belief.attempt
        if attempt is None or attempt.state != "pending" if is_deleted else belief.current is None:
            return
        if self._is_busy():
            self._unstarted.append(service)
        elif is_deleted:
            verdict = self._withdraw(service, belief)
            self._report(Report.about(service, attempt, verdict, self._flags.say(service)))
        elif belief.current is not None and belief.outcome == "pending":
            self._start_unfinished(service, belief, belief.current)
        elif belief.current is not None:
            accepted, verdict = self._try_kept(service, belief.current)
            if accepted is not None and verdict.state != "applied":
                self._attempts[service] = self._attempt(accepted, verdict)
            self._say(service, accepted, verdict)

    def _start_unfinished(self, service: str, belief: Belief, raw: bytes) -> None:
        # Should this try end the process too, the next start begins with the one before and hears the
        # broker: otherwise one message that kills the program could never be replaced from afar.
        self._conclude(service, ended(belief, _FATAL, fatal(belief.attempt)), _FATAL)
        accepted, verdict = self._try_kept(service, raw)
        attempt = self._attempts[service]
        if accepted is not None:
            attempt = self._attempt(accepted, verdict)
            if verdict.state == "applied" and belief.attempt and belief.attempt.sequence != attempt.sequence:
                attempt = belief.attempt  # it was a re-seal of what ran
        self._say(service, accepted, self._conclude(service, ended(belief, verdict, attempt), verdict))
        if verdict.state != "applied" and belief.previous is not None:
            if self._is_busy():
                self._unstarted.append(service)
            else:
                self._say(service, *self._try_kept(service, belief.previous))

    def _try_kept(self, service: str, raw: bytes) -> tuple[Accepted | None, Verdict]:
        """Apply a message that was accepted before, and tell how that ended."""
        accepted: Accepted | None = None
        try:
            accepted, flag = self._trust.recall(self._topics.config(service), raw)
            if flag == REVOKED and self._on_revoked == "refuse-start":
                raise RejectedUpdate("revoked-key", 5, f"key {accepted.update.key_id} was revoked")
            values = self._program.check(accepted)
        except RejectedUpdate as rejection:
            return accepted, refused(rejection)
        verdict = self._program.hand_over(accepted, values, "cache")
        if verdict.state == "pending":  # it has just started: another one would not end otherwise
            return accepted, verdict._replace(state="rejected", reason="apply-failed")
        if verdict.state == "applied":
            self._flags.signer(service, flag)
        return accepted, verdict

    def _attempt(self, accepted: Accepted, verdict: Verdict) -> Attempt:
        return attempt_of(accepted, verdict, self._calendar())

    def _say(self, service: str, accepted: Accepted | None, verdict: Verdict) -> None:
        update = accepted.update if accepted else None
        self._report(Report.about(service, update, verdict, self._flags.say(service)))
