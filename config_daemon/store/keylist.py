"""What may be told of the keys that a folder uses, and all of them at once for a backup.

Laws: `held` gives nothing of a key away; `assignments` gives everything, and its caller keeps it secret.

Source: seed 004 "Encryption Metadata".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from config_daemon.store.keyfiles import (
    NEXT_PRIVATE_KEY,
    OLD,
    PRIVATE_KEY,
    PUBLIC_KEY,
    SYMMETRIC,
    KeyFiles,
    Source,
    new_key_text,
)

SIGNING, NEXT_SIGNING = "signing", "signing-next"
_UNDER_WAY = {NEXT_SIGNING, *(kind.purpose for kind in OLD)}
_DIGEST_LABEL = b"config-daemon key-digest v1"


@dataclass(frozen=True, slots=True)
class HeldKey:
    """What may be told of a key; None stands for what is not known here.

    `digest` knows the key again, also under another id. A key without a source cannot be had from here:
    it is missing, or another process has it as a credential.
    """

    purpose: str
    key_id: str | None
    digest: str | None
    source: Source | None


def held(keys: KeyFiles) -> tuple[HeldKey, ...]:
    """Return every key that is used here: signing, master, HMAC; during a rotation the next or old one too.

    Raises: KeyUnavailable when one is there and must not be used.
    """
    found = [_signing(keys)]
    if coming := keys.next_signer():
        public = bytes(coming.verify_key)
        digest = hashlib.sha256(public).hexdigest()
        found.append(HeldKey(NEXT_SIGNING, coming.key_id, digest, keys.source(NEXT_PRIVATE_KEY)))
    for kind in SYMMETRIC:
        source = keys.source(kind.name)
        if source is not None:
            key_id, key = keys.symmetric(kind)
            digest = hmac.digest(key, _DIGEST_LABEL, hashlib.sha256).hex()
            found.append(HeldKey(kind.purpose, key_id, digest, source))
        elif kind not in OLD:
            found.append(HeldKey(kind.purpose, keys.find(kind.id_name), None, None))
    return tuple(found)


def encryption_metadata(keys: Sequence[HeldKey], grace_ends: str | None = None) -> dict[str, Any]:
    """Return the seed's EncryptionMetadata; a next or old key that is still named means a rotation under way.

    `grace_ends` is when a staged key may sign, None where none waits.
    """
    by_purpose = {key.purpose: key for key in keys}
    return {
        "master_key_id": by_purpose["master"].key_id,
        "hmac_key_id": by_purpose["lkg-hmac"].key_id,
        "signature_public_key_hash": by_purpose[SIGNING].digest,
        "rotation_status": "in-progress" if grace_ends or by_purpose.keys() & _UNDER_WAY else "idle",
        "grace_window_until": grace_ends,
    }


def assignments(keys: KeyFiles) -> dict[str, str]:
    """Return all keys that are here, and their ids, as `.env` would hold them.

    Raises: KeyUnavailable when one is there and must not be used.
    """
    from config_daemon.wire.keys import public_key_pem, signing_key_pem

    found: dict[str, str] = {}
    if keys.source(PRIVATE_KEY):
        signer = keys.signer()
        found |= {PRIVATE_KEY: signing_key_pem(signer.key), PUBLIC_KEY: public_key_pem(signer.verify_key)}
    elif keys.source(PUBLIC_KEY):
        found[PUBLIC_KEY] = public_key_pem(keys.public_key())
    if coming := keys.next_signer():
        found[NEXT_PRIVATE_KEY] = signing_key_pem(coming.key)
    for kind in SYMMETRIC:
        if keys.source(kind.name):
            key_id, key = keys.symmetric(kind)
            found |= {kind.name: new_key_text(key), kind.id_name: key_id}
        elif key_id := keys.find(kind.id_name) or "":
            found[kind.id_name] = key_id
    return found


def _signing(keys: KeyFiles) -> HeldKey:
    from config_daemon.wire.keys import key_id

    source = keys.source(PRIVATE_KEY)
    if source is None and keys.source(PUBLIC_KEY) is None:
        return HeldKey(SIGNING, None, None, None)
    public = bytes(keys.public_key() if source is None else keys.signer().verify_key)
    return HeldKey(SIGNING, key_id(public), hashlib.sha256(public).hexdigest(), source)
