"""Seal and unseal: one JSON object whose last member, cut off by `tail.py`, signs all bytes before it.

Laws: the signature covers the exact bytes and the message's type, so nobody canonicalises and no
type passes as another; verification comes before parsing; the algorithm belongs to the key and no
member of a message chooses it.

What the members mean is not decided here; `mac.py` seals the daemon's own files in the same form.

Sources: DSSE v1 (pre-authentication encoding), RFC 8032 (Ed25519).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from json.encoder import JSONEncoder, c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any

from nacl.bindings import crypto_sign, crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.tail import check_size, cut_tail, with_tail

_ED25519_BYTES = 64


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
    return "".join(_ENCODE(value, 0)).encode("utf-8")


# what JSONEncoder.encode builds anew for every value: markers, default, texts, indent, :, sort_keys, skipkeys, NaN
_ENCODE = c_make_encoder(None, JSONEncoder().default, encode_basestring, None, ":", ",", True, False, False)


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
    signed = signature + pae(media_type(body_type), body)
    for key in keys:
        with suppress(BadSignatureError):
            crypto_sign_open(signed, bytes(key))
            return body, key
    raise RejectedUpdate(
        "bad-signature", 3, "no trusted key made this signature over these bytes and this type"
    )
