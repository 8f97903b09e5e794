"""Stand on a data folder: its settings, its files, its keys.

Laws: every process finds the same settings in the same order; the folder is the flag's, else the
environment's, else `./.config-daemon` of the caller, else `/var/lib/config-daemon`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config_daemon.errors import SettingsError
from config_daemon.settings import Settings, names
from config_daemon.store.dotenv import EnvFile, EnvMissing, read
from config_daemon.store.files import Files
from config_daemon.store.keyfiles import KeyFiles

if TYPE_CHECKING:  # libsodium takes 10 ms to import: only when somebody verifies
    from config_daemon.wire.keyring import Keyring

SYSTEM_FOLDER = Path("/var/lib/config-daemon")


@dataclass(frozen=True, slots=True)
class Ground:
    """What a process needs before it can do anything with a store."""

    settings: Settings
    files: Files
    keys: KeyFiles
    env_file: EnvFile | None

    def keyring(self) -> Keyring:
        """Return the keyring to verify messages with: the newest, or number 0 of the public key.

        Raises: KeyUnavailable.
        """
        from config_daemon.store.keyrings import KeyringFiles
        from config_daemon.wire.keyring import of_key

        return KeyringFiles(self.files).installed() or of_key(self.keys.public_key())

    @property
    def created_at(self) -> str:
        """Return when the store was made, as `init` wrote it down; empty when that is not known."""
        return self._told("created_at") or ""

    @property
    def last_rebuild(self) -> str | None:
        """Return when the store was last rebuilt, restored or adopted; None when it never was."""
        return self._told("last_rebuild")

    def _told(self, name: str) -> str | None:
        try:
            found: Any = json.loads(self.files.epoch.read_text())
            return None if found.get(name) is None else str(found[name])
        except (OSError, ValueError, AttributeError):
            return None


def find_folder(flag: str | None, environ: Mapping[str, str]) -> Path:
    """Return the data folder that was meant."""
    if flag or environ.get("CONFIG_DAEMON_DATA"):
        return Path(flag or environ["CONFIG_DAEMON_DATA"]).absolute()
    here = Path(".config-daemon")
    if here.is_dir() and here.stat().st_uid == os.getuid():
        return here.absolute()
    return SYSTEM_FOLDER


def load_ground(folder: Path, environ: Mapping[str, str], flags: Mapping[str, str]) -> Ground:
    """Read the settings of a data folder.

    Raises: SettingsError.
    """
    files = Files.below(folder)
    env_file = env_of(files)
    in_file = {name: entry.value for name, entry in env_file.entries.items()} if env_file else {}
    ours = {name: environ[name] for name in names() if name in environ}
    settings = Settings.load(
        {
            "the command line": flags,
            "the environment": ours,
            ".env": in_file,
            "config-daemon.toml": _toml(folder),
        }
    )
    # a relative path starts from the folder: the daemon and a person's shell stand in different places
    moved = [path and folder / path for path in (settings.db_path, settings.lkg_path, settings.epoch_path)]
    files = Files.below(folder, *moved)
    return Ground(settings, files, KeyFiles(environ, env_file), env_file)


def env_of(files: Files) -> EnvFile | None:
    """Read `.env`; None where there is none, or where it is not for this user.

    Raises: SettingsError.
    """
    try:
        return read(files.environment)
    except EnvMissing:
        return None
    except SettingsError:
        if not os.access(files.environment, os.R_OK):
            return None  # a member of the group may use the store without reading the keys
        raise


def _toml(folder: Path) -> dict[str, str]:
    path = folder / "config-daemon.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _bad_toml(path, error) from error
    import tomllib  # takes 4 ms, and few have the file

    try:
        content = tomllib.loads(text)
    except ValueError as error:
        raise _bad_toml(path, error) from error
    tables = [name for name, value in content.items() if isinstance(value, dict)]
    if tables:
        raise SettingsError(
            f"{path} has a section [{tables[0]}], and there are none",
            suggestion="Write settings at the top of the file, named as in the environment.",
        )
    return {name: str(value) for name, value in content.items()}


def _bad_toml(path: Path, error: Exception) -> SettingsError:
    return SettingsError(f"{path} cannot be read: {error}", suggestion="Mend the file, or move it away.")
