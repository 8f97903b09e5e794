"""What the cache is to hold, kept up to date by what changes, against the same computed from nothing."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from config_daemon.core.plan import Plan
from config_daemon.core.sealed import Fingerprint, Sealed
from config_daemon.daemon.holdings import Holdings

SERVICES = st.sampled_from(["a", "b", "c", "d"])
EPOCHS = ("first", "second")


def expected(plan: Plan, epoch: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of every message that belongs into the cache, and the version of every newer row."""
    numbers: dict[str, int] = {}
    uncovered: dict[str, int] = {}
    for service, entry in plan.services.items():
        covered = 0
        if entry.kept is not None and entry.kept.fingerprint.epoch == epoch:
            numbers[service], covered = entry.kept.sequence, entry.kept.fingerprint.config_version
        if entry.version > covered:
            uncovered[service] = entry.version
    return numbers, uncovered


class HoldingsMachine(RuleBasedStateMachine):
    """Services come, are confirmed, doubted, refused and forgotten; the cache is written now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.plan, self.epoch, self.number = Plan(), EPOCHS[0], 0
        self.holdings = Holdings(self.plan, None)
        self.on_disk: dict[str, int] = {}
        self.held: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self.epoch_held = ""

    def fingerprint(self) -> Fingerprint:
        self.number += 1
        return Fingerprint(b"%032d" % self.number, self.number, self.epoch, 1, "key", False)

    @rule(service=SERVICES, is_sealed=st.booleans(), is_confirmed=st.booleans())
    def change(self, service: str, is_sealed: bool, is_confirmed: bool) -> None:
        wanted = self.fingerprint()
        self.plan.want(service, b"{}", wanted)
        if is_sealed:
            self.plan.remember(service, Sealed(b"raw", self.number, wanted, 2))
        if is_sealed and is_confirmed:
            assert self.plan.confirm(service, self.number)

    @rule()
    def confirm_what_was_sent(self) -> None:
        for service, entry in self.plan.services.items():
            if entry.sealed is not None:
                self.plan.confirm(service, entry.sealed.sequence)

    @rule()
    def lose_the_link(self) -> None:
        self.plan.doubt_all()

    @rule(service=SERVICES)
    def hold_back(self, service: str) -> None:
        self.number += 1
        self.plan.hold_back(service, self.number)

    @rule(service=SERVICES)
    def forget(self, service: str) -> None:
        self.plan.forget(service)

    @rule(service=SERVICES)
    def lose_the_bytes(self, service: str) -> None:
        if service in self.plan.services:
            self.plan.services[service].kept = None
            self.plan.seal_anew(service)

    @rule()
    def replace_the_store(self) -> None:
        self.epoch = EPOCHS[1]

    @rule(is_whole=st.booleans())
    def write(self, is_whole: bool) -> None:
        before, self.held = self.held, expected(self.plan, self.epoch)
        was_epoch, self.epoch_held = self.epoch_held, self.epoch
        is_news = self.holdings.update(self.epoch)
        assert is_news == (before != self.held or was_epoch != self.epoch)
        if is_whole or not self.holdings.fits:
            self.holdings.written_whole()
            self.on_disk = {name: one.sequence for name, one in self.holdings.sealed.items()}

    @invariant()
    def what_is_held_was_computed_right(self) -> None:
        if self.holdings.may_differ:
            return
        numbers = {name: one.sequence for name, one in self.holdings.sealed.items()}
        assert (numbers, self.holdings.uncovered) == expected(self.plan, self.epoch_held)
        if self.holdings.fits:
            added = {name: numbers[name] for name in self.holdings.beside}
            assert self.on_disk | added == numbers


TestHoldings = HoldingsMachine.TestCase
TestHoldings.settings = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
