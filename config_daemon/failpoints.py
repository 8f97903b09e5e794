"""Named points at which a test lets the process die.

Laws: nothing is armed unless `CONFIG_DAEMON_FAILPOINT` says so when the program starts; an armed
point says on stderr that it was reached before it acts, so that no test passes by never getting there.

Form: `NAME:ACTION[:N]`, comma separated; ACTION is `kill` (SIGKILL to this process) or `exit`; N is
the count of the passage that acts (default 1).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

NAMES = frozenset(
    {
        "before_commit", "after_commit",
        "amid_store_copy", "after_store_copy", "before_upgrade", "after_upgrade",
        "before_put_back", "amid_put_back", "after_put_back",
        "after_read", "after_reserve", "after_seal", "after_send", "after_confirm", "after_status",
        "before_lkg_rename", "after_lkg",
        "worker_after_persist", "worker_after_apply",
        "rebuild_built", "rebuild_intended", "rebuild_database_moved", "rebuild_moved", "rebuild_placed",
        "rebuild_epoch_told", "rebuild_cache_aside", "rebuild_marked", "adopt_committed", "purge_marked",
        "agent_staged", "agent_journalled", "agent_amid_placing", "agent_placed", "agent_reloaded", "agent_verified",
        "agent_amid_put_back", "agent_put_back",
        "after_keys_env", "before_keyring", "after_keyring", "before_enter", "after_enter", "after_rekey",
    }
)  # fmt: skip

_armed: dict[str, tuple[Callable[[], None], int]] = {}


def arm(specification: str) -> None:
    """Arm the points named in `specification`; an unknown name or action is an error.

    Raises: ValueError.
    """
    for part in filter(None, specification.split(",")):
        name, _, rest = part.partition(":")
        action, _, count = rest.partition(":")
        if name not in NAMES or action not in _ACTIONS:
            raise ValueError(f"no such failpoint: {part!r}; points: {', '.join(sorted(NAMES))}")
        _armed[name] = (_ACTIONS[action], int(count or 1))


def reached(name: str) -> None:
    """Mark that the program passes the point `name`; does nothing unless the point is armed."""
    if not _armed or name not in _armed:
        return
    action, left = _armed[name]
    _armed[name] = (action, left - 1)
    if left == 1:
        sys.stderr.write(f"failpoint reached: {name}\n")
        sys.stderr.flush()
        action()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit() -> None:
    os._exit(70)


_ACTIONS: dict[str, Callable[[], None]] = {"kill": _kill, "exit": _exit}
