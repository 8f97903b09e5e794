"""What lies beside the database: `.env` and the definitions, followed while the daemon runs.

Laws: a change of `.env` counts when two looks agree; what cannot be read changes nothing; a `.env` that
is gone at start although it gave values before stops the services that it gave them to, because their
real values are missing and the database's are not a substitute; one that lost the daemon's own keys while
it runs is torn, and refused.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection
from pathlib import Path

from config_daemon.catalog.catalog import Catalog
from config_daemon.catalog.definition import env_name
from config_daemon.core.definition import Override
from config_daemon.core.health import Findings
from config_daemon.errors import ErrorContext, SettingsError
from config_daemon.settings import SECRET_NAMES
from config_daemon.store.dotenv import EnvFile
from config_daemon.store.dotenv_looks import TwoLooks
from config_daemon.store.files import READABLE_MODE, replace_durably
from config_daemon.store.overrides import overrides_of, united
from config_daemon.store.status import StatusBoard
from config_daemon.store.unsealed import Fixed

SCHEMAS_SECONDS, ENV_SECONDS = 5.0, 1.0  # without a hint
Overrides = dict[str, dict[str, Override]]


class Surroundings:
    """Follows `.env` and the schema folder; tells which services have to be resolved again."""

    def __init__(
        self,
        path: Path,
        catalog: Catalog,
        findings: Findings,
        board: StatusBoard,
        touched_before: frozenset[str],
        now_text: Callable[[], str],
        keep_touched: Callable[[Collection[str], Fixed], None],
        fixed_before: Fixed,
    ) -> None:
        self._path, self._catalog, self._findings, self._board = path, catalog, findings, board
        self._touched_before, self._now_text, self._keep_touched = touched_before, now_text, keep_touched
        self._looks = TwoLooks(path, lambda name: name in catalog.env_names(), self._lacks, SECRET_NAMES)
        self._schemas_at = self._env_at = 0.0
        self._needs_told = False
        self._refused: tuple[ErrorContext, ...] = ()
        self.overrides: Overrides = {}
        self.fixed = (
            fixed_before  # now, or at any time since the cache was last written: what was published has it
        )
        self.orphaned: frozenset[str] = frozenset()
        self.settled = False

    def look(self, now: float, near: Collection[str] = ()) -> set[str]:
        """Return the services to resolve again; `settled` turns true once `.env` is known."""
        changed: set[str] = set()
        if "env" in near or now >= self._env_at or self.next_due(now) <= 0:
            self._env_at = now + ENV_SECONDS
            changed |= self._follow_env(now)
        if "schemas" in near or now >= self._schemas_at:  # may take long, while `.env` waits anyway
            self._schemas_at = now + SCHEMAS_SECONDS
            changed |= self._follow_definitions()
        return changed

    def _follow_env(self, now: float) -> set[str]:
        found = self._looks.look(now)
        changed = set() if found is None else self._take(found)
        if not self.settled and self._looks.next_look is None:
            self.settled = True
            if self._looks.current is None or self._refused:
                self.orphaned = self._touched_before
        self._tell_problems()
        return changed

    @property
    def env_file(self) -> EnvFile | None:
        """Return `.env` as it counts now, None before it was read."""
        return self._looks.current

    def tell(self) -> None:
        """Say in status.db which values `.env` fixes."""
        self._board.env_locks(
            (service, key, str(self._path), override.line)
            for service, keys in self.overrides.items()
            for key, override in keys.items()
        )

    def cache_written(self) -> None:
        """Forget what `.env` does not fix any more: nothing that was published depends on it."""
        self.fixed = united({}, self.overrides)

    def _lacks(self, file: EnvFile) -> bool:
        """Tell whether a first file gives nothing to a service that an earlier life's file gave values to."""
        try:
            return bool(self._touched_before - overrides_of(file, self._catalog.env_names()).keys())
        except SettingsError:
            return False

    def next_due(self, now: float) -> float:
        """Return in how many seconds the next look is wanted."""
        return 60.0 if self._looks.next_look is None else max(0.0, self._looks.next_look - now)

    def _take(self, file: EnvFile) -> set[str]:
        try:
            overrides = overrides_of(file, self._catalog.env_names())
        except SettingsError as error:
            self._refused = error.contexts
            return set()
        self._refused = ()
        changed = set(self.orphaned)
        self.orphaned = frozenset()
        services = self.overrides.keys() | overrides.keys()
        changed |= {name for name in services if self.overrides.get(name) != overrides.get(name)}
        fixed = united(self.fixed, overrides)
        if overrides.keys() != self.overrides.keys() or fixed != self.fixed:
            self.fixed = fixed
            self._keep_touched(overrides.keys(), fixed)  # before anything that came of it is published
        self.overrides = overrides
        self.tell()
        self._tell_unknown(file)
        return changed

    def _follow_definitions(self) -> set[str]:
        changed = self._catalog.refresh()
        problems = {problem.failed_field or "schemas": problem.message for problem in self._catalog.problems}
        self._findings.replace("schema-file-invalid", problems, self._now_text())
        if changed or not self._needs_told:
            self._needs_told = True
            self._tell_needs()
        if changed and self._looks.current is not None:
            changed |= self._take(self._looks.current)  # a new definition gives meaning to names in .env
        return changed

    def _tell_needs(self) -> None:
        """Tell of definitions that depend on what nothing defines."""
        known = set(self._catalog.names())
        lacking = {}
        for service in known:
            definition = self._catalog.get(service)
            unknown = [name for name in definition.dependencies if name not in known] if definition else []
            if unknown:
                lacking[service] = f"it depends on {', '.join(unknown)}, which nothing defines"
        self._findings.replace("dependency-unknown", lacking, self._now_text())

    def _tell_problems(self) -> None:
        problems = self._looks.problems
        missing = [problem for problem in problems if problem.error_code == "ENV_MISSING"]
        self._say("env-missing", missing if self._touched_before or self.overrides else [])
        self._say(
            "env-invalid", [*self._refused, *(problem for problem in problems if problem not in missing)]
        )

    def _say(self, name: str, problems: list[ErrorContext]) -> None:
        if problems:
            self._findings.open(name, ".env", "; ".join(p.message for p in problems[:3]), self._now_text())
        else:
            self._findings.close(name, ".env")

    def _tell_unknown(self, file: EnvFile) -> None:
        """Tell of names that look like a service's value and are none: they would be lost in silence."""
        known = self._catalog.env_names()
        prefixes = {env_name(service, ""): service for service in self._catalog.names()}
        unknown: dict[str, str] = {}
        for name, entry in file.entries.items():
            prefix = name.partition("__")[0] + "__"
            if name in known or prefix not in prefixes:
                continue
            definition = self._catalog.get(prefixes[prefix])
            ours = [env_name(prefixes[prefix], key) for key in definition.fields] if definition else []
            near = difflib.get_close_matches(name, ours, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            unknown[name] = f"line {entry.line} names no value{hint}"
        self._findings.replace("env-unknown", unknown, self._now_text())


def touched_services(epoch_file: Path) -> frozenset[str]:
    """Return the services that `.env` gave values to when the daemon last wrote down its health."""
    try:
        found = json.loads(epoch_file.read_text()).get("env_services", [])
        return frozenset(name for name in found if isinstance(name, str))
    except (OSError, ValueError, AttributeError, TypeError):
        return frozenset()


def keep_touched(epoch_file: Path, services: Collection[str], fixed: Fixed) -> None:
    """Write down what `.env` gives values to, so that a later start knows what it may lack."""
    try:
        found = json.loads(epoch_file.read_text())
        told = {"env_services": sorted(services), "env_fixed": fixed}
        if isinstance(found, dict) and not told.items() <= found.items():
            content = json.dumps({**found, **told}, indent=1)
            replace_durably(epoch_file, content.encode(), READABLE_MODE)
    except (OSError, ValueError, TypeError):
        return  # the next health message writes the file anew
