"""What strangers send fills no log."""

from __future__ import annotations

from config_daemon.agent.refusals import TELL_SECONDS, Refusals


def test_of_each_kind_one_a_minute_is_told_with_how_many_there_were() -> None:
    now = 0.0
    refusals = Refusals(lambda: now)
    assert [refusals.count("bad-signature") for _ in range(100)] == [1] + 99 * [0]
    assert refusals.count("too-large") == 1, "another kind is news"
    now = TELL_SECONDS - 1
    assert refusals.count("bad-signature") == 0
    now = TELL_SECONDS
    assert [refusals.count("bad-signature") for _ in range(2)] == [101, 0]
    now = 3 * TELL_SECONDS
    assert refusals.count("bad-signature") == 2
