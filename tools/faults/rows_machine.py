"""Rows 43 to 50: the disk, the descriptors, the clock, `.env`, inotify, the cache's file."""

from __future__ import annotations

from tools.faults.hands import Clock
from tools.faults.run import fault
from tools.faults.stage import Stage

HOUR, YEAR = 3600.0, 365 * 86400.0


@fault(47, "clock-back-and-killed", rate=0)
def clock_back_and_killed(stage: Stage) -> None:
    """The daemon is killed before the cache knows, and starts with a clock an hour behind: no number is used twice."""
    clock = Clock(stage)
    stage.kill_daemon()
    daemon = stage.start_daemon("before_lkg_rename:kill:1")
    stage.until(stage.connected, "the daemon")
    stage.write_each()
    stage.must(daemon.wait() != 0, "the daemon was to die before its cache was in place")
    clock.turn(-HOUR)
    stage.start_daemon(**clock.environment)
    stage.until(stage.connected, "the daemon")
    stage.write_each()
    stage.until(lambda: stage.in_force(stage.stored_versions()), "what was written then")
    clock.turn(0)
