"""Whatever comes in whatever order, and wherever the process or the disk fails: what holds all the time.

Laws: the floor on disk never falls; what runs was signed, and never steps back but from a message that
ended the process; a refusal changes nothing, a rejection keeps what runs and raises the floor; the worker
always comes up again, and always converges on the next good message.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from config_daemon.worker.keep import Keep
from config_daemon.worker.trust import Belief
from tests.worker.edge import Edge
from tests.worker.updates import OTHER_KEY, SERVICE, TOPIC, tombstone, update

MOODS = ["fine", "fine", "fine", "failing", "invalid", "deadly"]
FATES = ["fine", "full", "killed before", "killed after"]
BOOTS = 4  # a planned end, one by the message itself, and the one that must succeed; one to spare for a plan


class Killed(BaseException):
    """The process ends here, as by signal 9."""


class Disk(Keep):
    """Each save meets the next fate of the plan; then all is well."""

    plan: list[str]

    def save(self, service: str, belief: Belief) -> None:
        fate = self.plan.pop(0) if self.plan else "fine"
        if fate == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if fate == "killed before":
            raise Killed
        super().save(service, belief)
        if fate == "killed after":
            raise Killed


class Issued(NamedTuple):
    """One message that the daemon really signed."""

    raw: bytes
    number: tuple[int, int]
    config: Any
    mood: str


class WorkerLives(RuleBasedStateMachine):
    """Many lives of one worker on one folder."""

    issued = Bundle("issued")

    def __init__(self) -> None:
        super().__init__()
        self.sync = patch("os.fsync", lambda _: None)
        self.sync.start()
        self.folder = tempfile.TemporaryDirectory()
        self.mended, self.generation = False, 1
        self.floor: Issued | None = None
        self.settled = (0, 0)  # the number of what ran when a report said so and the disk agreed
        self.ledger: dict[tuple[int, int], list[Any]] = {}
        self.boot([])

    def teardown(self) -> None:
        self.mended = True
        self.boot([])
        last = Issued(update(99, generation=self.generation), (self.generation, 99), {"number": 99}, "fine")
        self.ledger[last.number] = [last.config]
        self.judged(last, [])
        assert self.edge.runs == last.config
        self.boot([])
        assert self.edge.runs == last.config
        self.sync.stop()
        self.folder.cleanup()

    @rule(
        target=issued,
        sequence=st.integers(1, 12),
        mood=st.sampled_from(MOODS),
        value=st.integers(0, 1),
        version=st.integers(1, 2),
    )
    def issue(self, sequence: int, mood: str, value: int, version: int) -> Issued:
        """The daemon signs something; the same number twice with other content is a fork."""
        config = {mood: 1, "value": value}
        number = (self.generation, sequence)
        self.ledger.setdefault(number, []).append(config)
        raw = update(sequence, config, generation=self.generation, config_version=version)
        return Issued(raw, number, config, mood)

    @rule(target=issued, sequence=st.integers(1, 12))
    def withdraw(self, sequence: int) -> Issued:
        """The daemon signs a tombstone."""
        if self.generation == 1:
            return Issued(tombstone(sequence), (1, sequence), None, "deleted")
        raw = update(sequence, {}, deleted=True, generation=self.generation)
        return Issued(raw, (self.generation, sequence), None, "deleted")

    @rule(message=issued, plan=st.lists(st.sampled_from(FATES), max_size=2))
    def deliver(self, message: Issued, plan: list[str]) -> None:
        """The broker delivers anything that it ever saw, as often as it likes."""
        self.judged(message, plan)

    @rule(message=issued, place=st.integers(0, 10_000))
    def deliver_tampered(self, message: Issued, place: int) -> None:
        """The broker changes one bit."""
        raw = bytearray(message.raw)
        raw[place % len(raw)] ^= 1
        self.refused(bytes(raw), ("bad-tail", "bad-signature"))

    @rule(sequence=st.integers(1, 20))
    def deliver_foreign(self, sequence: int) -> None:
        """Somebody else signs, and the keyring is behind."""
        self.refused(update(sequence, key=OTHER_KEY), ("bad-signature",))
        self.refused(update(sequence, generation=self.generation + 1), ("keyring-behind",))
        self.refused(b"", ("wiped",))

    @rule(plan=st.lists(st.sampled_from(FATES), max_size=2))
    def restart(self, plan: list[str]) -> None:
        """The process ends at any time and comes back."""
        self.boot(plan)

    @rule()
    def upgrade(self) -> None:
        """The program learns to live with what it could not."""
        self.mended = True
        self.boot([])

    @rule()
    def revoke(self) -> None:
        """The keyring's generation is raised."""
        if self.generation < 3:
            self.generation += 1
            self.boot([])

    @invariant()
    def the_floor_on_disk_is_the_highest_ever_accepted(self) -> None:
        floor = self.edge.kept().floor
        assert (floor and floor[:2]) == (self.floor and self.floor.number)

    @invariant()
    def what_runs_was_signed_and_is_bearable(self) -> None:
        for config in self.edge.applied:
            assert any(config in configs for configs in self.ledger.values())
            assert self.mended or "fine" in config

    def boot(self, plan: Sequence[str]) -> None:
        """Start the next life; a life that ends while starting is followed by another."""
        plans = [list(plan)] + [[]] * BOOTS
        for boot_plan in plans[:BOOTS]:
            self.edge = Edge(
                Path(self.folder.name), mended=self.mended, generation=self.generation, disk=Disk
            )
            self.edge.keep.plan = list(boot_plan)  # type: ignore[attr-defined]
            self.edge.on_apply = self.live_or_die
            self.ended: set[bytes] = set()  # messages that need no second look in this life
            try:
                self.edge.start()
            except Killed:
                continue
            break
        else:
            raise AssertionError("it never came up again")
        self.edge.keep.plan = []  # type: ignore[attr-defined]
        if self.edge.kept().outcome == "deleted":
            self.settled = (0, 0)
        started = [(r.generation, r.sequence) for r in self.edge.reports if r.state == "applied"]
        self.runs = started[-1] if started else (0, 0)
        assert self.runs >= self.settled

    def live_or_die(self, values: Any) -> None:
        if "deadly" in values and not self.mended:
            raise Killed

    def judged(self, message: Issued, plan: list[str]) -> None:
        """Deliver a genuine message and compare with what the protocol says."""
        if refusal := self.expected_refusal(message):
            return self.refused(message.raw, (refusal,))
        edge, runs, attempts = self.edge, self.edge.runs, len(self.edge.attempts)
        again = self.floor is not None and self.floor.raw == message.raw
        edge.keep.plan = list(plan)  # type: ignore[attr-defined]
        try:
            wanted_again, report = edge.deliver(message.raw)
        except Killed:
            belief = edge.kept()
            if belief.floor and belief.floor[:2] == message.number:
                self.floor = message
            return self.boot([])
        finally:
            edge.keep.plan = []  # type: ignore[attr-defined]
        if report.state == "held":
            assert wanted_again == bool(report.errors)
            assert again or wanted_again
            assert (edge.runs, len(edge.attempts)) == (runs, attempts)
            return None
        assert not (again and message.raw in self.ended), "tried twice in one life"
        self.floor = message
        self.ended.add(message.raw)
        self.ended_as_said(message, report.state, runs, bool(report.errors))
        return None

    def ended_as_said(self, message: Issued, state: str, runs: Any, trouble: bool) -> None:
        bearable = self.mended or message.mood == "fine"
        if message.mood == "deleted":
            assert (state, self.edge.runs) == ("deleted", runs)
            self.settled = (0, 0)
        elif bearable:
            assert (state, self.edge.runs) == ("applied", message.config)
            assert message.number >= self.runs
            self.runs = message.number
            self.settled = self.settled if trouble else message.number
        else:
            assert (state, self.edge.runs) == ("rejected", runs)

    def expected_refusal(self, message: Issued) -> str | None:
        if message.number[0] < self.generation:
            return "rollback"
        if self.floor is None or message.number > self.floor.number:
            return None
        if message.raw == self.floor.raw:
            return None
        return "fork" if message.number == self.floor.number else "rollback"

    def refused(self, raw: bytes, reasons: tuple[str, ...]) -> None:
        """Deliver what must change nothing at all."""
        edge = self.edge
        before = (edge.kept(), list(edge.attempts))
        report = edge.receive(raw, TOPIC)
        assert report.state == "rejected" and report.reason in reasons
        assert (edge.kept(), edge.attempts) == before
        assert report.service == SERVICE


TestWorkerLives = WorkerLives.TestCase
TestWorkerLives.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
