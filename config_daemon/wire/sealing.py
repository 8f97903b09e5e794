"""Seal and unseal: one JSON object whose last member is the signature over all bytes before it.

    raw  = body[:-1] + b',"signature":"' + base64(signature) + b'"}'
    body = a compact JSON object with sorted keys

Laws: the signature covers the exact bytes and the message's type, so nobody canonicalises and no
type passes as another; verification comes before parsing; the algorithm belongs to the key and no
member of a message chooses it.

What the members mean is not decided here; `mac.py` seals the daemon's own files in the same form.

Sources: DSSE v1 (pre-authentication encoding), RFC 8032 (Ed25519), RFC 4648 §3.5 (canonical base64).
"""

from __future__ import annotations

import json
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable
from typing import Any

from nacl.bindings import crypto_sign
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from config_daemon.errors import RejectedUpdate

MAX_MESSAGE_BYTES = (1 << 20) - 1
_TAIL_HEAD = b',"signature":"'
_TAIL_END = b'"}'
_ED25519_BYTES = 64
TAIL_BYTES = 104  # of a message on the wire


def media_type(body_type: str) -> bytes:
    """Return the full type that a signature covers, for a short name such as `config-update`."""
    return b"application/vnd.config-daemon.%s.v1+json" % body_type.encode()


def pae(kind: bytes, body: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of a type and a body."""
    return pae_head(kind, len(body)) + body


def pae_head(kind: bytes, body_bytes: int) -> bytes:
    """Return what stands before a body of a given length in that encoding."""
    return b"DSSEv1 %d %s %d " % (len(kind), kind, body_bytes)


def canonical(value: Any) -> bytes:
    """Serialise to the one JSON form that we sign: compact, keys sorted by code point, UTF-8.

    Raises: ValueError for NaN, infinities and lone surrogates.
    """
    return _ENCODER.encode(value).encode("utf-8")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def seal(body: bytes, body_type: str, key: SigningKey) -> bytes:
    """Append an Ed25519 signature to a JSON object's bytes."""
    # bytes(key) + bytes(verify_key) is libsodium's secret key; SigningKey.sign() does the same, slower
    signed = crypto_sign(pae(media_type(body_type), body), bytes(key) + bytes(key.verify_key))
    return with_tail(body, signed[:_ED25519_BYTES])


def unseal(raw: bytes, body_type: str, keys: Iterable[VerifyKey]) -> tuple[bytes, VerifyKey]:
    """Return the signed body and the trusted key that verified it.

    Raises: RejectedUpdate `oversize`, `wiped` (step 1), `bad-tail` (2), `bad-signature` (3).
    """
    check_size(raw)
    body, signature = cut_tail(raw, _ED25519_BYTES)
    message = pae(media_type(body_type), body)
    for key in keys:
        try:
            key.verify(message, signature)
        except BadSignatureError:
            continue
        return body, key
    raise RejectedUpdate(
        "bad-signature", 3, "no trusted key made this signature over these bytes and this type"
    )


def check_size(raw: bytes) -> None:
    """Refuse an empty payload (`wiped`) and one over the hard limit (`oversize`), both step 1."""
    if not raw:
        raise RejectedUpdate("wiped", 1, "the retained message was cleared")
    if len(raw) > MAX_MESSAGE_BYTES:
        raise RejectedUpdate("oversize", 1, f"{len(raw)} bytes, at most {MAX_MESSAGE_BYTES}")


def cut_tail(raw: bytes, signature_bytes: int) -> tuple[bytes, bytes]:
    """Split a sealed message into its body and its signature, by position and never by search.

    Raises: RejectedUpdate `bad-tail` (step 2) unless the tail has exactly the one form.
    """
    base64_bytes = 4 * ((signature_bytes + 2) // 3)
    tail_bytes = len(_TAIL_HEAD) + base64_bytes + len(_TAIL_END)
    tail = raw[-tail_bytes:]
    encoded = tail[len(_TAIL_HEAD) : -len(_TAIL_END)]
    if (
        len(raw) <= tail_bytes
        or raw[:1] != b"{"
        or not tail.startswith(_TAIL_HEAD)
        or not tail.endswith(_TAIL_END)
    ):
        raise RejectedUpdate("bad-tail", 2, 'the message does not end in ,"signature":"…"}')
    try:
        signature = a2b_base64(encoded, strict_mode=True)
    except Base64Error:
        raise RejectedUpdate("bad-tail", 2, "the signature is not base64") from None
    # the same bits have one spelling only: otherwise a message could change its bytes and stay valid
    if len(signature) != signature_bytes or b64encode(signature) != encoded:
        raise RejectedUpdate("bad-tail", 2, "the signature is not canonical base64")
    return raw[:-tail_bytes] + b"}", signature


def with_tail(body: bytes, signature: bytes) -> bytes:
    """Append a signature to a JSON object's bytes as its last member."""
    return body[:-1] + _TAIL_HEAD + b64encode(signature) + _TAIL_END
