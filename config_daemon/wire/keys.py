"""Ed25519 keys as they lie in files and travel in text.

Laws: a public key that libsodium calls non-canonical, small-order or off the main subgroup is
refused when it is loaded, not when it is used; a key id names a key and never brings one.

Sources: RFC 8410 (the fixed DER prefixes of Ed25519 keys), libsodium `crypto_core_ed25519_is_valid_point`.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode, b64encode
from functools import lru_cache

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.signing import SigningKey, VerifyKey

from config_daemon.errors import KeyUnavailable

_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
_PKCS8_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
_KEY_BYTES = 32


@lru_cache(maxsize=64)  # asked of the same few keys for every message
def key_id(public_key: bytes) -> str:
    """Return the 32 hex digits that name a 32-byte public key."""
    return hashlib.sha256(b"cd-ed25519-v1\0" + public_key).hexdigest()[:32]


def verify_key(public_key: bytes) -> VerifyKey:
    """Return a usable verification key.

    Raises: KeyUnavailable when the 32 bytes are no canonical point of the prime-order group.
    """
    if len(public_key) != _KEY_BYTES or not crypto_core_ed25519_is_valid_point(public_key):
        raise KeyUnavailable(
            "this Ed25519 public key is not a valid point (small order, or not canonical)",
            suggestion="Install the key that `config-daemon keys public` prints on the daemon's host.",
        )
    return VerifyKey(public_key)


def public_key_from_text(text: str) -> VerifyKey:
    """Read a public key: PEM (SubjectPublicKeyInfo) or 64 hex digits.

    Raises: KeyUnavailable.
    """
    stripped = text.strip()
    if len(stripped) == 2 * _KEY_BYTES:
        try:
            return verify_key(bytes.fromhex(stripped))
        except ValueError:
            pass
    return verify_key(_unwrap(stripped, "PUBLIC KEY", _SPKI_PREFIX))


def signing_key_from_pem(text: str) -> SigningKey:
    """Read a private key: PEM (PKCS#8, unencrypted).

    Raises: KeyUnavailable.
    """
    return SigningKey(_unwrap(text.strip(), "PRIVATE KEY", _PKCS8_PREFIX))


def signing_key(seed: bytes) -> SigningKey:
    """Return the private key that 32 random bytes are."""
    return SigningKey(seed)


def public_key_pem(key: VerifyKey) -> str:
    """Return the key as PEM, with a newline at its end."""
    return _wrap(bytes(key), "PUBLIC KEY", _SPKI_PREFIX)


def signing_key_pem(key: SigningKey) -> str:
    """Return the private key as PEM, with a newline at its end; the caller keeps it secret."""
    return _wrap(bytes(key), "PRIVATE KEY", _PKCS8_PREFIX)


def _wrap(key: bytes, label: str, prefix: bytes) -> str:
    return f"-----BEGIN {label}-----\n{b64encode(prefix + key).decode()}\n-----END {label}-----\n"


def _unwrap(pem: str, label: str, prefix: bytes) -> bytes:
    head, tail = f"-----BEGIN {label}-----", f"-----END {label}-----"
    refusal = KeyUnavailable(
        f"this is no Ed25519 {label.lower()} in PEM",
        suggestion=f"The text must begin with {head!r}, end with {tail!r}, and hold an Ed25519 key.",
    )
    if not (pem.startswith(head) and pem.endswith(tail)):
        raise refusal
    try:
        der = b64decode("".join(pem[len(head) : -len(tail)].split()), validate=True)
    except (binascii.Error, ValueError):
        raise refusal from None
    if len(der) != len(prefix) + _KEY_BYTES or not der.startswith(prefix):
        raise refusal
    return der[len(prefix) :]
