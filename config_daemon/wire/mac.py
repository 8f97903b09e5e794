"""Seal the daemon's own files: the form of `sealing.py`, with HMAC-SHA256 in place of a signature.

Laws: the MAC covers the exact bytes and the file's type, and is checked before anything is parsed.

Source: RFC 2104; the tail is 60 bytes, since 32 bytes are 44 characters of base64.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from itertools import chain

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.sealing import media_type, pae_head
from config_daemon.wire.tail import cut_tail, with_tail

MAC_BYTES = 32
TAIL_BYTES = 60


def seal_hmac(body: bytes, body_type: str, key: bytes) -> bytes:
    """Append an HMAC-SHA256 to a JSON object's bytes."""
    return body[:-1] + tail_hmac((body[:-1],), len(body) - 1, body_type, key)


def tail_hmac(chunks: Iterable[bytes], chunks_bytes: int, body_type: str, key: bytes) -> bytes:
    """Return what ends an object of which all but the closing brace was written, in chunks."""
    return with_tail(b"}", _mac(chain(chunks, (b"}",)), chunks_bytes + 1, body_type, key))


def unseal_hmac(raw: bytes, body_type: str, keys: Iterable[bytes]) -> bytes:
    """Return the body of a file sealed with one of the keys.

    Raises: RejectedUpdate `bad-tail`, `bad-signature`.
    """
    return bytes(open_body(raw, body_type, keys)) + b"}"


def open_body(raw: bytes, body_type: str, keys: Iterable[bytes]) -> memoryview:
    """Return the same body without its closing brace, and without a copy: a cache may be large.

    Raises: RejectedUpdate `bad-tail`, `bad-signature`.
    """
    _, signature = cut_tail(raw if len(raw) <= TAIL_BYTES else raw[:1] + raw[-TAIL_BYTES:], MAC_BYTES)
    body = memoryview(raw)[:-TAIL_BYTES]
    for key in keys:
        if hmac.compare_digest(_mac((body, b"}"), len(body) + 1, body_type, key), signature):
            return body
    raise RejectedUpdate("bad-signature", 3, "no key of ours made this HMAC")


def _mac(chunks: Iterable[bytes | memoryview], body_bytes: int, body_type: str, key: bytes) -> bytes:
    mac = hmac.new(key, pae_head(media_type(body_type), body_bytes), hashlib.sha256)
    for chunk in chunks:
        mac.update(chunk)
    return mac.digest()
