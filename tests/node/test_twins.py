"""A worker in JavaScript and ours believe, apply, flag and show the same, whatever comes in whatever order."""

from __future__ import annotations

import hashlib
import json
import random
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from nacl.signing import SigningKey

from config_daemon.wire.beacon import BEACON, Numbered, list_digest, shard_of
from config_daemon.wire.keyring import KEYRING
from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import CONFIG_UPDATE, timestamp
from config_daemon.wire.sealing import canonical, seal
from tests.node.twins import DEAD, Order, Outcome, PythonTwin, deliver, live, node_outcomes
from tests.worker.edge import NOW_MS
from tests.worker.updates import (
    KEY,
    OTHER_KEY,
    SERVICE,
    TOPIC,
    tombstone,
    update,
    with_secrets,
)

SEED = 20260314
LIVES, STEPS = 200, 40
THIRD_KEY = SigningKey(b"\x03" * 32)
BEACON_TOPIC, KEYRING_TOPIC = "system/trust/beacon", "system/trust/keyring"
SHARD = shard_of(SERVICE)
BOTH, ROOT, CONFIG = ["root", "config"], ["root"], ["config"]
MOODS = [{}, {}, {"failing": 1}, {"invalid": 1}, {"deadly": 1}, {"number": 0}, {"number": 0}]


def name(key: SigningKey) -> str:
    return key_id(bytes(key.verify_key))


def ring(
    number: int,
    generation: int,
    keys: list[tuple[SigningKey, list[str]]],
    by: SigningKey,
    gone: tuple[SigningKey, ...] = (),
    reason: str = "stolen",
) -> bytes:
    listed = [
        {"key_id": name(key), "public_key": bytes(key.verify_key).hex(), "roles": roles}
        for key, roles in keys
    ]
    at = timestamp(NOW_MS)
    body = {
        "version": 1, "number": number, "generation": generation, "issued_at": at, "keys": listed,
        "revoked": [{"key_id": name(key), "at": at, "reason": reason} for key in gone],
    }  # fmt: skip
    return seal(canonical(body), KEYRING, by)


STAGED = ring(1, 1, [(KEY, BOTH), (OTHER_KEY, CONFIG)], KEY)
RETIRED = ring(2, 1, [(KEY, ROOT), (OTHER_KEY, CONFIG)], KEY)
REVOKED = ring(3, 2, [(OTHER_KEY, BOTH)], KEY, (KEY,))
MOVED = ring(5, 2, [(THIRD_KEY, ROOT), (OTHER_KEY, CONFIG)], OTHER_KEY, (KEY,))
KEYRINGS = [
    *(STAGED, STAGED, RETIRED, REVOKED, MOVED),
    ring(3, 2, [(OTHER_KEY, BOTH)], KEY, (KEY,), "another reason"),
    ring(6, 2, [(OTHER_KEY, BOTH)], OTHER_KEY),
    ring(7, 1, [(OTHER_KEY, BOTH)], OTHER_KEY, (KEY,)),
    ring(9, 2, [(THIRD_KEY, BOTH)], THIRD_KEY, (KEY,)),
]


def beacon(rng: random.Random, sequence: int, listed: Any, at_ms: int, **more: Any) -> bytes:
    key = rng.choice((KEY, KEY, OTHER_KEY))
    said = {
        "version": 1,
        "generation": rng.choice((1, 1, 2)),
        "sequence": sequence,
        "issued_at": timestamp(at_ms),
    }
    return seal(canonical({**said, "key_id": name(key), "services": listed, **more}), BEACON, key)


class World:
    """What a daemon, and whoever owns its broker, may send to one worker."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._began_ms, self._clock, self._off_ms = NOW_MS, 1000.0, 0
        self._beacons, self._is_full = rng.choice((0, 3, 100)), False
        self._is_sharded = rng.random() < 0.3
        self._offs_ms = rng.choice(([0, 0, 0, -200_000, 200_000], [-200_000]))  # of the worker's clock
        self._updates = [self._update(number) for number in (1, 2, 3, 3, 4, 5, 6, 7)]

    def orders(self) -> Iterator[tuple[Order, bytes]]:
        """Yield orders without end, each with the message that it delivers."""
        yield self.life(self._rng.choice(("run", "wait"))), b""
        while True:
            match self._rng.randrange(12):
                case 0:
                    yield self._pass_time(), b""
                case 1 if self._rng.random() < 0.4:
                    if self._rng.random() < 0.2:
                        yield {"do": "damage", "subject": self._rng.choice((SERVICE, "keyring"))}, b""
                    yield self.life(self._rng.choice(("run", "wait")), mended=self._rng.random() < 0.3), b""
                case 2:
                    yield {"do": "tick"}, b""
                    if self._rng.random() < 0.1:
                        self._is_full = not self._is_full
                        yield {"do": "disk", "full": self._is_full}, b""
                case 3 | 4:
                    raw = self._rng.choice(KEYRINGS)
                    yield self._delivery(KEYRING_TOPIC + self._rng.choice(("", "", "/3")), raw)
                case 5 | 6 | 7:
                    yield self._delivery(*self._beacon())
                case _:
                    yield self._delivery(TOPIC, self._config())

    def life(self, first_use: str, *, mended: bool = False) -> Order:
        """Return the order to begin a life; a clock that only goes on begins with it."""
        self._began_ms, self._clock = self._now_ms, 1000.0
        return live(self._now_ms + self._off_ms, first_use, mended=mended, full=self._is_full)

    def _delivery(self, topic: str, raw: bytes) -> tuple[Order, bytes]:
        return deliver(topic, raw), raw

    def _pass_time(self) -> Order:
        self._clock += self._rng.choice((1, 30, 61, 95, 200))
        self._off_ms = self._rng.choice(self._offs_ms)
        return {"do": "time", "now": {"clock": self._clock, "calendar": self._now_ms + self._off_ms}}

    @property
    def _now_ms(self) -> int:
        return self._began_ms + round((self._clock - 1000) * 1000)

    def _update(self, number: int) -> bytes:
        rng = self._rng
        match rng.randrange(10):
            case 0:
                return tombstone(number)
            case 1:
                return with_secrets(number)
            case _:
                key, generation = rng.choice(((KEY, 1), (KEY, 1), (OTHER_KEY, 1), (OTHER_KEY, 2)))
                more = {"expires_at": timestamp(NOW_MS + 60_000)} if rng.random() < 0.4 else {}
                config = {"number": number, **rng.choice(MOODS)}
                return update(number, config, key=key, generation=generation, **more)

    def _config(self) -> bytes:
        rng = self._rng
        raw = rng.choice(self._updates)
        match rng.randrange(14):
            case 0:
                return b""
            case 1:
                place = rng.randrange(len(raw))
                return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
            case 2:
                return seal(raw[:-104] + b"}", CONFIG_UPDATE, rng.choice((KEY, THIRD_KEY)))
            case _:
                return raw

    def _beacon(self) -> tuple[str, bytes]:
        rng = self._rng
        self._beacons = max(1, self._beacons + rng.choice((1, 1, 1, 1, 0, -3)))
        raw = rng.choice(self._updates)
        listed = {SERVICE: [json.loads(raw)["sequence"], hashlib.sha256(raw[:-104] + b"}").hexdigest()]}
        at_ms = self._now_ms + rng.choice((0, 0, 0, 0, 100_000, -100_000))
        match rng.choice((1, 1, 2)) if self._is_sharded else rng.randrange(6):
            case 0:
                return BEACON_TOPIC, beacon(rng, self._beacons, {}, at_ms)
            case 1:
                return f"{BEACON_TOPIC}/{SHARD}", beacon(rng, self._beacons, listed, at_ms, shard=SHARD)
            case 2:
                digest = list_digest({one: Numbered(*pair) for one, pair in listed.items()})
                return BEACON_TOPIC, beacon(rng, self._beacons, {}, at_ms, shards={SHARD: digest})
            case 3:
                shown = rng.choice(KEYRINGS)
                keyring = [json.loads(shown)["number"], hashlib.sha256(shown[:-104] + b"}").hexdigest()]
                return BEACON_TOPIC, beacon(rng, self._beacons, listed, at_ms, keyring=keyring)
            case _:
                return BEACON_TOPIC, beacon(rng, self._beacons, listed, at_ms)


def test_two_workers_agree_at_every_step_of_many_lives(tmp_path: Path) -> None:
    rng = random.Random(SEED)  # noqa: S311 - to be repeated, not to be secret
    orders: list[Order] = []
    ours: list[Outcome] = []
    with patch("os.fsync", lambda _: None):
        for number in range(LIVES):
            twin, world = PythonTwin(tmp_path / f"python-{number}"), World(rng)
            steps = world.orders()
            for _ in range(STEPS):
                order, raw = next(steps)
                if ours and ours[-1]["settled"] == DEAD:
                    order, raw = world.life("wait"), b""
                if order["do"] in ("live", "damage"):
                    order["folder"] = str(tmp_path / f"node-{number}")
                orders.append(order)
                ours.append(twin.obey(order, raw))
    theirs = node_outcomes(orders, tmp_path / "workshop")
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        told = {**orders[number], "raw": b64decode(orders[number].get("raw", ""))}
        assert our == their, (
            f"seed {SEED}, step {number % STEPS} of life {number // STEPS}: {our}, {their} after {told}"
        )
    verdicts = Counter(report["reason"] or report["state"] for one in ours for report in one["reports"])
    flags = Counter(flag for one in ours for report in one["reports"] for flag in report["flags"])
    print(
        f"\n{len(ours)} steps, {dict(verdicts)}, {dict(flags)}, {sum(len(one['shown']) for one in ours)} shown"
    )
    wanted = {"applied", "held", "deleted", "invalid", "apply-failed", "cannot-open", "rollback", "fork"}
    assert verdicts.keys() >= wanted | {
        "bad-signature",
        "keyring-behind",
        "wrong-key",
        "revoked-key",
        "unrevoked",
    }
    assert flags.keys() >= {"stale", "frozen", "unconfirmed", "time-unsure", "revoked-signer", "floor-lost"}
