"""Look at everything that the agent will need, before it needs it.

Laws: nothing is written, run or asked of the network; all problems are told at once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from config_daemon.agent.commands import SEARCH_PATH
from config_daemon.agent.destination import look
from config_daemon.agent.journal import left_over
from config_daemon.agent.render import FORMATS, Config, check_template, rendered
from config_daemon.agent.settings import Settings
from config_daemon.agent.tables import setting_problem
from config_daemon.errors import ConfigDaemonError, ErrorContext
from config_daemon.worker.keep import kept_update

_T = TypeVar("_T")


def problems(settings: Settings) -> list[ErrorContext]:
    """Return what would fail later."""
    found = list(_state(settings.state))
    for name in ("ca_file", "certificate_file", "key_file"):
        file = getattr(settings.table, name)
        if file and not os.access(file, os.R_OK):
            found.append(
                setting_problem(
                    "UNREADABLE_FILE", name, f"{file} cannot be read", "Name a file that this user may read."
                )
            )
    for service in settings.services.values():
        for target in service.plan.targets:
            found += [*_tried(check_template, target.source), *_tried(look, target.path)]
            found += _folder(target.path.parent)
        for argv in dict.fromkeys(command.argv for command in service.commands):
            if not shutil.which(argv[0], path=os.environ.get("PATH", SEARCH_PATH)):
                what = f"{argv[0]} ({service.plan.service}) is no command that this user can run"
                found.append(
                    setting_problem(
                        "NO_COMMAND", service.plan.service, what, "Install it, or write its whole path."
                    )
                )
    return list(dict.fromkeys(found))


def renderings(settings: Settings) -> tuple[list[ErrorContext], list[str]]:
    """Render what was kept, in memory; return what would fail, and the services with templates and nothing kept."""
    found: list[ErrorContext] = []
    unseen = []
    for name, service in settings.services.items():
        update = kept_update(settings.state, name)
        if update is not None and not update.deleted:
            config = Config(name, update.config_version, update.config)
            for target in service.plan.targets:
                found += _tried(partial(rendered, config=config), target.source)
        elif any(target.source not in FORMATS for target in service.plan.targets):
            unseen.append(name)
    return found, unseen


def _state(folder: Path) -> Iterator[ErrorContext]:
    present = next(one for one in (folder, *folder.parents) if one.exists())
    if not present.is_dir() or not os.access(present, os.W_OK | os.X_OK):
        mend = "Make it as the agent's user, or set `state` to a folder of that user."
        yield setting_problem("STATE_UNWRITABLE", "state", f"{folder} cannot be written", mend)


def left_behind(settings: Settings) -> Iterator[ErrorContext]:
    """Return what an earlier life left half done of services that are not configured any more; a start mends it."""
    for name in left_over(settings.state):
        if name not in settings.services:
            what = f"files of {name} were left half done, and {name} is not configured any more"
            mend = "Start the agent, which puts them back, and restart their program; or configure it again."
            yield setting_problem("LEFT_HALF_DONE", name, what, mend)


def _folder(folder: Path) -> list[ErrorContext]:
    if not folder.is_dir() or os.access(folder, os.W_OK | os.X_OK):
        return []  # that there is none is told of the file in it
    mend = "Let the agent's user write in it: a new file is renamed into its place."
    return [setting_problem("FOLDER_UNWRITABLE", str(folder), f"{folder} cannot be written", mend)]


def _tried(work: Callable[[_T], object], subject: _T) -> tuple[ErrorContext, ...]:
    try:
        work(subject)
    except ConfigDaemonError as error:
        return error.contexts
    return ()
