"""Commands left as files, for a daemon that listens nowhere.

Laws: one request a tick, the oldest first, which may take several; the answer is in status.db before the file
is gone; an old request is answered `expired` and not carried out; a file that is no request is answered too,
and removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config_daemon.errors import ConfigDaemonError
from config_daemon.store.files import read_capped
from config_daemon.store.status import StatusBoard
from config_daemon.wire import values

MAX_BYTES = 64 * 1024
EXPIRES_SECONDS = 600.0
LOOK_SECONDS = 1.0  # where no hint comes


@dataclass(frozen=True, slots=True)
class Request:
    """One command: what, who asks, why, with what."""

    id: str
    kind: str
    by: str
    reason: str | None
    arguments: Mapping[str, Any]


Carry = Callable[[Request], dict[str, Any] | None]
"""Carries a request out and returns the answer; None: not yet, ask again in the next tick."""


class Requests:
    """The folder of requests; `carry` maps each kind to what carries it out."""

    def __init__(
        self,
        folder: Path,
        board: StatusBoard,
        carry: Mapping[str, Carry],
        now_text: Callable[[], str],
        unix_seconds: Callable[[], float],
    ) -> None:
        self._folder, self._board, self._carry = folder, board, carry
        self._now_text, self._unix_seconds = now_text, unix_seconds
        self._look_at = 0.0

    def take_one(self, now: float, hinted: bool) -> bool:
        """Carry out the oldest request, if there is one, and answer it; looks when hinted, and now and then."""
        if not hinted and now < self._look_at:
            return False
        self._look_at = now + LOOK_SECONDS
        oldest = self._oldest()
        if oldest is None:
            return False
        request_id = oldest.name.removesuffix(".json")
        kind, state, result = self._answer(oldest, request_id)
        if result is None:
            self._look_at = 0.0
            return False
        self._board.answer(request_id, kind, state, self._now_text(), result)
        self._board.flush()
        oldest.unlink(missing_ok=True)
        self._look_at = 0.0
        return True

    def _oldest(self) -> Path | None:
        """Return the oldest regular file; folders and links are nobody's requests."""
        waiting = []
        with contextlib.suppress(OSError), os.scandir(self._folder) as found:
            for entry in found:
                if (
                    entry.name.endswith(".json")
                    and entry.name[0] != "."
                    and entry.is_file(follow_symlinks=False)
                ):
                    waiting.append((entry.stat(follow_symlinks=False).st_mtime, entry.path))
        return Path(min(waiting)[1]) if waiting else None

    def _answer(self, path: Path, request_id: str) -> tuple[str, str, dict[str, Any] | None]:
        try:
            members = values.parse(read_capped(path, MAX_BYTES))
            request = Request(
                request_id,
                str(members["kind"]),
                str(members["by"]),
                members.get("reason"),
                members.get("arguments", {}),
            )
            if self._unix_seconds() - path.stat().st_mtime > EXPIRES_SECONDS:
                return request.kind, "expired", {"message": "older than 10 minutes; ask again"}
            carry = self._carry.get(request.kind)
            if carry is None:
                return request.kind, "refused", {"message": f"this daemon knows no request {request.kind!r}"}
            return request.kind, "done", carry(request)
        except ConfigDaemonError as error:
            return (
                "",
                "failed",
                {
                    "message": error.message,
                    "suggestion": error.suggestion,
                    "exit_code": error.exit_code,
                },
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return "", "refused", {"message": f"not a request: {error}"}
        except Exception as error:  # noqa: BLE001 - the file would end every daemon that comes next
            return "", "failed", {"message": f"the daemon could not do it: {error!r}"}
