"""Put a config into force: render all files, check them, replace them, reload, verify; or go back.

Laws: no file is replaced before all are written and checked; from the first replacement to the last word of
the program a journal says what there was before; what fails is put back whole, and the program told again;
files that are as they should be are left alone, and so is the program.

What cannot be undone: whatever a reload did outside of the files.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from config_daemon import failpoints
from config_daemon.agent.commands import Command
from config_daemon.agent.destination import KEEP, Found, beside, look, place, remove, stage, unstage
from config_daemon.agent.journal import Files, Journal
from config_daemon.agent.render import Config, rendered
from config_daemon.errors import ApplyFailed, ConfigDaemonError, ErrorContext
from config_daemon.worker.apply import RolledBack

Settled = Literal["told", "untold"]


@dataclass(frozen=True, slots=True)
class Target:
    """One file to render: by what, where to, with which rights (None: as it is), and its own check."""

    source: str
    path: Path
    mode: int | None = None
    uid: int = KEEP
    gid: int = KEEP
    check: Command | None = None

    def over(self, content: bytes, found: Found | None) -> Found:
        """Return the file as it should be, where `found` lies now."""
        base = found or Found(b"")
        mode = base.mode if self.mode is None else self.mode
        return Found(
            content, mode, base.uid if self.uid == KEEP else self.uid, base.gid if self.gid == KEEP else self.gid
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How one service is put into force: its files, the commands around them, and how often to try.

    `backoff_seconds` is the wait before the second try; each further one is twice as long.
    """

    service: str
    targets: tuple[Target, ...]
    reload: Command | None = None
    verify: Command | None = None
    attempts: int = 3
    backoff_seconds: float = 1.0


class Applier:
    """Puts configs of one service into force; `stopping` ends the waiting between tries."""

    def __init__(self, plan: Plan, state: Path, stopping: threading.Event) -> None:
        self._plan, self._stopping = plan, stopping
        self._journal = Journal(state, plan.service)

    def apply(self, config: Config, *, is_kept: bool = False) -> bool:
        """Make the files say this config, and have the program take it; False when all was so already.

        One that `is_kept` from an earlier life is not told to a program that may have ended that life.

        Raises: ApplyFailed or InvalidConfig when it was not tried, or nothing could be put back; RolledBack
        when it was tried and what was before is in force again.
        """
        half = self._journal.load()
        facts = _facts(config)
        before: Files = half or {}
        is_tried = False
        try:
            found = {target.path: look(target.path) for target in self._plan.targets}
            before = {**found, **before}
            wanted = self._wanted(config, found)
            if half is None and wanted == found:
                if not self._journal.is_untold:
                    return False
                if is_kept:
                    raise _untold(self._plan.service)
            self._prepare(wanted, facts)
            if half != before:
                self._journal.save(before)
            half, is_tried = before, True
            failpoints.reached("agent_journalled")
            self._restore({path: file for path, file in before.items() if path not in wanted})
            self._place(wanted)
            self._tell(facts)
        except ConfigDaemonError as error:
            self._unstage()
            if half is None:
                raise
            self._go_back(before, facts, error)
            if is_tried and any(before.values()):
                raise RolledBack(error.message, contexts=error.contexts) from error
            raise
        self._journal.mark_told()
        self._journal.drop()
        return True

    def settle(self) -> Settled | None:
        """Put back a set that was left half done and that nothing has finished since; None when there is none.

        `untold`: files only, because an earlier start that told the program too did not live to the end of it.

        Raises: ApplyFailed when that is not possible.
        """
        half = self._journal.load()
        if half is None:
            return None
        if self._journal.is_untold:
            self._restore(half)
            self._journal.drop()
            return "untold"
        self._journal.mark_untold()
        try:
            self._put_back(half, {"CONFIG_SERVICE": self._plan.service, "CONFIG_VERSION": ""})
        finally:  # what failed is tried again; only what ended this process is not
            self._journal.mark_told()
        self._journal.drop()
        return "told"

    def sweep(self) -> None:
        """Remove what an earlier life left beside the files."""
        self._unstage()
        self._journal.sweep()

    def _wanted(self, config: Config, found: Files) -> dict[Path, Found]:
        return {
            target.path: target.over(rendered(target.source, config), found[target.path])
            for target in self._plan.targets
        }

    def _prepare(self, wanted: Mapping[Path, Found], facts: Mapping[str, str]) -> None:
        """Write all files beside their places, and have them checked."""
        for path, file in wanted.items():
            stage(path, file)
        failpoints.reached("agent_staged")
        for target in self._plan.targets:
            if target.check:
                target.check.run(facts, beside(target.path))
        for path, file in wanted.items():
            _check_unchanged(path, file)

    def _place(self, wanted: Mapping[Path, Found]) -> None:
        """Put what waits beside each file into its place; a file that is as it should be is left alone."""
        for path, file in wanted.items():
            if look(path) == file:
                unstage(path)
            else:
                place(path)
            failpoints.reached("agent_amid_placing")
        failpoints.reached("agent_placed")

    def _tell(self, facts: Mapping[str, str]) -> None:
        """Have the program take the files, and ask whether it did."""
        if self._plan.reload:
            self._insist(self._plan.reload, facts)
        failpoints.reached("agent_reloaded")
        if self._plan.verify:
            self._insist(self._plan.verify, facts)
        failpoints.reached("agent_verified")

    def _insist(self, command: Command, facts: Mapping[str, str]) -> None:
        wait = self._plan.backoff_seconds
        for _ in range(self._plan.attempts - 1):
            try:
                command.run(facts)
                return
            except ApplyFailed:
                if self._stopping.wait(wait):
                    raise
                wait *= 2
        command.run(facts)

    def _go_back(self, before: Files, facts: Mapping[str, str], error: ConfigDaemonError) -> None:
        """Put back what was before, and have the program take it.

        Raises: ApplyFailed when that failed too; it says why the way back was taken.
        """
        try:
            self._put_back(before, facts)
        except ApplyFailed as second:
            raise _stuck(second, error) from error
        self._journal.mark_told()
        self._journal.drop()

    def _put_back(self, before: Files, facts: Mapping[str, str]) -> None:
        self._restore(before)
        failpoints.reached("agent_put_back")
        try:
            self._tell(facts)
        except ApplyFailed as error:
            # without any file before, there is nothing that a program could run with
            if any(before.values()):
                raise _NotUp(error.message, contexts=error.contexts) from error

    def _restore(self, before: Files) -> None:
        """Make the files be what they were.

        Raises: ApplyFailed after all were tried, with every one that could not be.
        """
        failures: list[ApplyFailed] = []
        for path, file in before.items():
            try:
                present = look(path)
                if file is None:
                    remove(path)
                elif file != present:
                    stage(path, file)
                    place(path)
                unstage(path)
            except ApplyFailed as error:
                failures.append(error)
            failpoints.reached("agent_amid_put_back")
        if failures:
            contexts = [context for failure in failures for context in failure.contexts]
            raise ApplyFailed(failures[0].message, contexts=contexts)

    def _unstage(self) -> None:
        for target in self._plan.targets:
            unstage(target.path)


class _NotUp(ApplyFailed):
    """All files are what they were, and the program does not run with them."""

    def __init__(self, why: str, contexts: Sequence[ErrorContext]) -> None:
        what = "the files were put back, but the program did not come up with the old ones either"
        super().__init__(f"{what}: {why}", contexts=contexts)
        self.why = why


def _stuck(second: ApplyFailed, first: ConfigDaemonError) -> ApplyFailed:
    """Return one error for a change that failed and for the way back that did; nothing is said twice."""
    is_same = isinstance(second, _NotUp) and second.why == first.message
    what = second.message if is_same else f"{second.message}; before that: {first.message}"
    mend = f"{second.contexts[0].suggestion} It is tried again with the next config and at the next start."
    whole = ErrorContext("apply", "NOT_PUT_BACK", what, mend, failed_field=second.contexts[0].failed_field)
    others = [one for one in second.contexts if one.message not in what]
    return ApplyFailed(what, contexts=[whole, *others], suggestion=mend)


def _check_unchanged(path: Path, wanted: Found) -> None:
    waiting = look(beside(path))
    if waiting is None or waiting.content != wanted.content:
        mend = "Let the check only read the file that it is given."
        what = f"{beside(path)} was changed while it was checked"
        context = ErrorContext("destination", "CHANGED_BY_CHECK", what, mend, failed_field=str(path))
        raise ApplyFailed(what, contexts=[context], suggestion=mend)


def _untold(service: str) -> ApplyFailed:
    what = (
        "the files are what they were, and the program was not told: "
        "the agent ended twice while it was, once on the way back"
    )
    mend = "Look at why the reload ends the agent, and set the config anew, or restart the program and the agent."
    context = ErrorContext("apply", "PROGRAM_NOT_TOLD", what, mend, failed_field=service)
    return ApplyFailed(what, contexts=[context], suggestion=mend)


def _facts(config: Config) -> dict[str, str]:
    return {"CONFIG_SERVICE": config.service, "CONFIG_VERSION": str(config.version)}
