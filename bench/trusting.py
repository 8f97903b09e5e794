"""What trust costs: a worker's verification of one message, and the daemon's beacon.

Verification is `Trust.judge` (steps 1 to 9) on a sealed config of about 1 KB, in this process. A beacon is
what `Beacons.step` does on the daemon's real parts, with a broker that takes everything: after one of all
services was confirmed anew, and where nothing has changed. Both with warm caches: on a machine that just
woke up they take a few times as long.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from nacl.signing import SigningKey

from bench.figure import Line, Outcome, Scope, below, median
from bench.services import config
from config_daemon.core.plan import Plan
from config_daemon.core.sealed import Fingerprint, Sealed
from config_daemon.daemon.beacons import BEACON_SECONDS, Beacons
from config_daemon.wire.beacon import BEACON, beacon_body
from config_daemon.wire.keyring import of_key
from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import CONFIG_UPDATE, Envelope, timestamp, update_body
from config_daemon.wire.sealing import canonical, seal
from config_daemon.wire.topics import Topics
from config_daemon.worker.trust import Belief, Trust

KEY = SigningKey(b"\x07" * 32)
KEY_ID = key_id(bytes(KEY.verify_key))
EPOCH = "0b6f2a34-5c1d-4e8f-9a70-1b2c3d4e5f60"
SIZES = (500, 10_000)


def measure(scope: Scope) -> Outcome:
    """Measure both."""
    verification, bytes_ = _verification(scope.of(5_000, 200))
    beacons = {size: _beacons(size, scope.of(50, 5)) for size in SIZES}
    what = f"verification of a message of {bytes_} bytes"
    lines = [below(what, verification * 1e6, 1000.0, None, "{:.0f} µs", strictly=True)]
    for size, found in beacons.items():
        told = (
            f"{found['changed_ms']:.1f} ms, {found['changed_bytes'] / 1000:.0f} kB; "
            f"{found['idle_ms']:.1f} ms, {found['idle_bytes'] / 1000:.0f} kB"
        )
        lines.append(Line(f"a beacon of {size} services: one changed; none changed", "", "", told, None))
    return Outcome(lines, {"verification_seconds": verification, "beacons": beacons})


def _verification(rounds: int) -> tuple[float, int]:
    service = "bench-service"
    raw = sealed(service, 1).read()
    trust, topic = Trust(of_key(KEY.verify_key), [service], Topics()), Topics().config(service)
    return median([_seconds(lambda: trust.judge(topic, raw, Belief())) for _ in range(rounds)]), len(raw)


def sealed(service: str, number: int) -> Sealed:
    body = canonical(config(service, number))
    envelope = Envelope(service, EPOCH, number, 1, number, KEY_ID, timestamp(1_767_323_045_678))
    fingerprint = Fingerprint(b"", number, EPOCH, 1, KEY_ID, False)
    return Sealed(seal(update_body(body, envelope), CONFIG_UPDATE, KEY), number, fingerprint, len(body))


class _Broker:
    """Takes everything, and counts bytes."""

    def __init__(self) -> None:
        self.bytes = 0

    def room(self, _topic: str, _now: float) -> bool:
        return True

    def send(self, _topic: str, raw: bytes, _number: int, _now: float) -> None:
        self.bytes += len(raw)


class _Sealer:
    """Numbers and seals as the daemon's sealer does, without its disk."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1_000_000)

    def numbered(self) -> dict[str, Any]:
        issued_at = timestamp(1_767_323_045_678)
        return {"generation": 1, "sequence": next(self._numbers), "issued_at": issued_at, "key_id": KEY_ID}

    def beacon(self, beacon: Any) -> bytes:
        return seal(beacon_body(beacon), BEACON, KEY)


class _Auditor:
    """Has no chains."""

    def step(self) -> None:
        return

    def heads(self) -> None:
        return


class _Identity:
    """One key for ever."""

    keyring = of_key(KEY.verify_key)


def _beacons(size: int, rounds: int) -> dict[str, float]:
    plan, broker = Plan(), _Broker()
    names = [f"service-{number:05}" for number in range(size)]
    for number, name in enumerate(names, 1):
        _confirm(plan, name, number)
    beacons = Beacons(_Sealer(), broker, plan, Topics(), _Identity(), _Auditor())  # type: ignore[arg-type]
    clock = itertools.count(1000.0, BEACON_SECONDS)
    beacons.step(next(clock), {})
    found: dict[str, float] = {}
    for kind in ("changed", "idle"):
        seconds, before = [], broker.bytes
        for number in range(rounds):
            if kind == "changed":
                _confirm(plan, names[number], size + number)
            now = next(clock)
            seconds.append(_seconds(lambda now=now: beacons.step(now, {})))  # type: ignore[misc]
        found[f"{kind}_ms"] = 1000 * median(seconds)
        found[f"{kind}_bytes"] = (broker.bytes - before) / rounds
    return found


def _confirm(plan: Plan, name: str, number: int) -> None:
    plan.remember(name, sealed(name, number))
    plan.confirm(name, number)


def _seconds(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
