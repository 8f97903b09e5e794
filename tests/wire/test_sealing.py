"""A sealed message: what it looks like, and that nothing but its own bytes and type opens it."""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from config_daemon.errors import RejectedUpdate
from config_daemon.wire import tail
from config_daemon.wire.mac import seal_hmac, unseal_hmac
from config_daemon.wire.sealing import canonical, pae, seal, unseal
from tools.wire_messages import KEYS, update

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
ALPHA = KEYS["alpha"]
TRUSTED = [ALPHA.verify_key]
BODY = update()
RAW = seal(BODY, "config-update", ALPHA)
HMAC_KEY = bytes(range(32))
JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(JSON_TEXT, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(JSON_TEXT.filter(lambda key: key != "signature"), JSON, min_size=1, max_size=6)


def refusal(open_it: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(RejectedUpdate) as refused:
        open_it()
    return refused.value.step, refused.value.reason


def of(raw: bytes, body_type: str = "config-update") -> tuple[int, str]:
    return refusal(lambda: unseal(raw, body_type, TRUSTED))


def with_tail(encoded: bytes) -> bytes:
    return BODY[:-1] + b',"signature":"' + encoded + b'"}'


@given(OBJECTS)
def test_what_was_sealed_is_unsealed_byte_for_byte(members: dict[str, Any]) -> None:
    body = canonical(members)
    raw = seal(body, "config-update", ALPHA)
    assert unseal(raw, "config-update", TRUSTED) == (body, ALPHA.verify_key)
    assert unseal_hmac(seal_hmac(body, "marks", HMAC_KEY), "marks", [HMAC_KEY]) == body


@given(OBJECTS)
def test_a_sealed_message_is_ordinary_json_that_ends_in_its_signature(members: dict[str, Any]) -> None:
    read = json.loads(seal(canonical(members), "config-update", ALPHA))
    assert list(read)[-1] == "signature"
    assert len(b64decode(read.pop("signature"), validate=True)) == 64
    assert read == members


def test_the_tails_have_the_lengths_that_readers_cut_by_position() -> None:
    assert len(RAW) - len(BODY) + 1 == tail.TAIL_BYTES == 104
    assert len(seal_hmac(BODY, "marks", HMAC_KEY)) - len(BODY) + 1 == 60


def test_the_signature_is_what_another_library_makes() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(ALPHA))
    kind = b"application/vnd.config-daemon.config-update.v1+json"
    signed = b"DSSEv1 " + str(len(kind)).encode() + b" " + kind + b" " + str(len(BODY)).encode() + b" " + BODY
    assert with_tail(b64encode(other.sign(signed))) == RAW


def test_the_encoding_is_that_of_dsse() -> None:
    # the example of the DSSE specification, protocol.md
    assert pae(b"http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_an_empty_payload_is_wiped_and_the_size_limit_is_exact() -> None:
    assert of(b"") == (1, "wiped")
    room = tail.MAX_MESSAGE_BYTES - len(seal(b'{"a":""}', "config-update", ALPHA))
    largest = seal(b'{"a":"%s"}' % (b"x" * room), "config-update", ALPHA)
    assert len(largest) == (1 << 20) - 1
    assert len(unseal(largest, "config-update", TRUSTED)[0]) == len(largest) - 103
    assert of(seal(b'{"a":"%s"}' % (b"x" * (room + 1)), "config-update", ALPHA)) == (1, "oversize")
    assert of(b"x" * (1 << 20)) == (1, "oversize")


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"{}",
        RAW[-104:],
        RAW[:-1],
        RAW[1:],
        RAW + b"\n",
        RAW + b"\0",
        b" " + RAW,
        b"\xef\xbb\xbf" + RAW,
        b"[" + RAW[1:],
        RAW[:-1] + b"]",
        RAW[:-2] + b"'}",
        RAW.replace(b'"signature"', b'"Signature"'),
        RAW.replace(b',"signature":', b', "signature":'),
        RAW.replace(b'"signature":', b'"signature": '),
        BODY,
        with_tail(b""),
        with_tail(b64encode(bytes(63))),
        with_tail(b64encode(bytes(65))),
        with_tail(b64encode(bytes(66))),
        with_tail(b64encode(bytes(64)).rstrip(b"=")),
        with_tail(b"=" * 88),
        with_tail(b"A" * 88),
        with_tail(b"A" * 84 + b"===="),
        with_tail(b"A" * 43 + b"\n" + b"A" * 42 + b"=="),
        with_tail(b"A" * 43 + b"=" + b"A" * 42 + b"=="),
        with_tail(b"A" * 85 + b"\xc3\xa4="),
        with_tail(b"-_" * 43 + b"=="),
        seal_hmac(BODY, "config-update", HMAC_KEY),
    ],
)
def test_any_other_tail_is_refused_before_a_signature_is_looked_at(raw: bytes) -> None:
    assert of(raw) == (2, "bad-tail")


def test_one_signature_has_one_spelling() -> None:
    """The last digit before the padding holds four bits that decode to nothing: 15 twins of every signature."""
    head, digit = RAW[:-5], ALPHABET.index(RAW[-5])
    twins = [head + ALPHABET[twin : twin + 1] + RAW[-4:] for twin in range(digit, digit + 16)]
    assert twins.pop(0) == RAW
    assert {b64decode(twin[-90:-2]) for twin in twins} == {b64decode(RAW[-90:-2])}
    assert {of(twin) for twin in twins} == {(2, "bad-tail")}

    sealed = seal_hmac(BODY, "marks", HMAC_KEY)
    digit = ALPHABET.index(sealed[-4])
    twins = [sealed[:-4] + ALPHABET[twin : twin + 1] + sealed[-3:] for twin in range(digit + 1, digit + 4)]
    refused = {refusal(partial(unseal_hmac, twin, "marks", [HMAC_KEY])) for twin in twins}
    assert refused == {(2, "bad-tail")}


def test_the_signature_covers_every_byte_and_the_type() -> None:
    assert of(RAW.replace(b'"threads":4', b'"threads":5')) == (3, "bad-signature")
    assert of(RAW.replace(b'"threads":4', b'"threads": 4')) == (3, "bad-signature")
    for other in ("health", "config-updat", "config-update ", "config-update.v1", "", "marks"):
        assert of(RAW, other) == (3, "bad-signature")


def test_a_type_and_a_body_cannot_lend_each_other_bytes() -> None:
    """Lengths stand before both parts, so that no other pair has the same encoding."""
    assert pae(b"a", b"b 1 c") != pae(b"a 5 b", b"c")
    shorter = seal(b'{"a":1}', "x", ALPHA)
    assert refusal(lambda: unseal(shorter, "x.v1+json 7 {", TRUSTED)) == (3, "bad-signature")


def test_only_a_trusted_key_opens_and_the_reader_learns_which() -> None:
    assert of(seal(BODY, "config-update", KEYS["gamma"])) == (3, "bad-signature")
    assert refusal(lambda: unseal(RAW, "config-update", [])) == (3, "bad-signature")
    all_keys = [key.verify_key for key in KEYS.values()]
    for key in KEYS.values():
        assert unseal(seal(BODY, "config-update", key), "config-update", all_keys)[1] == key.verify_key


def test_a_file_is_opened_by_any_of_our_keys_and_by_no_other() -> None:
    sealed = seal_hmac(BODY, "lkg", HMAC_KEY)
    assert unseal_hmac(sealed, "lkg", [bytes(32), HMAC_KEY]) == BODY
    assert refusal(lambda: unseal_hmac(sealed, "lkg", [bytes(32)])) == (3, "bad-signature")
    assert refusal(lambda: unseal_hmac(sealed, "lkg", [])) == (3, "bad-signature")
    assert refusal(lambda: unseal_hmac(sealed, "marks", [HMAC_KEY])) == (3, "bad-signature")
    assert refusal(lambda: unseal_hmac(RAW, "config-update", [bytes(ALPHA)])) == (2, "bad-tail")


def test_nothing_is_parsed_before_the_signature_was_verified() -> None:
    """Bytes that would break or exhaust a parser end at step 3."""
    for hostile in (b"[" * 900_000, b'{"a":' * 100_000, b"9" * 900_000, b"\xff" * 1000, b'"\\ud800'):
        assert of(b"{" + hostile + RAW[-104:]) == (3, "bad-signature")


def test_canonical_bytes_are_compact_sorted_by_code_point_and_not_escaped() -> None:
    # U+E000 sorts before U+1F600, although its UTF-16 form sorts after it
    value = {"\U0001f600": 1, "\ue000": 2, "b": [1.5, None, True], "a": {"ü": "\x00\n"}}
    assert (
        canonical(value) == '{"a":{"ü":"\\u0000\\n"},"b":[1.5,null,true],"\ue000":2,"\U0001f600":1}'.encode()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", {"\udfff": 1}])
def test_what_is_no_json_cannot_be_serialised(value: Any) -> None:
    with pytest.raises(ValueError):
        canonical({"a": value})
