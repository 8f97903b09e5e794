"""Seal the daemon's own files: the form of `sealing.py`, with HMAC-SHA256 in place of a signature.

Laws: the MAC covers the exact bytes and the file's type, and is checked before anything is parsed.

Source: RFC 2104; the tail is 60 bytes, since 32 bytes are 44 characters of base64.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.sealing import cut_tail, media_type, pae, with_tail

MAC_BYTES = 32


def seal_hmac(body: bytes, body_type: str, key: bytes) -> bytes:
    """Append an HMAC-SHA256 to a JSON object's bytes."""
    return with_tail(body, hmac.digest(key, pae(media_type(body_type), body), hashlib.sha256))


def unseal_hmac(raw: bytes, body_type: str, keys: Iterable[bytes]) -> bytes:
    """Return the body of a file sealed with one of the keys.

    Raises: RejectedUpdate `bad-tail`, `bad-signature`.
    """
    body, signature = cut_tail(raw, MAC_BYTES)
    message = pae(media_type(body_type), body)
    for key in keys:
        if hmac.compare_digest(hmac.digest(key, message, hashlib.sha256), signature):
            return body
    raise RejectedUpdate("bad-signature", 3, "no key of ours made this HMAC")
