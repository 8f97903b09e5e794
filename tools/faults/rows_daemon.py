"""Rows 1 to 12: the daemon dies, at a known place or anywhere."""

from __future__ import annotations

import signal

from tools.faults.run import fault
from tools.faults.stage import Stage


@fault(1, "kill-before-commit", rate=0)
def kill_before_commit(stage: Stage) -> None:
    """A writer dies inside its transaction: nobody got an answer, nothing of it is there."""
    doomed = stage.writing_process(100, f"before_commit:kill:{stage.rng.randint(2, 12)}")
    stage.must(doomed.wait() == -signal.SIGKILL, "the writer was to die at its failpoint")
    with stage.traffic(50):
        stage.pass_time(stage.scaled(0.3, 10))


@fault(12, "kill-at-random", rate=50)
def kill_at_random(stage: Stage) -> None:
    """kill -9 at random under 50 writes a second, again and again."""
    for _ in range(int(stage.scaled(3, 100))):
        stage.pass_time(stage.rng.uniform(0.05, 1.2))
        assert stage.daemon is not None
        stage.daemon.kill()
        stage.start_daemon()
