"""The file that `keys backup` writes: all keys of a folder, encrypted with a passphrase.

Laws: the file says by itself how it is opened; everything in it is authenticated; nothing that it demands
of memory or time is believed before it is within limits; a passphrase is taken in Unicode's composed form
(NFC), so that every keyboard types the same one.

Form: one JSON object. `format` and `version` name it; `made_at` and `keys` (purpose, key_id) are for
people; `kdf` is argon2id with `opslimit`, `memlimit_bytes` and `salt`; `cipher` is XChaCha20-Poly1305 with
its `nonce`; `ciphertext` holds `{"assignments": {NAME: text}}`, and everything before it is associated data,
as compact JSON with sorted keys. `sha256` is over all other members in that form: it tells damage from a
wrong passphrase and proves nothing. Bytes are in base64. Version 2 may hold the key that a rotation brings too,
and `keyrings`, a list of texts, beside the assignments; where there is neither, version 1 is written, which
older programs read as well.

Sources: RFC 9106 (Argon2), libsodium `crypto_pwhash`, `crypto_aead_xchacha20poly1305_ietf`.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from nacl import pwhash
from nacl.exceptions import CryptoError
from nacl.secret import Aead

from config_daemon.errors import ConfigDaemonError, UsageError
from config_daemon.store.keyfiles import (
    LKG_HMAC,
    MASTER,
    NEXT_PRIVATE_KEY,
    PRIVATE_KEY,
    PUBLIC_KEY,
    SYMMETRIC,
)
from config_daemon.wire import values
from config_daemon.wire.sealing import canonical

FORMAT, VERSIONS = "config-daemon-key-backup", (1, 2)
MAX_OPSLIMIT, MAX_MEMLIMIT_BYTES = 16, 1 << 30
_OPSLIMITS = range(pwhash.argon2id.OPSLIMIT_MIN, MAX_OPSLIMIT + 1)
_MEMLIMITS = range(pwhash.argon2id.MEMLIMIT_MIN, MAX_MEMLIMIT_BYTES + 1)
MAX_PASSPHRASE_CHARACTERS = 1024
REQUIRED = frozenset(
    {PRIVATE_KEY, PUBLIC_KEY, *(name for kind in (MASTER, LKG_HMAC) for name in (kind.name, kind.id_name))}
)
_NAMES_1 = REQUIRED | {name for kind in SYMMETRIC for name in (kind.name, kind.id_name)}
_NAMES = {1: _NAMES_1, 2: _NAMES_1 | {NEXT_PRIVATE_KEY}}
MAX_KEYRINGS_BYTES = 2 << 20
_KDF, _CIPHER = "argon2id", "xchacha20-poly1305-ietf"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess of the passphrase costs."""

    opslimit: int
    memlimit_bytes: int


COST = Cost(pwhash.argon2id.OPSLIMIT_MODERATE, pwhash.argon2id.MEMLIMIT_MODERATE)


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds: keys and their ids, named as in `.env`, and keyrings as they were signed, by number."""

    made_at: str
    assignments: Mapping[str, str] = field(repr=False)
    keyrings: tuple[bytes, ...] = field(default=(), repr=False)


class BackupDamaged(ConfigDaemonError):
    """The file is cut short, altered, or no backup of keys."""

    code = "BACKUP_DAMAGED"
    suggestion = "Take another copy of the backup; this one cannot be used."


class WrongPassphrase(ConfigDaemonError):
    """The passphrase does not open the file."""

    code = "WRONG_PASSPHRASE"
    suggestion = "Type the passphrase that was given when the backup was made; nobody can recover it."


def sealed(
    assignments: Mapping[str, str],
    keys: Sequence[tuple[str, str]],
    passphrase: str,
    made_at: str,
    cost: Cost = COST,
    *,
    keyrings: Sequence[bytes] = (),
) -> bytes:
    """Return the backup's bytes; `keys` are the purposes and ids that anybody may read in it.

    Raises: UsageError for a passphrase that is none.
    """
    salt, nonce = os.urandom(pwhash.argon2id.SALTBYTES), os.urandom(Aead.NONCE_SIZE)
    head: dict[str, Any] = {
        "format": FORMAT,
        "version": 2 if keyrings or NEXT_PRIVATE_KEY in assignments else 1,
        "made_at": made_at,
        "keys": [{"purpose": purpose, "key_id": key_id} for purpose, key_id in keys],
        "kdf": {
            "name": _KDF,
            "opslimit": cost.opslimit,
            "memlimit_bytes": cost.memlimit_bytes,
            "salt": b64encode(salt).decode(),
        },
        "cipher": {"name": _CIPHER, "nonce": b64encode(nonce).decode()},
    }
    texts = {"keyrings": [raw.decode() for raw in newest_that_fit(keyrings)]} if keyrings else {}
    body = canonical({"assignments": dict(assignments)} | texts)
    boxed = _box(passphrase, salt, cost).encrypt(body, canonical(head), nonce).ciphertext
    head["ciphertext"] = b64encode(boxed).decode()
    head["sha256"] = hashlib.sha256(canonical(head)).hexdigest()
    return json.dumps(head, indent=1).encode() + b"\n"


def opened(content: bytes, passphrase: str) -> Backup:
    """Return what is in a backup.

    Raises: BackupDamaged; WrongPassphrase; UsageError for a passphrase that is none.
    """
    head = checked(content)
    try:
        kdf, cipher = head["kdf"], head["cipher"]
        if (kdf["name"], cipher["name"]) != (_KDF, _CIPHER):
            raise BackupDamaged("the backup names a cipher that its version does not have")
        cost = Cost(_within(kdf, "opslimit", _OPSLIMITS), _within(kdf, "memlimit_bytes", _MEMLIMITS))
        salt = _bytes(kdf["salt"], pwhash.argon2id.SALTBYTES)
        nonce = _bytes(cipher["nonce"], Aead.NONCE_SIZE)
        boxed = _bytes(head.pop("ciphertext"))
    except (KeyError, TypeError, ValueError) as error:
        raise BackupDamaged("the backup lacks a part, or holds one that cannot be read") from error
    box = _box(passphrase, salt, cost)
    try:
        body = box.decrypt(boxed, canonical(head), nonce)
    except (CryptoError, ValueError, TypeError):
        body = None
    if body is None:
        raise WrongPassphrase("the passphrase does not open the backup, or somebody altered it on purpose")
    return Backup(str(head.get("made_at")), *_content(body, head["version"]))


def checked(content: bytes) -> dict[str, Any]:
    """Return the members of a backup of our version that is whole, without its checksum.

    Raises: BackupDamaged.
    """
    try:
        head = values.parse(content)
    except values.BadJson as error:
        raise BackupDamaged("the backup is cut short, damaged, or no backup of keys") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise BackupDamaged("this is no backup that `keys backup` wrote", suggestion="Name the right file.")
    if type(head.get("version")) is not int or head["version"] not in VERSIONS:
        raise BackupDamaged(
            f"the backup has another version than {' and '.join(map(str, VERSIONS))}, which this program reads",
            suggestion="Restore it with the program that made it, or a newer one.",
        )
    checksum = head.pop("sha256", None)
    try:
        fits = hashlib.sha256(canonical(head)).hexdigest() == checksum
    except RecursionError:
        fits = False
    if not fits:
        raise BackupDamaged("the backup is damaged: its checksum does not fit")
    return head


def newest_that_fit(keyrings: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return as many of the last keyrings as a backup holds."""
    sizes = accumulate(len(raw) for raw in reversed(keyrings))
    count = sum(size <= MAX_KEYRINGS_BYTES for size in sizes)
    return tuple(keyrings[len(keyrings) - count :])


def _within(kdf: Mapping[str, Any], name: str, allowed: range) -> int:
    found = kdf[name]
    if type(found) is not int or found not in allowed:
        raise BackupDamaged(
            f"the backup demands what `keys backup` never does: its {name} is not from {allowed[0]} to {allowed[-1]}"
        )
    return found


def _bytes(text: str, length: int | None = None) -> bytes:
    found = b64decode(text, validate=True)
    if length is not None and len(found) != length:
        raise ValueError("wrong length")
    return found


def _box(passphrase: str, salt: bytes, cost: Cost) -> Aead:
    secret = passphrase_bytes(passphrase)
    try:
        return Aead(
            pwhash.argon2id.kdf(
                Aead.KEY_SIZE, secret, salt, opslimit=cost.opslimit, memlimit=cost.memlimit_bytes
            )
        )
    except (CryptoError, MemoryError) as error:
        raise ConfigDaemonError(
            f"the passphrase's key cannot be computed: it takes {cost.memlimit_bytes >> 20} MiB of memory",
            suggestion="Free some memory, or do this on another machine.",
        ) from error


def passphrase_bytes(text: str) -> bytes:
    """Return what the key is derived from.

    Raises: UsageError for an empty passphrase, a very long one, or one that is no Unicode.
    """
    mend = "Give a passphrase of a few words."
    if not text.strip():
        raise UsageError("the passphrase is empty", suggestion=mend)
    if len(text) > MAX_PASSPHRASE_CHARACTERS:
        raise UsageError(
            f"the passphrase is longer than {MAX_PASSPHRASE_CHARACTERS} characters", suggestion=mend
        )
    try:
        return unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:
        pass
    # outside of the handler: the error in its context would carry the passphrase along
    raise UsageError("the passphrase is no Unicode text", suggestion=mend)


def _content(body: bytes, version: int) -> tuple[dict[str, str], tuple[bytes, ...]]:
    try:
        members = values.parse(body)
        found, keyrings = members["assignments"], members.get("keyrings", []) if version > 1 else []
        whole = (
            set(found) <= _NAMES[version]
            and set(found) >= REQUIRED
            and type(keyrings) is list
            and all(type(text) is str for text in (*found.values(), *keyrings))
        )
    except (values.BadJson, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise BackupDamaged("the backup opens, and does not hold the keys of a config-daemon")
    return dict(found), tuple(text.encode() for text in keyrings)
