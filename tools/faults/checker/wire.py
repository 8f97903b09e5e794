"""Sealed messages, opened by what docs/protocol.md says and by nothing of the product."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode
from typing import Any, NamedTuple

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

TAIL_BYTES, CONFIG_AT = 104, 88
_TAIL = re.compile(rb',"signature":"([A-Za-z0-9+/]{86}==)"}')
_KINDS = {"config": "config-update", "health": "health", "beacon": "beacon", "keyring": "keyring"}


class Forged(Exception):
    """No key that is believed sealed these bytes for this topic."""


class Message(NamedTuple):
    """A message that somebody we believe has sealed."""

    kind: str
    body: dict[str, Any]
    key: bytes

    @property
    def place(self) -> tuple[int, int]:
        """Return what orders messages."""
        return self.body["generation"], self.body.get("sequence", 0)


def kind_of(topic: str) -> str:
    """Return which type of message belongs on a topic; empty for others."""
    parts = topic.split("/")
    if parts[1:2] == ["trust"]:
        return parts[2] if parts[2] in _KINDS else ""
    if parts[1:2] == ["evidence"]:
        return "keyring" if parts[2] == "keyring" else "config"
    return parts[1] if len(parts) > 1 and parts[1] in _KINDS else ""


def unseal(topic: str, raw: bytes, keys: dict[str, set[bytes]]) -> Message:
    """Return what a topic's message says; `keys` are public keys by role, `root` and `config`.

    Raises: Forged.
    """
    kind, tail = kind_of(topic), _TAIL.fullmatch(raw[-TAIL_BYTES:])
    if not kind or not tail:
        raise Forged(f"{topic}: no sealed message")
    body = raw[:-TAIL_BYTES] + b"}"
    name = f"application/vnd.config-daemon.{_KINDS[kind]}.v1+json".encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(name), name, len(body), body)
    for key in keys["root" if kind == "keyring" else "config"]:
        try:
            VerifyKey(key).verify(signed, b64decode(tail[1]))
        except BadSignatureError:
            continue
        message = Message(kind, json.loads(body, object_pairs_hook=_once), key)
        _check(topic, message, body)
        return message
    raise Forged(f"{topic}: no key that is believed signed it")


def key_name(public: bytes) -> str:
    """Return the id that messages carry for a key."""
    return hashlib.sha256(b"cd-ed25519-v1\0" + public).hexdigest()[:32]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Forged("a member stands there twice")
    return members


def _check(topic: str, message: Message, body: bytes) -> None:
    if message.kind == "config":
        _check_config(topic, message.body, body.decode())
    if message.kind != "keyring" and message.body["key_id"] != key_name(message.key):
        raise Forged(f"{topic}: it names another key than the one that signed it")


def _check_config(topic: str, members: dict[str, Any], body: str) -> None:
    _, end = json.JSONDecoder().raw_decode(body, CONFIG_AT)
    if hashlib.sha256(body[CONFIG_AT:end].encode()).hexdigest() != members["checksum"]:
        raise Forged(f"{topic}: the checksum is not that of the config")
    if topic.split("/")[2] != members["service"]:
        raise Forged(f"{topic}: it is for {members['service']}")
