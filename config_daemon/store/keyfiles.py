"""Read the daemon's keys: from systemd's credentials, from `NAME_FILE`, or from `.env`, in this order.

Laws: a key that others can read is refused; a key is never printed, logged or repeated in an error;
signing, HMAC and master keys are three different secrets.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from config_daemon.errors import KeyUnavailable
from config_daemon.store.dotenv import EnvFile
from config_daemon.store.privacy import check_private

if TYPE_CHECKING:  # libsodium takes 10 ms to import: only when a key is asked for
    from nacl.signing import SigningKey, VerifyKey

    from config_daemon.store.seals import RowSealer

_CREDENTIALS = {
    "CONFIG_SIGNATURE_PRIVATE_KEY": "signing-key",
    "CONFIG_MASTER_KEY_BASE64": "master-key",
    "LKG_HMAC_KEY_BASE64": "lkg-hmac-key",
    "CONFIG_DAEMON_BROKER_PASSWORD": "broker-password",
}
MAX_BYTES = 64 * 1024
SYMMETRIC_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Signer:
    """The daemon's signing key and the name that others know it by."""

    key: SigningKey = field(repr=False)

    @property
    def verify_key(self) -> VerifyKey:
        """Return the public half."""
        return self.key.verify_key

    @property
    def key_id(self) -> str:
        """Return the id that messages carry."""
        from config_daemon.wire.keys import key_id

        return key_id(bytes(self.key.verify_key))


class KeyFiles:
    """Finds secrets by name in the places above."""

    def __init__(self, environ: Mapping[str, str], env_file: EnvFile | None) -> None:
        self._environ, self._env_file = environ, env_file

    def find(self, name: str) -> str | None:
        """Return a secret's text, None when it is nowhere.

        Raises: KeyUnavailable when its file cannot be read, or by others too.
        """
        folder = self._environ.get("CREDENTIALS_DIRECTORY")
        credential = _CREDENTIALS.get(name)
        if folder and credential and (Path(folder) / credential).exists():
            return _read(Path(folder) / credential)
        file = self._environ.get(f"{name}_FILE") or self._named_beside(f"{name}_FILE")
        if file:
            return _read(Path(file), private=name in _CREDENTIALS)
        if self._env_file is None:
            return None
        text = self._env_file.get(name)
        if text is not None and name in _CREDENTIALS:
            _refuse_public(self._env_file.path)
        return text

    def _named_beside(self, name: str) -> Path | None:
        """Return a path that `.env` gives; a relative one starts from there, wherever a process stands."""
        file = self._env_file.get(name) if self._env_file else None
        return self._env_file.path.parent / file if self._env_file and file else None

    def signer(self) -> Signer:
        """Return the signing key, checked against the public key when that is known.

        Raises: KeyUnavailable.
        """
        from config_daemon.wire.keys import public_key_from_text, signing_key_from_pem

        signer = Signer(signing_key_from_pem(self._need("CONFIG_SIGNATURE_PRIVATE_KEY")))
        public = self.find("CONFIG_SIGNATURE_PUBLIC_KEY")
        if public is not None and bytes(public_key_from_text(public)) != bytes(signer.verify_key):
            raise KeyUnavailable(
                "CONFIG_SIGNATURE_PUBLIC_KEY is not the public half of CONFIG_SIGNATURE_PRIVATE_KEY",
                suggestion="Put the two keys that were made together back in place; workers trust only the public one.",
            )
        return signer

    def public_key(self) -> VerifyKey:
        """Return the public key alone, for processes that must not hold the private one.

        Raises: KeyUnavailable.
        """
        from config_daemon.wire.keys import public_key_from_text

        return public_key_from_text(self._need("CONFIG_SIGNATURE_PUBLIC_KEY"))

    def row_sealer(self) -> RowSealer:
        """Return the sealer of database rows.

        Raises: KeyUnavailable.
        """
        from config_daemon.store.seals import RowSealer

        return RowSealer.from_master_key(
            self.find("CONFIG_MASTER_KEY_ID") or "master-1", self._bytes("CONFIG_MASTER_KEY_BASE64")
        )

    def hmac_key(self) -> tuple[str, bytes]:
        """Return id and bytes of the key that seals the LKG and the marks.

        Raises: KeyUnavailable.
        """
        return self.find("LKG_HMAC_KEY_ID") or "hmac-1", self._bytes("LKG_HMAC_KEY_BASE64")

    def _need(self, name: str) -> str:
        text = self.find(name)
        if text is None or not text.strip():
            raise KeyUnavailable(
                f"{name} is missing: not among the credentials, not in {name}_FILE, not in .env"
            )
        return text

    def _bytes(self, name: str) -> bytes:
        try:
            key = b64decode(self._need(name).strip(), validate=True)
        except ValueError:  # Base64Error is one, and so is a letter beyond ASCII
            key = b""
        if len(key) != SYMMETRIC_KEY_BYTES:
            raise KeyUnavailable(f"{name} must be {SYMMETRIC_KEY_BYTES} bytes in base64")
        return key


def new_key_text(random_bytes: bytes) -> str:
    """Return a fresh symmetric key as it stands in `.env`."""
    return b64encode(random_bytes).decode()


def _read(path: Path, private: bool = False) -> str:
    if private:
        _refuse_public(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise KeyUnavailable(f"{path} is too long for a key")
        return content.decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnavailable(f"the key in {path} cannot be read: {type(error).__name__}") from error


def _refuse_public(path: Path) -> None:
    problems = check_private(path)
    if problems:
        raise KeyUnavailable(problems[0].message, suggestion=problems[0].suggestion, contexts=problems)
