"""Keyrings for tests: made from keys alone, or signed step by step as a person with a root key would."""

from __future__ import annotations

from nacl.signing import VerifyKey

from config_daemon.wire.keyring import CONFIG, ROOT, Keyring, TrustedKey, of_key
from config_daemon.wire.keys import key_id


def ring_of(*keys: VerifyKey, generation: int = 1) -> Keyring:
    """Return a keyring that lists these keys, the first as root, as if a person had installed it."""
    if len(keys) == 1 and generation == 1:
        return of_key(keys[0])
    roles = [frozenset({ROOT, CONFIG}), *[frozenset({CONFIG})] * len(keys)]
    listed = tuple(TrustedKey(key_id(bytes(key)), key, may) for key, may in zip(keys, roles, strict=False))
    return Keyring(1, generation, "0" * 64, listed, {})
