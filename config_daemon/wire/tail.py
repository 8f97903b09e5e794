"""The form of everything that we seal: one JSON object whose last member is the signature.

    raw = body[:-1] + b',"signature":"' + base64(signature) + b'"}'

Laws: a message is cut by position and never by search; the same bits have one spelling only.

Source: RFC 4648 §3.5 (canonical base64).
"""

from __future__ import annotations

from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64

from config_daemon.errors import RejectedUpdate

MAX_MESSAGE_BYTES = (1 << 20) - 1
TAIL_BYTES = 104  # of a message on the wire
_TAIL_HEAD = b',"signature":"'
_TAIL_END = b'"}'


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
