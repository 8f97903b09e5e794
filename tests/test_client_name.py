"""Whether somebody took the daemon's client id: told when a broker says so, or a fresh one ends it, and else never."""

from __future__ import annotations

import pytest

from config_daemon.core.health import Findings
from config_daemon.daemon.client_name import BROKE, CONFLICT, ClientName

TAKEN = f"{CONFLICT}: another client connected"


@pytest.fixture
def findings() -> Findings:
    return Findings()


@pytest.fixture
def name(findings: Findings) -> ClientName:
    return ClientName("daemon", findings, lambda: "2026-01-02T03:04:05.678Z")


def pushed(
    name: ClientName, times: int, reason: str = BROKE, lived: float = 1.0, start: float = 100.0
) -> float:
    """Have so many connections end after a while; return when the last one did."""
    now = start
    for _ in range(times):
        name.connected(now)
        now += lived
        name.lost(reason, now)
        now += 1.0
    return now


def test_a_broker_that_says_so_is_believed_at_the_third_time(name: ClientName, findings: Findings) -> None:
    before = name.current
    end = pushed(name, 2, TAKEN)
    assert (list(findings), name.current) == ([], before)
    pushed(name, 1, TAKEN, start=end)
    assert [one.name for one in findings] == [CONFLICT]
    assert name.current != before


def test_the_world_hears_of_a_lost_broker(name: ClientName) -> None:
    name.connected(1.0)
    assert name.lost(TAKEN, 2.0) == "broker-down: another client connected"


def test_connections_that_end_under_every_name_are_nobodys_theft(
    name: ClientName, findings: Findings
) -> None:
    now = pushed(name, 20)
    name.connected(now)
    name.step(now + 4.0)
    name.lost(BROKE, now + 4.5)
    name.step(now + 60.0)
    assert not list(findings)


@pytest.mark.parametrize("lived", [6.0, 40.0])
def test_a_broker_that_now_and_then_ends_a_connection_is_no_thief(
    name: ClientName, findings: Findings, lived: float
) -> None:
    before = name.current
    now = pushed(name, 10, lived=lived)
    name.connected(now)
    name.step(now + 60.0)
    assert (list(findings), name.current) == ([], before)


def test_a_broker_that_was_down_between_is_no_thief(name: ClientName, findings: Findings) -> None:
    now = 100.0
    for _ in range(5):
        now = pushed(name, 1, start=now)
        name.lost("broker-down: nothing listens", now)
    name.connected(now)
    name.step(now + 60.0)
    assert not list(findings)


def test_it_is_over_when_all_was_quiet_for_ten_minutes(name: ClientName, findings: Findings) -> None:
    now = pushed(name, 3)
    name.connected(now)
    name.step(now + 5.0)
    assert [one.name for one in findings] == [CONFLICT]
    name.step(now + 500.0)
    assert list(findings)
    name.step(now + 700.0)
    assert not list(findings)
