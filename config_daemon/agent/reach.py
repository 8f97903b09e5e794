"""Who the agent is, where the broker is, whom to believe: read from flags, environment and file.

Laws: a password comes from a file, a credential or `MQTT_URL` in the environment, and from no place that others
can read; the strongest source that names a key or a keyring is the only one that counts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from config_daemon.agent.tables import AgentTable, setting_problem
from config_daemon.errors import ConfigDaemonError, ErrorContext, SettingsError
from config_daemon.wire.address import BrokerAddress
from config_daemon.wire.keyring import installed_keyring
from config_daemon.wire.keys import public_key_from_text
from config_daemon.wire.topics import is_name

STATE = "/var/lib/config-agent"
BROKER = "mqtt://127.0.0.1:1883"
_OTHERS_OF_CREDENTIALS = (
    0o007 | 0o020
)  # systemd lets one user in by an ACL, which shows as readable by the group
_T = TypeVar("_T")


class ReachReader:
    """Takes the first level of the table apart; what is wrong goes into `problems`."""

    def __init__(
        self,
        table: AgentTable,
        flags: Mapping[str, Any],
        environ: Mapping[str, str],
        problems: list[ErrorContext],
    ) -> None:
        self._table, self._flags, self._environ, self._problems = table, flags, environ, problems

    def worker(self, known: str | None = None) -> str:
        """Return this worker's name; where no source gives one, the `known` one goes before the host's."""
        host = socket.gethostname().partition(".")[0].lower()
        given = self._flags.get("worker") or self._environ.get("CONFIG_AGENT_WORKER")
        name = given or self._table.worker or known or host
        if not is_name(name):
            mend = (
                "Set `worker`, or CONFIG_AGENT_WORKER, which a unit sets: lower-case letters, digits and hyphens, "
                "beginning with a letter, at most 64."
            )
            self._say("INVALID_SETTING", "worker", f"{name!r} cannot name a worker", mend)
        return name

    def state(self) -> Path:
        """Return the state folder."""
        given = self._flags.get("state") or self._environ.get("CONFIG_AGENT_STATE")
        return Path(given or self._table.state or self._environ.get("STATE_DIRECTORY") or STATE).absolute()

    def broker(self) -> BrokerAddress:
        """Return where the broker is; the default where that cannot be read, which is a problem."""
        from_environment = self._environ.get("MQTT_URL", "") if not self._flags.get("broker") else ""
        try:
            address = BrokerAddress.parse(from_environment or self._table.broker or BROKER)
        except SettingsError as error:
            self._say("INVALID_SETTING", "broker", error.message, error.suggestion)
            return BrokerAddress.parse(BROKER)
        if address.password is not None and not from_environment:
            mend = "Put it into `password_file` (mode 0600), a credential `broker-password`, or MQTT_URL."
            self._say(
                "EXPOSED_SECRET", "broker", "the broker's URL holds a password that others can read", mend
            )
        password = self._password()
        return replace(address, password=password) if password is not None else address

    def anchor(self) -> tuple[str | None, Path | None]:
        """Return whom to believe first: the text of a public key, or a keyring's file; the strongest source counts."""
        for given in (self._flags, _named(self._environ), self._table.model_dump()):
            if keyring := given.get("keyring_file"):
                if given.get("public_key") or given.get("public_key_file"):
                    mend = "Keep the keyring; it holds the public key as well."
                    self._say("INVALID_SETTING", "keyring_file", "there is a keyring, and a public key", mend)
                self._tried("keyring_file", partial(_check_keyring, keyring))
                return None, Path(keyring)
            if text := given.get("public_key"):
                self._tried("CONFIG_SIGNATURE_PUBLIC_KEY", partial(public_key_from_text, text))
                return text, None
            if file := given.get("public_key_file"):
                return self._tried("public_key_file", partial(_key_in, file)), None
        mend = (
            "Run `config-daemon keys public` on the daemon's host. Give what it prints as a file, by --public-key "
            "or public_key_file, or as the text of CONFIG_SIGNATURE_PUBLIC_KEY."
        )
        self._say("MISSING_SETTING", "public_key_file", "there is no key to believe", mend)
        return None, None

    def _password(self) -> str | None:
        """Return the broker's password where a file holds it."""
        credentials = self._environ.get("CREDENTIALS_DIRECTORY")
        credential = Path(credentials, "broker-password") if credentials else None
        if credential and credential.exists():
            return self._tried(
                "the credential broker-password", partial(_secret_in, credential, _OTHERS_OF_CREDENTIALS)
            )
        if (named := self._table.password_file) is None:
            return None
        return self._tried("password_file", partial(_secret_in, Path(named)))

    def _tried(self, where: str, work: Callable[[], _T]) -> _T | None:
        try:
            return work()
        except ConfigDaemonError as error:
            self._say("INVALID_SETTING", where, f"{where}: {error.message}", error.suggestion)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "no UTF-8 text"
            mend = "Name a file that is there and that this user may read."
            self._say("INVALID_SETTING", where, f"{where} cannot be read: {why}", mend)
        return None

    def _say(self, code: str, where: str, what: str, mend: str) -> None:
        self._problems.append(setting_problem(code, where, what, mend))


def _secret_in(path: Path, others: int = 0o077) -> str:
    with path.open(encoding="utf-8") as stream:
        seen = os.fstat(stream.fileno())
        if seen.st_mode & others or seen.st_uid not in (0, os.geteuid()):
            mend = f"Run `chmod 600 {path}`, own it, and change the password if somebody may have read it."
            raise SettingsError(f"{path} can be read by others", suggestion=mend)
        return stream.read().strip()


def _key_in(file: str) -> str:
    text = Path(file).read_text(encoding="utf-8")
    public_key_from_text(text)
    return text


def _check_keyring(file: str) -> None:
    installed_keyring(Path(file).read_bytes().rstrip(b"\n"))  # as `keys public --keyring` prints it


def _named(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the environment says of whom to believe, under the names of the file."""
    names = {"CONFIG_KEYRING_FILE": "keyring_file", "CONFIG_SIGNATURE_PUBLIC_KEY": "public_key"}
    return {names[name]: text for name, text in environ.items() if name in names}
