"""Whoever owns the broker, for tests: what they can do to it, and what worker and operator say of it.

Laws: an attacker has every message that was ever published and no key, unless a test says so.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from config_daemon.store.files import Files
from config_daemon.store.ground import Ground
from config_daemon.store.status import StatusView
from config_daemon.wire.keys import public_key_pem
from config_daemon.wire.messages import CONFIG_UPDATE
from config_daemon.wire.sealing import canonical, seal
from tests.e2e.house import House, Worker, until
from tests.e2e.test_weather import TOPIC, conditions, confirmed, facts
from tests.fleet_keys import KeyHolder, name
from tests.raw_client import RawClient

TTS_TOPIC, BEACON = "system/config/tts-worker", "system/trust/beacon"
KEYRING, HEALTH = "system/trust/keyring", "system/health/config-daemon"
OWN_KEY = SigningKey(b"\x07" * 32)
TAIL_BYTES, PATIENCE = 104, 95.0  # seconds after which three beacons are overdue
HIGHEST = 2**53 - 1


class Attacker:
    """Owns the broker: reads all, writes all, forgets nothing."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        client.subscribe("system/#", retain_as_published=True)

    def last(self, topic: str) -> bytes:
        """Return the newest message that was ever on a topic; wait for the first."""
        return self.all(topic)[-1]

    def all(self, topic: str) -> list[bytes]:
        """Return every message that was ever on a topic, oldest first."""
        self._client.wait_for_topic(topic)
        return [message.payload for message in list(self._client.messages) if message.topic == topic]

    def first(self, topic: str, fits: Callable[[dict[str, Any]], bool]) -> bytes:
        """Return the first message that was on a topic and is like this; wait for it."""

        def look(messages: Any) -> bytes:
            found = (one.payload for one in messages if one.topic == topic and one.payload)
            return next((raw for raw in found if (body := members(raw)) and fits(body)), b"")

        return bytes(self._client.wait_for(look, seconds=15.0))

    def of_version(self, version: int, topic: str = TOPIC) -> bytes:
        """Return the first message with this version, once it has come."""
        return self.first(topic, lambda body: body["config_version"] == version)

    def seen(self, prefix: str) -> list[str]:
        """Return the topics of all messages so far that begin so."""
        return [topic for topic in self._client.topics() if topic.startswith(prefix)]

    def write(self, topic: str, raw: bytes, retain: bool = True) -> None:
        """Write as anybody may; return when the broker has passed it on."""
        before = len(self._client.messages)
        self._client.publish(topic, raw, retain=retain)
        self._client.wait_for(
            lambda messages: (topic, raw) in [(one.topic, one.payload) for one in messages[before:]]
        )

    def put_back(self, state: dict[str, bytes]) -> None:
        """Have the broker retain what it retained once, and nothing else below configs and trust."""
        now = {message.topic for message in list(self._client.messages)}
        for topic in now - set(state):
            if topic.startswith(("system/config/", "system/trust/")):
                self.write(topic, b"")
        for topic, raw in state.items():
            self.write(topic, raw)

    def state(self) -> dict[str, bytes]:
        """Return what the broker retains now of configs, keyrings and beacons."""
        return {
            message.topic: message.payload
            for message in list(self._client.messages)
            if message.topic.startswith(("system/config/", "system/trust/"))
        }


# Python imports this before anything else: what the clocks show is off by what the file says, at every look.
_MACHINE = """
import json, os, time
_wall, _steady = time.time_ns, time.monotonic
def _off(which):
    with open(os.environ["TEST_MACHINE"]) as file:
        return json.load(file)[which]
time.time_ns = lambda: _wall() + _off("wall_ns")
time.time = lambda: time.time_ns() / 1e9
time.monotonic = lambda: _steady() + _off("steady_seconds")
"""


class Machine:
    """What clocks a process sees: the wall clock may be wrong, and waiting need not take long."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_MACHINE)
        self._file = folder / "off"
        paths = filter(None, (str(folder), os.getenv("PYTHONPATH")))
        self.environment = {"PYTHONPATH": os.pathsep.join(paths), "TEST_MACHINE": str(self._file)}
        self._off = {"wall_ns": 0, "steady_seconds": 0.0}
        self.believe(0)

    def believe(self, off_ns: int) -> None:
        """Have the wall clock be off by so much."""
        self._set(wall_ns=off_ns)

    def wait(self, seconds: float) -> None:
        """Have so much more time pass for the process than for us."""
        self._set(steady_seconds=self._off["steady_seconds"] + seconds)

    def _set(self, **off: float) -> None:
        self._off |= off
        beside = self._file.with_name("off.new")
        beside.write_text(json.dumps(self._off))
        beside.replace(self._file)


def worker_with(house: House, name: str = "demo", **environment: str) -> Worker:
    """Start a worker of one's own: another key, another broker, a machine of its own."""
    process = Worker(
        [sys.executable, "-m", "config_daemon.cli.demo_worker"],
        {
            "DEMO_MQTT_URL": house.broker_url, "DEMO_SERVICE": "stt-worker", "DEMO_WORKER": name,
            "CONFIG_SIGNATURE_PUBLIC_KEY": house.public_key,
            "DEMO_STATE": str(house.folder / f"worker-{name}"), **environment,
        },
    )  # fmt: skip
    house._processes.append(process)
    return process


# keys -----------------------------------------------------------------------------------------------


class Now:
    """The real time, for people."""

    def unix_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class _Home:
    """A house, as the people with its keys see it."""

    house: House
    clock: Now

    @property
    def folder(self) -> Path:
        return self.house.folder

    @property
    def files(self) -> Files:
        return self.house.files

    @property
    def ground(self) -> Ground:
        ground: Ground = self.house.ground
        return ground


class HouseKeys(KeyHolder):
    """The people with the keys of a house whose daemon runs; each step returns when the daemon follows it."""

    def __init__(self, house: House) -> None:
        super().__init__(_Home(house, Now()))
        self._house = house

    @property
    def installed(self) -> str:
        """Return the public key that every worker was given on the first day."""
        return public_key_pem(self.first)

    def activate(self, key: SigningKey) -> None:
        """Ask the daemon to sign with a key that was staged, until it has read it from `.env`."""
        self._until(lambda: self._asked(name(key)) == "done", "the answer to a request")
        self._until(lambda: in_force(self._house)["signs"] == name(key), "the new key")

    def _asked(self, key: str) -> str:
        request = self._house.files.requests / f"{uuid.uuid4()}.json"
        beside = request.with_name(f".{request.name}")
        beside.write_text(json.dumps({"kind": "activate-key", "by": "test", "arguments": {"key_id": key}}))
        beside.replace(request)
        view = StatusView(self._house.files.status)
        return until(lambda: view.answer(request.stem), "an answer")[0]

    def followed(self) -> None:
        """Wait until the daemon holds the newest keyring."""
        held = self.held
        self._until(lambda: in_force(self._house)["number"] == held.number, f"keyring {held.number}")

    def rotate(self) -> SigningKey:
        """Stage, activate and retire; return the new key."""
        old, new = self._active(), self.stage()
        self.followed()
        self.activate(new)
        self.retire(old)
        self.followed()
        return new

    def sealed(self, signer: SigningKey, **changes: Any) -> bytes:
        """Return a keyring like the newest one but for some members, signed by anybody."""
        body = self.held.body.model_copy(update=changes)
        return seal(canonical(body.model_dump(mode="json")), "keyring", signer)

    def _until(self, look: Callable[[], bool], what: str) -> None:
        until(look, f"{what}; {in_force(self._house)}")


def in_force(house: House) -> dict[str, Any]:
    """Return number and generation of the daemon's keyring, and which key signs."""
    return dict(facts(house).get("keyring") or {"number": -1, "signs": ""})


def members(raw: bytes) -> dict[str, Any]:
    """Return what is in a message; nothing for what is no JSON."""
    with contextlib.suppress(ValueError):
        return dict(json.loads(raw))
    return {}


# what they write ------------------------------------------------------------------------------------


def body_of(raw: bytes, **changes: Any) -> bytes:
    """Return what was signed of a message, with members changed."""
    body = json.loads(raw) | changes
    body.pop("signature")
    return canonical(body)


def forged(raw: bytes, key: SigningKey = OWN_KEY, **changes: Any) -> bytes:
    """Return a config with members changed, under somebody's own signature."""
    return seal(body_of(raw, **changes), CONFIG_UPDATE, key)


def altered(raw: bytes, **changes: Any) -> bytes:
    """Return a message with members changed under its old signature."""
    return body_of(raw, **changes)[:-1] + raw[-TAIL_BYTES:]


def doubled(raw: bytes) -> bytes:
    """Return the body of a message with a member that stands there twice."""
    return body_of(raw).replace(b'"version":1', b'"version":1,"version":1')


def signed_so(body: bytes, signature: bytes) -> bytes:
    """Return a body under a signature that was made by hand."""
    return body[:-1] + b',"signature":"' + base64.b64encode(signature) + b'"}'


def with_trailing_bits(raw: bytes) -> bytes:
    """Return the same signature in base64 of another spelling."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = raw[-5:-4]
    other = alphabet[alphabet.index(last) ^ 1 :][:1]
    spelled = raw[:-5] + other + raw[-4:]
    assert base64.b64decode(spelled[-90:-2]) == base64.b64decode(raw[-90:-2])
    return spelled


# what it comes to -----------------------------------------------------------------------------------


def running(house: House, first: float = 0.1, second: float = 0.2) -> Worker:
    """Start a daemon and a worker that has taken two versions."""
    house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=first))
    worker.wait_for(house.set("stt-worker", vad_threshold=second))
    confirmed(house, 2)
    return worker


def another_beacon(house: House, attacker: Attacker, service: str = "tts-worker") -> None:
    """Have the daemon send a beacon now: it lists a service that none listed before."""
    values: dict[str, dict[str, Any]] = {
        "tts-worker": {"volume_percent": 50}, "router": {"router_stream_min_chars": 41},
        "llm-worker": {"temperature": 0.5},
    }  # fmt: skip
    confirmed(house, house.set(service, **values[service]), service)
    attacker.first(BEACON, lambda body: service in body["services"])


def refused(worker: Worker, reason: str, service: str = "stt-worker") -> dict[str, Any]:
    """Wait until the worker refused something for a reason."""
    return until(
        lambda: next(
            (one for one in worker.reports if (one["service"], one["reason"]) == (service, reason)), None
        ),
        f"a refusal {reason} of {service}; {worker.lines[-3:]}",
    )


def flagged(worker: Worker, flag: str, seconds: float = 15.0) -> None:
    """Wait until the worker's last word carries a flag."""
    until(
        lambda: worker.reports and flag in worker.reports[-1]["flags"],
        f"the flag {flag}; {worker.lines[-3:]}",
        seconds,
    )


def never_went_back(worker: Worker) -> None:
    """Fail if anything older was ever applied after something newer."""
    applied = [report for report in worker.applied if report["service"] != "keyring"]
    places = [(report["generation"], report["sequence"]) for report in applied]
    assert places == sorted(set(places)), [report["config_version"] for report in applied]


def told(house: House, condition: str) -> None:
    """Wait until the operator sees a condition."""
    until(lambda: condition in conditions(house), f"the condition {condition}; {conditions(house)}")
