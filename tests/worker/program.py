"""A worker as a program of its own: messages come in on stdin, verdicts go out on stdout.

Form: arguments are the state folder and the public key in hex; each line of stdin is one message in
base64; each line of stdout is `["applied", values]` or `["report", sequence, state, reason, flags]`. A
config with `deadly` ends the process by signal 9 while it is applied.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from config_daemon import failpoints
from config_daemon.wire.keyring import of_key
from config_daemon.wire.keys import public_key_from_text
from config_daemon.wire.topics import Topics
from config_daemon.worker.follow import Follower
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.program import Handed
from config_daemon.worker.report import Report
from config_daemon.worker.trust import Trust

SERVICE = "stt-worker"


def main(folder: str, public_key: str) -> None:
    """Follow one service until stdin ends."""
    failpoints.arm(os.environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    topics = Topics()
    trust = Trust(of_key(public_key_from_text(public_key)), [SERVICE], topics)
    lookout = Lookout(trust, [SERVICE], topics, "program", lambda topic, raw: None)
    follower = Follower(
        trust, Keep(Path(folder), trust.anchor), [SERVICE], topics, apply, report, lookout, first_use="run"
    )
    follower.start()
    for line in sys.stdin:
        follower.receive(topics.config(SERVICE), base64.b64decode(line))


def apply(handed: Handed) -> None:
    """Run with new values."""
    values = handed.values
    if "deadly" in values:
        os.kill(os.getpid(), signal.SIGKILL)
    say("applied", values)


def report(report: Report) -> None:
    """Tell a verdict."""
    say("report", report.sequence, report.state, report.reason, report.flags)


def say(*facts: Any) -> None:
    """Write one line, whole, before anything else happens."""
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
