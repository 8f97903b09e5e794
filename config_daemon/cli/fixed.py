"""Where `.env` fixes a value: as a living daemon says, else as the file itself says.

Laws: only the names of the asked service are looked up, so that no other definition is loaded; an
object that `.env` gives fixes everything below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config_daemon.cli.session import Session
    from config_daemon.core.definition import Override


class FixedValues:
    """The places of one data folder's fixed values; a service is looked up once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._places = lru_cache(maxsize=None)(self._find)

    def place(self, service: str, key: str) -> str | None:
        """Return `file:line` where `.env` fixes a key, None when it does not or that cannot be known."""
        for fixed, place in self._places(service).items():
            if key == fixed or key.startswith(f"{fixed}.") or fixed.startswith(f"{key}."):
                return place
        return None

    def refuse(self, service: str, keys: Iterable[str]) -> None:
        """Refuse keys that `.env` fixes, also where the database says the same as the command.

        Raises: NotAllowed with file and line.
        """
        from config_daemon.store.complaints import fixed_by_env

        for key in keys:
            place = self.place(service, key)
            if place is not None:
                raise fixed_by_env(service, key, place)

    def _find(self, service: str) -> Mapping[str, str]:
        session = self._session
        if session.daemon_alive:
            locks = session.view.env_locks(service)
            return {key: f"{file}:{line}" for key, (file, line) in locks.items()}
        env = session.ground.env_file
        if env is None:
            return {}
        return {key: f"{env.path}:{found.line}" for key, found in overrides_here(session, service).items()}


def overrides_here(session: Session, service: str) -> Mapping[str, Override]:
    """Return what `.env` gives one service by key; nothing when this user may not read it.

    Raises: SettingsError when the file gives one key two values.
    """
    from config_daemon.store.overrides import overrides_for

    env, definition = session.ground.env_file, session.catalog.get(service)
    if env is None or definition is None:
        return {}
    return overrides_for(env, definition)
