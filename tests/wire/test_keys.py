"""Keys as text and as bytes: what is loaded, what is refused before it can ever verify anything."""

from __future__ import annotations

import itertools
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add
from nacl.signing import SigningKey

from config_daemon.errors import KeyUnavailable, SettingsError
from config_daemon.wire import keys
from tools.wire_messages import KEYS

PRIME = 2**255 - 19
# every y of a point of order 1, 2, 4 or 8: adding such a point to a key, or using it as one, makes
# signatures that fit many messages (RFC 8032 section 8.9 and libsodium's list of the same)
SMALL_ORDER_Y = {
    "order 4": 0,
    "order 1": 1,
    "order 2": PRIME - 1,
    "order 8, first": 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    "order 8, second": 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
}
ORDER_8 = SMALL_ORDER_Y["order 8, first"].to_bytes(32, "little")


def encoded(y: int, sign: int) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


SMALL_ORDER = [encoded(y, sign) for y in SMALL_ORDER_Y.values() for sign in (0, 1)]
NOT_CANONICAL = [encoded(PRIME + more, sign) for more in range(19) for sign in (0, 1)]


def spki(public_key: bytes) -> str:
    der = bytes.fromhex("302a300506032b6570032100") + public_key
    return f"-----BEGIN PUBLIC KEY-----\n{b64encode(der).decode()}\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("public_key", SMALL_ORDER + NOT_CANONICAL, ids=bytes.hex)
def test_small_order_and_non_canonical_keys_are_refused_in_every_form(public_key: bytes) -> None:
    with pytest.raises(KeyUnavailable):
        keys.verify_key(public_key)
    for text in (public_key.hex(), spki(public_key)):
        with pytest.raises(KeyUnavailable):
            keys.public_key_from_text(text)


def test_a_key_with_a_small_component_is_refused() -> None:
    """A good key plus a point of order 8 verifies some signatures and not others, by library."""
    mixed = crypto_core_ed25519_add(bytes(KEYS["alpha"].verify_key), ORDER_8)
    with pytest.raises(KeyUnavailable):
        keys.verify_key(mixed)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(KeyUnavailable):
        keys.verify_key(bytes(KEYS["alpha"].verify_key)[:1] * length)


def test_bytes_that_are_no_point_are_refused() -> None:
    d = -121665 * pow(121666, -1, PRIME) % PRIME

    def has_point(y: int) -> bool:
        square = (y * y - 1) * pow(d * y * y + 1, -1, PRIME)  # of x, by the curve's equation
        return pow(square, (PRIME - 1) // 2, PRIME) in (0, 1)

    pointless = [y for y in range(100) if not has_point(y)]
    assert len(pointless) > 20
    for y in pointless:
        with pytest.raises(KeyUnavailable):
            keys.verify_key(encoded(y, 0))


@given(st.binary(min_size=32, max_size=32))
def test_keys_survive_the_way_through_text(seed: bytes) -> None:
    key = SigningKey(seed)
    assert keys.signing_key_from_pem(keys.signing_key_pem(key)) == key
    assert keys.public_key_from_text(keys.public_key_pem(key.verify_key)) == key.verify_key
    assert keys.public_key_from_text(bytes(key.verify_key).hex()) == key.verify_key
    assert keys.public_key_from_text(bytes(key.verify_key).hex().upper() + "\n") == key.verify_key


def test_our_pem_is_that_of_other_tools() -> None:
    key = KEYS["alpha"]
    other = Ed25519PrivateKey.from_private_bytes(bytes(key))
    pkcs8 = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert keys.signing_key_pem(key) == pkcs8
    assert keys.public_key_pem(key.verify_key) == public
    private_key = load_pem_private_key(keys.signing_key_pem(key).encode(), None)
    public_key = load_pem_public_key(keys.public_key_pem(key.verify_key).encode())
    assert isinstance(private_key, Ed25519PrivateKey)
    assert isinstance(public_key, Ed25519PublicKey)
    assert private_key.private_bytes_raw() == bytes(key)
    assert public_key.public_bytes_raw() == bytes(key.verify_key)


def test_pem_is_read_as_people_paste_it() -> None:
    pem = keys.public_key_pem(KEYS["alpha"].verify_key)
    for pasted in (pem.strip(), f"\n  {pem}\n", pem.replace("\n", "\r\n"), pem.replace("MCow", "MCow\n ")):
        assert keys.public_key_from_text(pasted) == KEYS["alpha"].verify_key


def other_pems() -> list[str]:
    agreement, signer = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    return [
        agreement.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        agreement.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode(),
        signer.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(),
        signer.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "0" * 63,
        "zz" * 32,
        "ab " * 21 + "a",
        "-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nä\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----",
        *other_pems(),
    ],
    ids=itertools.count(),
)
def test_any_other_text_is_no_key(text: str) -> None:
    with pytest.raises(KeyUnavailable):
        keys.public_key_from_text(text)
    with pytest.raises(KeyUnavailable):
        keys.signing_key_from_pem(text)


def test_the_two_halves_are_not_taken_for_each_other() -> None:
    key = KEYS["alpha"]
    with pytest.raises(KeyUnavailable):
        keys.public_key_from_text(keys.signing_key_pem(key))
    with pytest.raises(KeyUnavailable):
        keys.signing_key_from_pem(keys.public_key_pem(key.verify_key))


def test_a_refusal_never_repeats_the_key_and_says_what_to_do() -> None:
    pem = keys.signing_key_pem(KEYS["alpha"])
    secret = pem.splitlines()[1]
    for broken in (pem.replace("PRIVATE", "PUBLIC"), pem[:-30], pem.replace(secret, secret[:-4])):
        with pytest.raises(SettingsError) as refused:
            keys.signing_key_from_pem(broken)
        shown = f"{refused.value} {refused.value.suggestion} {refused.value.contexts}"
        assert secret[10:20] not in shown
        assert refused.value.exit_code == 78


def test_the_key_id_is_the_documented_digest() -> None:
    assert keys.key_id(bytes(KEYS["alpha"].verify_key)) == "6e1f617ecc0c95bf89b0c241f3906961"
    assert len({keys.key_id(bytes(key.verify_key)) for key in KEYS.values()}) == len(KEYS)
    assert len(b64decode(keys.public_key_pem(KEYS["alpha"].verify_key).splitlines()[1])) == 44
