"""The program at the edge: what it checks of a config, how it takes one, what it runs.

Laws: `apply` is called only with values that passed the program's own check; values that run already are not
handed over again; whatever the program raises becomes a verdict, and what ran before is told to run on. After
an attempt that failed nobody knows whether it does, unless the program says so (`RolledBack`): whatever comes
next is handed over, equal values too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from config_daemon import failpoints
from config_daemon.errors import ConfigDaemonError, ErrorContext, InvalidConfig, RejectedUpdate
from config_daemon.wire.messages import ConfigUpdate
from config_daemon.wire.status import Running, Source
from config_daemon.worker.apply import RestartNeeded, RolledBack
from config_daemon.worker.report import RESTART_NEEDED, Verdict, refused
from config_daemon.worker.standing import reason_of, running_of
from config_daemon.worker.trust import Accepted

_APPLIED = Verdict("applied")


class Handed(NamedTuple):
    """Values for the program, as its own check returned them, the message they came in, and whence."""

    service: str
    values: Any
    update: ConfigUpdate
    source: Source


class Overdue(Exception):
    """The program did not come back in time; what it runs now only a later message can make sure of."""


Apply = Callable[[Handed], None]
Validate = Callable[[Mapping[str, Any]], Any]


class Program:
    """Hands values over, and remembers what was taken last."""

    def __init__(
        self,
        apply: Apply,
        validate: Mapping[str, Validate],
        on_deleted: Callable[[str], None],
        calendar: Callable[[], int],
    ) -> None:
        self._apply, self._validate, self._on_deleted = apply, validate, on_deleted
        self._calendar = calendar
        self._updates: dict[str, ConfigUpdate] = {}
        self._running: dict[str, Running] = {}
        self._unsure: set[str] = set()  # of these a try has failed: the values told may not be in force

    def update(self, service: str) -> ConfigUpdate | None:
        """Return the message that runs."""
        return self._updates.get(service)

    def running(self, service: str) -> Running | None:
        """Return what a status says of it."""
        return self._running.get(service)

    def runs(self, accepted: Accepted) -> bool:
        """Tell whether the values of a message run already."""
        # by their bytes: Python calls 1 and True equal, and a program may change the values it was given
        service = accepted.update.service
        before = self._updates.get(service)
        return (
            before is not None and before.checksum == accepted.update.checksum and service not in self._unsure
        )

    def check(self, accepted: Accepted) -> Any:
        """Take a message through steps 10 and 11; return the values as the program wants them.

        Raises: RejectedUpdate.
        """
        if accepted.update.secrets is not None:
            raise RejectedUpdate(
                "cannot-open", 10, "it carries secrets, and this worker has no key to open them"
            )
        validate = self._validate.get(accepted.update.service)
        if validate is None:
            return accepted.update.config
        try:
            return validate(accepted.update.config)
        except InvalidConfig as error:
            raise RejectedUpdate("invalid", 11, error.message, contexts=error.contexts) from error
        except Exception as error:
            raise RejectedUpdate("invalid", 11, type(error).__name__) from error

    def hand_over(self, accepted: Accepted, values: Any, source: Source) -> Verdict:
        """Step 12: have the program apply the values unless they run."""
        service = accepted.update.service
        if not self.runs(accepted):
            verdict = self._try(Handed(service, values, accepted.update, source))
            if verdict is not _APPLIED:
                if verdict.state != "rolled-back":
                    self._unsure.add(service)
                return verdict
            failpoints.reached("worker_after_apply")
        self._unsure.discard(service)
        self._updates[service] = accepted.update
        self._running[service] = running_of(accepted, source, self._calendar())
        return _APPLIED

    def forget(self, service: str) -> None:
        """Take it that nothing runs: the program has lost what it was given."""
        self._updates.pop(service, None)
        self._running.pop(service, None)

    def delete(self, service: str) -> tuple[ErrorContext, ...]:
        """Tell the program that its config was withdrawn; return what it said to that."""
        try:
            self._on_deleted(service)
        except Exception as error:  # noqa: BLE001 - whatever the program raises, the config is withdrawn
            return (_failed(error, "the program's `on_deleted` failed: "),)
        return ()

    def _try(self, handed: Handed) -> Verdict:
        try:
            self._apply(handed)
        except RolledBack as error:
            reason = reason_of(error.reason, "apply-failed")
            return Verdict("rolled-back", reason, _own(error) or (_failed(error),))
        except RestartNeeded:
            return Verdict("pending", "restart-needed", (RESTART_NEEDED,))
        except Exception as error:  # noqa: BLE001 - whatever the program raises, the old config stays
            contexts = _own(error) or (_failed(error),)
            return refused(RejectedUpdate("apply-failed", 12, _said(error), contexts))
        return _APPLIED


def _own(error: Exception) -> tuple[ErrorContext, ...]:
    """Return what an error of ours says in detail; what a program put there that nobody can tell is left out."""
    own = error.contexts if isinstance(error, ConfigDaemonError) else ()
    return tuple(context for context in own if isinstance(context, ErrorContext))


def _said(error: Exception) -> str:
    try:
        return str(error)
    except Exception as slip:  # noqa: BLE001 - an exception's own words may fail, as any code may
        return f"(its own words fail: {type(slip).__name__})"


def _failed(error: Exception, what: str = "") -> ErrorContext:
    said = _said(error) if isinstance(error, Overdue) else f"{type(error).__name__}: {_said(error)}"
    return ErrorContext(
        "apply", "APPLY_FAILED", what + said, "Look at the worker's log; what ran before runs on."
    )
