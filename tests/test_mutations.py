"""A hundred thousand ways to tamper with sealed messages, and none of them is believed.

Every mutant must be refused by step 3, so before anything of it is parsed; the untouched message is
judged again and again in the same loop, so that a reader which refuses everything does not pass.
Run with `-s` to see what was tried: class, count, refusals, seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

import pytest

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.status import read_status
from config_daemon.wire.topics import Topics
from config_daemon.worker.trust import Belief, Trust
from tests.keyrings import ring_of
from tools import keyring_mutants as k
from tools import wire_mutants as m
from tools.beacon_vectors import BEACON_TOPIC, SHARD_TOPIC
from tools.wire_messages import IDS, KEYS, TOPIC

SEED = 20260314
CONTROL_EVERY = 50

TRUST = Trust(ring_of(KEYS["alpha"].verify_key), ["stt-worker"], Topics())

CLASSES: dict[m.Mutants, int] = {
    m.bit_flips: 2,
    m.byte_edits: 3,
    m.splices: 3,
    m.json_edits: 2,
    m.duplicate_keys: 1,
    m.white_space: 1,
    m.rewritten: 1,
    m.base64_variants: 1,
    m.other_signatures: 1,
    m.other_types: 2,
    m.beacon_as_config: 1,
    k.keyring_as_other: 1,
}
BEACON_CLASSES: dict[m.Mutants, int] = {
    m.bit_flips: 2,
    m.byte_edits: 2,
    m.splices: 1,
    m.json_edits: 1,
    m.lists: 2,
    m.duplicate_keys: 1,
    m.white_space: 1,
    m.rewritten: 1,
    m.base64_variants: 1,
    m.no_beacons: 2,
    k.keyring_as_other: 1,
}
KEYRING_CLASSES: dict[m.Mutants, int] = {
    m.bit_flips: 2,
    m.byte_edits: 2,
    m.splices: 1,
    m.json_edits: 1,
    k.key_lists: 2,
    m.duplicate_keys: 1,
    m.white_space: 1,
    m.rewritten: 1,
    m.base64_variants: 1,
    k.no_keyrings: 2,
}


STATUS_CLASSES: dict[m.Mutants, int] = {
    m.bit_flips: 1,
    m.byte_edits: 1,
    m.splices: 1,
    m.json_edits: 1,
    m.duplicate_keys: 1,
    m.white_space: 1,
    m.rewritten: 1,
    m.base64_variants: 1,
    m.no_statuses: 2,
}


class Reader(NamedTuple):
    """One kind of message: the good ones, and how a worker reads them; returns what the message says.

    All are refused by the same lines, so that only the first kind is tried at length: `part` mutants at a time.
    """

    name: str
    good: m.Messages
    read: Callable[[bytes], object]
    part: int = 1_000


def read_config(raw: bytes) -> bytes:
    return TRUST.judge(TOPIC, raw, Belief()).raw


def read_beacon(raw: bytes) -> object:
    """Read a beacon or a shard, each on its own topic: nothing but the topic tells them apart before step 6."""
    return TRUST.beacon(SHARD_TOPIC if raw in m.SHARDS else BEACON_TOPIC, raw)


def read_keyring(raw: bytes) -> object:
    return TRUST.follow(raw)


def read_one_workers_status(raw: bytes) -> object:
    return read_status(raw, "stt-worker", "kitchen", KEYS["beta"].verify_key, IDS["beta"])


CONFIGS = Reader("", m.GOOD, read_config, part=5_000)
BEACON = Reader("beacon ", m.BEACONS, read_beacon)
KEYRING = Reader("keyring ", k.KEYRINGS, read_keyring)
STATUS = Reader("status ", m.STATUSES, read_one_workers_status)
READERS = (
    (CONFIGS, CLASSES, 100_000),
    (BEACON, BEACON_CLASSES, 25_000),
    (KEYRING, KEYRING_CLASSES, 25_000),
    (STATUS, STATUS_CLASSES, 20_000),
)


def refuse_all(name: str, mutants: Iterable[bytes], reader: Reader) -> int:
    """Judge mutants, and between them the untouched messages; return how many were refused."""
    refused: Counter[str] = Counter()
    for number, mutant in enumerate(mutants):
        if number % CONTROL_EVERY == 0:
            assert reader.read(reader.good[number // CONTROL_EVERY % len(reader.good)])
        try:
            reader.read(mutant)
        except RejectedUpdate as refusal:
            assert refusal.step <= 3, f"parsed, {name}: {mutant!r}"
            refused[refusal.reason] += 1
        else:
            pytest.fail(f"believed, {name}: {mutant!r}")
    print(f"\n{name}: {refused.total()} refused, {dict(refused)}")
    return refused.total()


@pytest.mark.parametrize(
    ("reader", "number"),
    [(reader, number) for reader, *_ in READERS for number in range(len(reader.good))],
    ids=lambda value: value.name.strip() if isinstance(value, Reader) else str(value),
)
def test_every_single_bit_counts(reader: Reader, number: int) -> None:
    raw = reader.good[number]
    whole = int.from_bytes(raw, "big")
    flips = ((whole ^ 1 << bit).to_bytes(len(raw), "big") for bit in range(8 * len(raw)))
    assert refuse_all(f"every bit of {reader.name}message {number}", flips, reader) == 8 * len(raw)


@pytest.mark.parametrize(
    ("reader", "mutants", "part"),
    [
        (reader, mutants, part)
        for reader, classes, _ in READERS
        for mutants, parts in classes.items()
        for part in range(parts)
    ],
    ids=lambda value: (
        value.name.strip() if isinstance(value, Reader) else getattr(value, "__name__", str(value))
    ),
)
def test_no_mutant_is_believed(reader: Reader, mutants: m.Mutants, part: int) -> None:
    name = f"{reader.name}{mutants.__name__}, seed {SEED}, part {part}"
    rng = random.Random(name)  # noqa: S311 - to be repeated, not to be secret
    # an edit that changes nothing, or puts a good message together again, makes no mutant
    changed = (mutant for mutant in mutants(rng, reader.good) if mutant not in reader.good)
    assert refuse_all(name, islice(changed, reader.part), reader) == reader.part


def test_a_hundred_thousand_are_tried() -> None:
    for reader, classes, many in READERS:
        assert sum(8 * len(raw) for raw in reader.good) + reader.part * sum(classes.values()) >= many
