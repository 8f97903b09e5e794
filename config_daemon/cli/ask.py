"""Ask a living daemon for something: a file in its requests folder, an answer in status.db."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from config_daemon.cli.session import Session
from config_daemon.errors import ConfigDaemonError, StoreUnavailable

PREVIEW = "dry-run"
_TYPED = {"activate-key": "keys rotate --activate"}
ANSWER_SECONDS = 30.0  # for what takes a moment
_LOOK_SECONDS = 0.02


_WAITS = (
    "Start the daemon: it carries the request out if that is not older than ten minutes."
    " Then see `config-daemon status`."
)
_HALF_DONE = (
    "Start the daemon: it finishes what was begun, or gives it up and does it anew, and nothing is lost meanwhile."
    " `config-daemon status` then tells of it."
)
_ENDED = dict.fromkeys(("rebuild", "restore", "adopt"), _HALF_DONE)


class Refused(ConfigDaemonError):
    """The daemon answered and did not do it."""

    code = "REFUSED"


def named(kind: str, arguments: Mapping[str, Any]) -> str:
    """Return a request as its command is typed."""
    what, file = arguments.get("what"), arguments.get("file")
    meant = str(arguments["kind"]) if kind == PREVIEW else kind
    words = [
        "config-daemon",
        _TYPED.get(meant, meant),
        *([str(arguments["service"])] if "service" in arguments else []),
    ]
    if meant == "restore":
        words += ["--from", str(file or what)]
    elif what is not None:
        words.append(f"--{what}")
    return f"`{' '.join([*words, *(['--dry-run'] if kind == PREVIEW else [])])}`"


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
        if not session.daemon_alive and session.view.answer(request_id) is None:
            raise StoreUnavailable(
                f"the daemon ended before it answered {named(kind, arguments)} (request {request_id})",
                suggestion=_ENDED.get(kind, _WAITS),
            )
        if time.monotonic() > until:
            raise StoreUnavailable(
                f"the daemon has not answered {named(kind, arguments)} for {seconds:.0f} s (request {request_id})",
                suggestion="See `config-daemon status`; it is carried out if the daemon still takes it.",
            )
        time.sleep(_LOOK_SECONDS)
    state, result = answer
    if state != "done":
        refused = Refused(str(result.get("message", state)), suggestion=result.get("suggestion"))
        refused.exit_code = int(result.get("exit_code", Refused.exit_code))
        raise refused
    return result
