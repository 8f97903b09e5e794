"""Services as the agent reads them from its settings: files, rights, commands.

Laws: a file has one template; a problem is said and what can be read is read on, so that all are told at once.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from config_daemon.agent.apply import Plan, Target
from config_daemon.agent.commands import Command
from config_daemon.agent.destination import KEEP
from config_daemon.agent.render import FORMATS
from config_daemon.agent.tables import RenderTable, ServiceTable, setting_problem
from config_daemon.errors import ErrorContext
from config_daemon.wire.topics import is_service

_MODE = re.compile(r"0?[0-7]{3}")
OnDelete = Literal["keep", "stop"]


@dataclass(frozen=True, slots=True)
class Service:
    """One service: how it is put into force, and what happens when it is withdrawn."""

    plan: Plan
    on_delete: OnDelete
    stop: Command | None

    @property
    def longest_seconds(self) -> float:
        """Return how long it may take to put a config into force and to go back again."""
        plan = self.plan
        checks = sum(target.check.seconds for target in plan.targets if target.check)
        tries = sum(command.seconds * plan.attempts for command in (plan.reload, plan.verify) if command)
        waits = 2 * plan.backoff_seconds * float(1 << plan.attempts)
        return checks + 2 * (tries + waits) + _OWN_SECONDS

    @property
    def commands(self) -> tuple[Command, ...]:
        """Return every command of it."""
        checks = [target.check for target in self.plan.targets]
        return tuple(filter(None, [*checks, self.plan.reload, self.plan.verify, self.stop]))


_OWN_SECONDS = 60.0  # for rendering and for slow disks


class ServiceReader:
    """Takes the tables of services apart; what is wrong goes into `problems`."""

    def __init__(self, problems: list[ErrorContext], state: Path) -> None:
        self._problems, self._state = problems, state
        self._destinations: dict[Path, str] = {}

    def read(self, name: str, table: ServiceTable) -> Service:
        """Return a service; what of it is wrong is a problem."""
        where = f"services.{name}"
        if not is_service(name):
            mend = "Lower-case letters, digits and hyphens, beginning with a letter, at most 64."
            self._say("INVALID_SETTING", where, f"{name!r} cannot name a service", mend)
        if not table.render:
            mend = f"Name its files with --render, or in [[{where}.render]]."
            self._say("MISSING_SETTING", f"{where}.render", f"{name} has no file to render", mend)
        seconds = table.command_seconds
        check = self._command(f"{where}.check", "check", table.check, seconds)
        targets = [
            self._target(f"{where}.render.{number}", one, check, seconds)
            for number, one in enumerate(table.render)
        ]
        plan = Plan(
            name, tuple(targets), self._command(f"{where}.reload", "reload", table.reload, seconds),
            self._command(f"{where}.verify", "verify", table.verify, seconds), table.attempts, table.backoff_seconds,
        )  # fmt: skip
        return Service(plan, table.on_delete, self._command(f"{where}.stop", "stop", table.stop, seconds))

    def _target(self, where: str, table: RenderTable, check: Command | None, seconds: float) -> Target:
        path = Path(table.destination).absolute()
        # a folder may have several names; a destination that is a link itself is refused later
        real = Path(os.path.realpath(path.parent), path.name)
        state = Path(os.path.realpath(self._state))
        if real in self._destinations:
            what = f"{path} is the destination of {self._destinations[real]} already"
            self._say("INVALID_SETTING", f"{where}.destination", what, "Give each file one template.")
        if state in (real, *real.parents):
            mend = "Write it somewhere else: that folder is the agent's own."
            self._say("INVALID_SETTING", f"{where}.destination", f"{path} is in the state folder", mend)
        self._destinations[real] = f"{where}.destination"
        mode = None
        if table.mode is not None:
            if _MODE.fullmatch(table.mode):
                mode = int(table.mode, 8)
            else:
                what = f"{where}.mode is not valid: it has three digits from 0 to 7"
                mend = 'For the owner, the group and others: 4 to read and 2 to write, such as "0640".'
                self._say("INVALID_SETTING", f"{where}.mode", what, mend)
        uid, gid = self._owner(f"{where}.owner", table.owner or "")
        own = self._command(f"{where}.check", "check", table.check, seconds)
        source = table.template if table.template in FORMATS else str(Path(table.template).absolute())
        return Target(source, path, mode, uid, gid, own or check)

    def _owner(self, where: str, text: str) -> tuple[int, int]:
        user, _, group = text.partition(":")
        try:
            uid = pwd.getpwnam(user).pw_uid if user else KEEP
            return uid, grp.getgrnam(group).gr_gid if group else KEEP
        except KeyError:
            mend = "Make that user or group, or name another one: USER, USER:GROUP or :GROUP."
            self._say("INVALID_SETTING", where, f"{where}: there is no {text!r} on this machine", mend)
            return KEEP, KEEP

    def _command(self, where: str, role: str, text: str | None, seconds: float) -> Command | None:
        try:
            return Command.parse(role, text, seconds) if text is not None else None
        except ValueError as error:
            mend = "Write the words as for a shell; there is none, so pipes need `sh -c '…'`."
            self._say("INVALID_SETTING", where, f"{where} is no command: {error}", mend)
            return None

    def _say(self, code: str, where: str, what: str, mend: str) -> None:
        self._problems.append(setting_problem(code, where, what, mend))
