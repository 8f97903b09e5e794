"""A worker's own keys: one pair to sign what it says, one for secrets to be sealed to.

Laws: both pairs are made on the worker and their private halves never leave it; what leaves it is one JSON
object with the public halves, which a person carries to the daemon's host.

Sources: docs/protocol.md "Status" and "Enrolment"; RFC 8032 (Ed25519), RFC 7748 (X25519).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from nacl.public import PrivateKey
from nacl.signing import SigningKey, VerifyKey

from config_daemon.errors import KeyUnavailable
from config_daemon.wire import values
from config_daemon.wire.keys import key_id, verify_key
from config_daemon.wire.sealing import seal
from config_daemon.wire.status import STATUS, Status, status_body
from config_daemon.wire.topics import is_name

SEED_BYTES = 32
_KEY = re.compile(r"[0-9a-f]{64}")
_PRIVATE = '"signing'  # begins a member of worker.keys, and of nothing public
_MEMBERS = {"worker", "verify_key", "box_key"}


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """The public halves, by the name of the worker; both are 64 hex digits."""

    worker: str
    verify_key: str
    box_key: str

    @property
    def key_id(self) -> str:
        """Return the name of the key that signs statuses."""
        return key_id(bytes.fromhex(self.verify_key))

    @property
    def verifier(self) -> VerifyKey:
        """Return the key that checks statuses."""
        return verify_key(bytes.fromhex(self.verify_key))

    @property
    def fingerprint(self) -> str:
        """Return 16 hex digits of both keys, in groups of four, for two people to compare."""
        digits = hashlib.sha256(bytes.fromhex(self.verify_key) + bytes.fromhex(self.box_key)).hexdigest()[:16]
        return " ".join(digits[start : start + 4] for start in range(0, 16, 4))

    def to_text(self) -> str:
        """Return them as they are carried: one JSON object on a line."""
        members = {"worker": self.worker, "verify_key": self.verify_key, "box_key": self.box_key}
        return json.dumps(members) + "\n"

    @classmethod
    def from_text(cls, text: str) -> PublicKeys:
        """Read what `to_text` wrote.

        Raises: KeyUnavailable when it is anything else, or a key is none.
        """
        if _PRIVATE in text:
            raise KeyUnavailable(
                "this is the worker's private file, which never leaves it: you want worker.public.json beside it",
                suggestion="Delete every copy of the private file that is not on the worker.",
            )
        try:
            members = values.parse(text)
        except values.BadJson as error:
            raise _refused("it is not one JSON object") from error
        if not isinstance(members, dict) or set(members) != _MEMBERS:
            raise _refused(f"it must have the members {', '.join(sorted(_MEMBERS))} and no other")
        if not all(isinstance(one, str) for one in members.values()) or not is_name(members["worker"]):
            raise _refused("`worker` must be a worker's name")
        found = cls(**members)
        for name in ("verify_key", "box_key"):
            _check_hex(name, members[name])
        verify_key(bytes.fromhex(found.verify_key))
        return found


class WorkerKeys:
    """Both pairs of one worker, made of two secret seeds of 32 bytes."""

    def __init__(self, worker: str, signing_seed: bytes, box_seed: bytes) -> None:
        self._signing, self._box = SigningKey(signing_seed), PrivateKey(box_seed)
        self.public = PublicKeys(
            worker, bytes(self._signing.verify_key).hex(), bytes(self._box.public_key).hex()
        )
        self.key_id = self.public.key_id

    def sign(self, status: Status) -> bytes:
        """Return a status as it travels."""
        return seal(status_body(status), STATUS, self._signing)


def _check_hex(name: str, text: str) -> None:
    if not _KEY.fullmatch(text):
        raise _refused(f"`{name}` must be 64 lower-case hex digits")


def _refused(why: str) -> KeyUnavailable:
    return KeyUnavailable(
        f"these are no public keys of a worker: {why}",
        suggestion="Use worker.public.json of the worker's state folder: every worker writes it there at its start.",
    )
