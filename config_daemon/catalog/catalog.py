"""All definitions in one place: shipped, registered by other packages, dropped in as schema files.

Laws:
- a service has one definition: a schema file never replaces a model;
- a schema file that breaks keeps its last good definition, and the problem is told until it is mended;
- at load two meanings of one name in `.env` stop the program; while it runs they only keep the newer
  file out, since the daemon must not fall over a file that somebody drops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from sys import intern

from config_daemon.catalog.complaints import nearest, printable
from config_daemon.catalog.definition import Definition, is_service_name
from config_daemon.catalog.env_names import EnvNames
from config_daemon.catalog.folder import SUFFIX, Look, SchemaFolder
from config_daemon.catalog.registered import registered, shipped
from config_daemon.catalog.service import ServiceDefinition
from config_daemon.catalog.services import SHIPPED
from config_daemon.catalog.shape import SchemaError
from config_daemon.errors import ErrorContext, SettingsError

BAD_SCHEMA = "BAD_SCHEMA"


class Catalog:
    """Looks services up; belongs to one thread."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = SchemaFolder(folder) if folder is not None else None
        self._models: dict[str, ServiceDefinition | None] = dict.fromkeys(SHIPPED)
        self._dropped: dict[str, ServiceDefinition] = {}
        self._told: dict[str, ErrorContext] = {}
        self._aliases: dict[str, tuple[str, str]] = {}
        self._env_names = EnvNames(self._find, self.names, self._aliases)
        self._model_hash: str | None = None

    @classmethod
    def load(cls, folder: Path | None = None) -> Catalog:
        """Return the catalog of the shipped and registered models and the schema files in `folder`.

        Raises: SettingsError, when two definitions claim one name in `.env`.
        """
        catalog = cls(folder)
        clashes = catalog._register()
        if catalog._folder is not None:
            _, clashed = catalog._take(catalog._folder.look(full=True))
            clashes += clashed
        if clashes:
            raise SettingsError(
                f"names in .env that mean two things: {'; '.join(context.message for context in clashes)}",
                suggestion="Change x-env, or the name, in one of the two definitions.",
                contexts=clashes,
            )
        return catalog

    def get(self, service: str) -> Definition | None:
        """Return a service's definition, or None."""
        return self._find(service)

    def names(self) -> list[str]:
        """Return every service that has a definition, sorted."""
        return sorted([*self._models, *self._dropped])

    def suggest(self, service: str) -> str | None:
        """Return the service that was probably meant."""
        return nearest(service, self.names())

    def env_names(self) -> Mapping[str, tuple[str, str]]:
        """Return every name in `.env` → (service, key); it follows the catalog as that changes."""
        self._load_models()
        return self._env_names

    @property
    def problems(self) -> tuple[ErrorContext, ...]:
        """What keeps schema files and registered models from defining a service."""
        told = [self._told[source] for source in sorted(self._told)]
        if self._folder is not None and self._folder.problem is not None:
            told.insert(0, _problem(str(self._folder.path), self._folder.problem, keeps=bool(self._dropped)))
        return tuple(told)

    @property
    def model_hash(self) -> str:
        """The SHA-256 over all services' schemas, as 64 hex."""
        if self._model_hash is None:
            total = hashlib.sha256()
            for service in self.names():
                definition = self._find(service)
                if definition is not None:
                    total.update(f"{service}\0{definition.shape.digest}\n".encode())
            self._model_hash = total.hexdigest()
        return self._model_hash

    def refresh(self, *, full: bool = False) -> set[str]:
        """Look at the folder again; return the services whose definition appeared, changed or went.

        Looks at 500 files at most, unless the folder itself changed or `full` asks for all.
        """
        if self._folder is None:
            return set()
        changed, _ = self._take(self._folder.look(full=full))
        return changed

    def _find(self, service: str) -> ServiceDefinition | None:
        if service in self._dropped:
            return self._dropped[service]
        definition = self._models.get(service)
        if definition is None and service in self._models:
            definition = self._models[service] = shipped(service)
            self._aliases.update((alias, (service, key)) for alias, key in definition.shape.aliases)
        return definition

    def _load_models(self) -> None:
        for service in self._models:
            self._find(service)

    def _register(self) -> list[ErrorContext]:
        clashes = []
        for name, found in registered():
            source = f"entry point {printable(name)}"
            if isinstance(found, ServiceDefinition) and found.service in self._models:
                found = SchemaError(f"{found.service} has a definition already", "Rename the service.")
            if isinstance(found, SchemaError):
                self._told[source] = _problem(source, found)
            elif clash := self._claim(found):
                clashes.append(_problem(source, clash))
            else:
                self._models[found.service] = found
        return clashes

    def _take(self, looks: Iterable[Look]) -> tuple[set[str], list[ErrorContext]]:
        """Take in what a look found; return the services that changed, and clashes of names in `.env`."""
        changed: set[str] = set()
        fresh: list[tuple[Look, str]] = []
        for look in looks:
            service = intern(look.file.removesuffix(SUFFIX))
            self._told.pop(look.file, None)
            old = self._dropped.get(service)
            problem = look.problem or (None if look.is_gone else self._unusable(service))
            if problem is not None:
                self._told[look.file] = _problem(look.file, problem, keeps=old is not None)
            elif look.shape is None:
                if old is not None:
                    self._release(self._dropped.pop(service))
                    changed.add(service)
            elif old is None or old.shape is not look.shape:
                if old is not None:
                    self._release(old)
                fresh.append((look, service))
        clashes = [clash for look, service in fresh if (clash := self._define(look, service, changed))]
        if changed:
            self._model_hash = None
        return changed, clashes

    def _define(self, look: Look, service: str, changed: set[str]) -> ErrorContext | None:
        """Take a file's new shape, or its old one back where the new one clashes; note what changed."""
        if look.shape is None:
            return None
        old, new = self._dropped.get(service), ServiceDefinition(service, look.shape)
        clash = self._claim(new)
        if clash is None:
            self._dropped[service] = new
            if old is None or old.shape.digest != new.shape.digest:
                changed.add(service)
            return None
        if old is not None and self._claim(old) is not None:
            del self._dropped[service]
            changed.add(service)
        if self._folder is not None:
            self._folder.forget(look.file)  # the other file may give the name up
        told = self._told[look.file] = _problem(look.file, clash, keeps=service in self._dropped)
        return told

    def _unusable(self, service: str) -> SchemaError | None:
        if not is_service_name(service):
            return SchemaError(
                f"the file's name names no service: <service>{SUFFIX} has lower-case letters, digits and -, a letter"
                " first, at most 64; `keyring` is taken",
                "Rename it.",
            )
        if service in self._models:
            return SchemaError(f"{service} has a shipped definition already", "Choose another service name.")
        return None

    def _claim(self, definition: ServiceDefinition) -> SchemaError | None:
        """Write a definition's aliases down, or return which name means something else already."""
        if definition.shape.aliases:
            self._load_models()  # only now do the aliases of shipped models matter
        clash = next(self._env_names.conflicts(definition), None)
        if clash is not None:
            return SchemaError(clash, "Change x-env, or the name, in one of the two definitions.")
        self._aliases.update((alias, (definition.service, key)) for alias, key in definition.shape.aliases)
        return None

    def _release(self, definition: ServiceDefinition) -> None:
        for alias, _ in definition.shape.aliases:
            if self._aliases.get(alias, ("", ""))[0] == definition.service:
                del self._aliases[alias]


def _problem(source: str, problem: SchemaError, *, keeps: bool = False) -> ErrorContext:
    name = printable(source)
    where = f" at {printable(problem.where)}" if problem.where else ""
    kept = " The last good definition stays in force." if keeps else ""
    return ErrorContext(
        error_type="invalid_config",
        error_code=BAD_SCHEMA,
        message=f"{name}{where}: {problem.message[:300]}.{kept}",
        suggestion=problem.suggestion,
        failed_field=name,
        expected_type="JSON Schema 2020-12 of an object",
        fallback_applied=keeps,
    )
