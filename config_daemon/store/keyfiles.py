"""Read the daemon's keys: from systemd's credentials, from `NAME_FILE`, or from `.env`, in this order.

Laws: a key that others can read is refused; a key is never printed, logged or repeated in an error;
signing, HMAC and master keys are three different secrets, and the same bytes for two of them are refused;
every refusal says where the key came from.
"""

from __future__ import annotations

import contextlib
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from config_daemon.errors import KeyUnavailable
from config_daemon.store.dotenv import EnvFile
from config_daemon.store.privacy import read_private, read_public, refuse_exposed

if TYPE_CHECKING:  # libsodium takes 10 ms to import: only when a key is asked for
    from nacl.signing import SigningKey, VerifyKey

    from config_daemon.store.seals import RowSealer

PRIVATE_KEY, PUBLIC_KEY = "CONFIG_SIGNATURE_PRIVATE_KEY", "CONFIG_SIGNATURE_PUBLIC_KEY"
MASTER_KEY, HMAC_KEY = "CONFIG_MASTER_KEY_BASE64", "LKG_HMAC_KEY_BASE64"
OLD_MASTER_KEY, OLD_HMAC_KEY = "CONFIG_MASTER_KEY_OLD_BASE64", "LKG_HMAC_KEY_OLD_BASE64"
NEXT_PRIVATE_KEY = "CONFIG_SIGNATURE_NEXT_PRIVATE_KEY"
SYMMETRIC_KEY_BYTES = 32
_CREDENTIALS = {
    PRIVATE_KEY: "signing-key",
    MASTER_KEY: "master-key",
    HMAC_KEY: "lkg-hmac-key",
    NEXT_PRIVATE_KEY: "signing-key-next",
    OLD_MASTER_KEY: "master-key-old",
    OLD_HMAC_KEY: "lkg-hmac-key-old",
    "CONFIG_DAEMON_BROKER_PASSWORD": "broker-password",
}
_HOW_TO_GET = (
    "Run `config-daemon init` in a new folder, or `config-daemon keys restore FILE`; "
    "a key that is a systemd credential is found when CREDENTIALS_DIRECTORY names its folder."
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a key was found; `kind` is `credential`, `file` or `.env`."""

    kind: str
    path: Path
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else f"{self.kind} {self.path}"


@dataclass(frozen=True, slots=True)
class Symmetric:
    """The names of a symmetric key, and the id of one that was given none."""

    purpose: str
    name: str
    id_name: str
    default_id: str


MASTER = Symmetric("master", MASTER_KEY, "CONFIG_MASTER_KEY_ID", "master-1")
LKG_HMAC = Symmetric("lkg-hmac", HMAC_KEY, "LKG_HMAC_KEY_ID", "hmac-1")
OLD_MASTER = Symmetric("master-old", OLD_MASTER_KEY, "CONFIG_MASTER_KEY_OLD_ID", "master-1")
OLD_LKG_HMAC = Symmetric("lkg-hmac-old", OLD_HMAC_KEY, "LKG_HMAC_KEY_OLD_ID", "hmac-1")
SYMMETRIC = (MASTER, LKG_HMAC, OLD_MASTER, OLD_LKG_HMAC)
OLD = (OLD_MASTER, OLD_LKG_HMAC)  # of a rotation under way; absent otherwise


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
        self._taken: dict[
            bytes, tuple[str, str]
        ] = {}  # digest of a key's bytes -> name, and name with source

    def find(self, name: str) -> str | None:
        """Return a secret's text, None when it is nowhere.

        Raises: KeyUnavailable when its file cannot be read, or by others too.
        """
        found = self._look(name)
        return None if found is None else found[0]

    def signer(self) -> Signer:
        """Return the signing key, checked against the public key when that is known.

        Raises: KeyUnavailable.
        """
        from config_daemon.wire.keys import signing_key_from_pem

        text, source = self._need(PRIVATE_KEY)
        with _naming(PRIVATE_KEY, source):
            signer = Signer(signing_key_from_pem(text))
        self._keep_apart(PRIVATE_KEY, source, bytes(signer.key))
        public = self._look(PUBLIC_KEY)
        if public is not None and self.public_key() != signer.verify_key:
            raise KeyUnavailable(
                f"{PUBLIC_KEY} ({public[1]}) is not the public half of {PRIVATE_KEY} ({source})",
                suggestion="Put the two keys that were made together back in place; workers trust only the public one.",
            )
        return signer

    def next_signer(self) -> Signer | None:
        """Return the key that a rotation brings, None while there is none.

        Raises: KeyUnavailable.
        """
        from config_daemon.wire.keys import signing_key_from_pem

        if self.source(NEXT_PRIVATE_KEY) is None:
            return None
        text, source = self._need(NEXT_PRIVATE_KEY)
        with _naming(NEXT_PRIVATE_KEY, source):
            signer = Signer(signing_key_from_pem(text))
        self._keep_apart(NEXT_PRIVATE_KEY, source, bytes(signer.key))
        return signer

    def signers(self) -> tuple[Signer, ...]:
        """Return the signing key, and during a rotation the next one behind it.

        Raises: KeyUnavailable.
        """
        coming = self.next_signer()
        return (self.signer(), coming) if coming else (self.signer(),)

    def public_key(self) -> VerifyKey:
        """Return the public key alone, for processes that must not hold the private one.

        Raises: KeyUnavailable.
        """
        from config_daemon.wire.keys import public_key_from_text

        text, source = self._need(PUBLIC_KEY)
        with _naming(PUBLIC_KEY, source):
            public = public_key_from_text(text)
        self._keep_apart(PUBLIC_KEY, source, bytes(public))
        return public

    def row_sealer(self) -> RowSealer:
        """Return the sealer of database rows.

        Raises: KeyUnavailable.
        """
        from config_daemon.store.seals import RowSealer

        return RowSealer.from_master_key(*self.symmetric(MASTER))

    def hmac_key(self) -> tuple[str, bytes]:
        """Return id and bytes of the key that seals the LKG and the marks.

        Raises: KeyUnavailable.
        """
        return self.symmetric(LKG_HMAC)

    def hmac_keys(self) -> tuple[bytes, ...]:
        """Return the keys with which the LKG and the marks may be sealed: during a rotation the old one too.

        Raises: KeyUnavailable.
        """
        kinds = (LKG_HMAC, OLD_LKG_HMAC) if self.source(OLD_HMAC_KEY) else (LKG_HMAC,)
        return tuple(self.symmetric(kind)[1] for kind in kinds)

    def symmetric(self, kind: Symmetric) -> tuple[str, bytes]:
        """Return id and bytes of a symmetric key.

        Raises: KeyUnavailable.
        """
        text, source = self._need(kind.name)
        try:
            key = b64decode(text.strip(), validate=True)
        except ValueError:  # Base64Error is one, and so is a letter beyond ASCII
            key = b""
        if len(key) != SYMMETRIC_KEY_BYTES:
            raise KeyUnavailable(
                f"{kind.name} ({source}) must be {SYMMETRIC_KEY_BYTES} bytes in base64",
                suggestion="Put the key back as it was: `config-daemon keys restore FILE` has it.",
            )
        # an old key has the purpose of the key that took its place
        self._keep_apart(kind.name.replace("_OLD_", "_"), source, key)
        return self.find(kind.id_name) or kind.default_id, key

    def source(self, name: str) -> Source | None:
        """Return where a secret is, None when it is nowhere or nothing but its name is there.

        Raises: KeyUnavailable when its file cannot be read, or by others too.
        """
        found = self._look(name)
        return found[1] if found and found[0].strip() else None

    def _look(self, name: str) -> tuple[str, Source] | None:
        folder, credential = self._environ.get("CREDENTIALS_DIRECTORY"), _CREDENTIALS.get(name)
        if folder and credential and _is_there(path := Path(folder) / credential):
            return read_private(path, credential=True).strip(), Source("credential", path)
        file = self._environ.get(f"{name}_FILE") or self._named_beside(f"{name}_FILE")
        if file:
            path = Path(file)
            with _naming(f"{name}_FILE", None):
                text = read_private(path) if credential else read_public(path)
            return text.strip(), Source("file", path)
        if self._env_file is None or (entry := self._env_file.entries.get(name)) is None:
            return None
        if credential:
            refuse_exposed(self._env_file.path)
        return entry.value, Source(".env", self._env_file.path, entry.line)

    def _named_beside(self, name: str) -> Path | None:
        """Return a path that `.env` gives; a relative one starts from there, wherever a process stands."""
        file = self._env_file.get(name) if self._env_file else None
        return self._env_file.path.parent / file if self._env_file and file else None

    def _need(self, name: str) -> tuple[str, Source]:
        found = self._look(name)
        if found is None or not found[0].strip():
            raise KeyUnavailable(
                f"{name} is missing: not among the credentials, not in {name}_FILE, not in .env",
                suggestion=_HOW_TO_GET,
            )
        return found

    def _keep_apart(self, name: str, source: Source, key: bytes) -> None:
        """Remember for what these bytes are used.

        Raises: KeyUnavailable when they are used for something else already.
        """
        mine = f"{name} ({source})"
        other, where = self._taken.setdefault(hashlib.sha256(key).digest(), (name, mine))
        if other != name:
            raise KeyUnavailable(
                f"{mine} is the same key as {where}; each purpose needs a key of its own",
                suggestion="Put the right key back in place of the copy: `config-daemon keys restore FILE` has it.",
            )


def new_key_text(random_bytes: bytes) -> str:
    """Return a fresh symmetric key as it stands in `.env`."""
    return b64encode(random_bytes).decode()


def _is_there(path: Path) -> bool:
    """Tell whether a name leads anywhere; one that may not be looked at does, and is refused when read."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _naming(name: str, source: Source | None) -> Iterator[None]:
    """Put a key's name, and where it was found, before what is wrong with it."""
    try:
        yield
    except KeyUnavailable as error:
        where = f"{name} ({source})" if source else name
        raise KeyUnavailable(
            f"{where}: {error.message}", suggestion=error.suggestion, contexts=error.contexts
        ) from None
