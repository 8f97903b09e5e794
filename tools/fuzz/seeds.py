"""Bodies that every reader accepts, from which all mutants are made.

Laws: everything follows from fixed keys and numbers, so that a run can be repeated.
"""

from __future__ import annotations

import dataclasses
import json

from config_daemon.store.cache import Head
from config_daemon.store.marks import Marks
from config_daemon.store.ports import Place
from config_daemon.wire.sealing import canonical
from tools.beacon_vectors import EMPTY_SHA256, LISTED_SHA256, SHARD, beacon, shard
from tools.wire_messages import CONFIG, ENVELOPE, HEALTH, IDS, PUBLIC, SEALED_AT, numbered, sealed, update

KEYRING = "keyring"
HMAC_KEY = b"k" * 32
_TEXTS = canonical({"ä": "Grüße 🎙", "imitation": ',"config_epoch":"', "list": [1, 2.5, None, {"a": []}]})

UPDATES = [
    update(),
    update(b"{}", deleted=True),
    update(_TEXTS, expires_at=SEALED_AT, future=[1, "x"], confirm_seconds=60),
    update(until=SEALED_AT, then={"a": 1}, secrets={"nonce": "", "ciphertext": "", "recipients": {"a": "b"}}),
]
HEALTHS = [
    canonical(HEALTH),
    canonical({**HEALTH, "conditions": HEALTH["conditions"] * 3, "last_backup": SEALED_AT, "err": None}),
]
BEACONS = [
    beacon(),
    beacon(services={}, shards={SHARD: LISTED_SHA256, "00": EMPTY_SHA256}),
    beacon(audit={"history": [3, "5a" * 32], "access": [0, "00" * 32]}, future=[1, "x"]),
    shard(),
]


def _keyring(number: int, generation: int, revoked: list[str], **roles: list[str]) -> bytes:
    return canonical({
        "version": 1, "number": number, "generation": generation, "issued_at": SEALED_AT,
        "keys": [{"key_id": IDS[name], "public_key": PUBLIC[name], "roles": held} for name, held in roles.items()],
        "revoked": [{"key_id": key_id, "at": SEALED_AT, "reason": "lost"} for key_id in revoked],
    })  # fmt: skip


_OTHER, _BOTH = "ab" * 16, ["config", "root"]
HELD_KEYRING = _keyring(5, 2, [_OTHER], alpha=_BOTH, beta=["config"])
KEYRINGS = [
    _keyring(6, 2, [_OTHER], alpha=_BOTH, beta=["config"], gamma=["root", "future"]),
    _keyring(7, 3, [_OTHER, IDS["beta"]], alpha=_BOTH),
    _keyring(9, 2, [_OTHER], alpha=["root"], gamma=["config"]),
]


def _marks(**changes: object) -> bytes:
    first = Marks(
        generation=1, reserved=1000, epoch=ENVELOPE["config_epoch"], feed=Place(7, "00ff00ff00ff00ff")
    )
    return canonical({**dataclasses.asdict(first), **changes})


MARKS = [
    _marks(),
    _marks(feed=None, epoch=""),
    _marks(
        held=["foreign-state", "stt-worker", "why"],
        audit={"history": [3, "5a" * 32], "access": [0, "00" * 32]},
    ),
]


def _lkg(messages: dict[str, tuple[bytes, bytes]]) -> bytes:
    head = Head(ENVELOPE["config_epoch"], SEALED_AT, 1, 1041, Place(7, "00ff"), 1, IDS["alpha"])
    members = {name: getattr(head, name) for name in Head.__slots__}
    payload = {name: json.loads(config) for name, (config, _) in messages.items()}
    sealed_texts = {name: raw.decode() for name, (_, raw) in messages.items()}
    return canonical({**members, "payload": payload, "sealed": sealed_texts})


LKGS = [
    _lkg({"stt-worker": (CONFIG, sealed())}),
    _lkg(
        {
            "stt-worker": (CONFIG, numbered(2000)),
            "tts": (_TEXTS, sealed(update(_TEXTS))),
            "gone": (b"{}", sealed(update(b"{}", deleted=True))),
        }
    ),
    _lkg({}),
]


def _kept(**changes: object) -> bytes:
    message = sealed().decode()
    whole = {"anchor": "anchor", "floor": [1, 1041, "5a" * 32], "current": message, "previous": None,
             "outcome": "applied", "unused": None}  # fmt: skip
    return json.dumps({**whole, **changes}, ensure_ascii=False).encode()


KEPT = [
    _kept(),
    _kept(previous=numbered(1000).decode(), outcome="pending"),
    _kept(floor=None, current=None, outcome=None),
    _kept(anchor="another", current=None, unused="ü", outcome="rejected"),
]

_PEM = f"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI{'A' * 43}\n-----END PRIVATE KEY-----\n"
ENVS = [text.encode() for text in (
    "# keys\nMQTT_URL=mqtts://broker:8883\nexport MQTT_PASSWORD='a b # c'\nSTT_WORKER_THREADS=4 # note\n",
    f'CONFIG_SIGNATURE_PRIVATE_KEY="{_PEM}"\n\nHMAC="a\\nb\\"c\\\\"\nEMPTY=\nSINGLE=\'it\\\'s\'\n',
    '\ufeffA=1\r\nB="zwei\r\nZeilen"\r\n  C = Grüße 🎙\r\nJSON={"a":[1,2.5]}\r\n',
)]  # fmt: skip
