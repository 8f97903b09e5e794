"""Ask a living daemon for something: a file in its requests folder, an answer in status.db."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from config_daemon.cli.session import Session
from config_daemon.errors import ConfigDaemonError, StoreUnavailable

ANSWER_SECONDS = 30.0  # for what takes a moment
_LOOK_SECONDS = 0.02


class Refused(ConfigDaemonError):
    """The daemon answered and did not do it."""

    code = "REFUSED"


def ask(
    session: Session,
    kind: str,
    reason: str | None,
    arguments: Mapping[str, Any],
    seconds: float = ANSWER_SECONDS,
) -> dict[str, Any]:
    """Leave a request and wait for its answer.

    Raises: Refused with the daemon's reason; StoreUnavailable when it does not answer.
    """
    request_id = str(uuid.uuid4())
    folder = session.files.requests
    content = {"kind": kind, "by": session.actor, "reason": reason, "arguments": dict(arguments)}
    beside = folder / f".{request_id}"
    beside.write_text(json.dumps(content))
    beside.rename(folder / f"{request_id}.json")
    until = time.monotonic() + seconds
    while (answer := session.view.answer(request_id)) is None:
        if time.monotonic() > until or not session.daemon_alive:
            raise StoreUnavailable(
                f"the daemon did not answer the request {request_id}",
                suggestion="See `config-daemon status`; the request is carried out if the daemon still takes it.",
            )
        time.sleep(_LOOK_SECONDS)
    state, result = answer
    if state != "done":
        refused = Refused(str(result.get("message", state)), suggestion=result.get("suggestion"))
        refused.exit_code = int(result.get("exit_code", Refused.exit_code))
        raise refused
    return result
