"""The beacon: its lists come back, a shard's digest is of its list alone, and nothing else passes for one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.beacon import (
    BEACON,
    Beacon,
    Numbered,
    beacon_body,
    list_digest,
    numbered,
    parse_beacon,
    shard_of,
)
from config_daemon.wire.messages import CONFIG_UPDATE, HEALTH, parse_health, parse_update
from config_daemon.wire.sealing import canonical, unseal
from config_daemon.wire.topics import Topics
from config_daemon.wire.values import MAX_INTEGER
from config_daemon.worker.trust import Belief, Trust
from tests.keyrings import ring_of
from tools.beacon_vectors import (
    BEACON_TOPIC,
    CAMERA,
    EMPTY_SHA256,
    LISTED_SHA256,
    OTHER_SHARD_TOPIC,
    SERVICES,
    SHARD,
    SHARD_TOPIC,
    STT,
    beacon,
    lit,
    shard,
)
from tools.wire_messages import HEALTH as HEALTH_MEMBERS
from tools.wire_messages import HEALTH_TOPIC, IDS, KEYS, TOPIC, sealed, update

KEY = KEYS["alpha"].verify_key
TRUST = Trust(ring_of(KEY), ["stt-worker"], Topics())
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,63}", fullmatch=True)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
PAIRS = st.builds(Numbered, st.integers(0, MAX_INTEGER), DIGESTS)
LISTS = st.dictionaries(NAMES, PAIRS, max_size=20)
SHARDS = st.dictionaries(st.integers(0, 255).map("{:02x}".format), DIGESTS)


def refusal(topic: str, raw: bytes, trust: Trust = TRUST) -> tuple[int, str]:
    with pytest.raises(RejectedUpdate) as refused:
        trust.beacon(topic, raw)
    return refused.value.step, refused.value.reason


def is_misshapen(body: bytes) -> bool:
    with pytest.raises(RejectedUpdate) as refused:
        parse_beacon(body)
    return (refused.value.step, refused.value.reason) == (4, "bad-json")


# round trip ---------------------------------------------------------------------------------------


@given(LISTS, st.none() | SHARDS, st.none() | PAIRS, st.none() | PAIRS)
@example({}, {}, None, None)
@example({"a": Numbered(MAX_INTEGER, "f" * 64)}, None, Numbered(0, "0" * 64), Numbered(0, "0" * 64))
def test_a_beacon_comes_back_as_it_was_sent(
    services: dict[str, Numbered],
    shards: dict[str, str] | None,
    keyring: Numbered | None,
    history: Numbered | None,
) -> None:
    members = {**json.loads(beacon()), "services": services, "shards": shards, "keyring": keyring}
    sent = Beacon.model_validate({**members, "audit": None if history is None else {"history": history}})
    body = beacon_body(sent)
    assert body == canonical(json.loads(body)), "signed bytes have one form"
    read = parse_beacon(body)
    assert read == sent
    assert TRUST.beacon(BEACON_TOPIC, lit(body)) == sent
    assert beacon_body(read) == body


def test_what_a_beacon_does_not_say_is_not_written() -> None:
    bare = parse_beacon(beacon(keyring=None))
    assert set(json.loads(beacon_body(bare))) == {
        "generation", "issued_at", "key_id", "sequence", "services", "version",
    }  # fmt: skip


def test_a_list_travels_as_pairs() -> None:
    members = json.loads(beacon_body(parse_beacon(beacon())))
    assert members["services"] == SERVICES == {"camera-control": [1038, CAMERA], "stt-worker": [1041, STT]}


# lists and shards ---------------------------------------------------------------------------------


def test_the_digest_of_a_list_is_that_of_its_compact_form() -> None:
    assert list_digest({}) == EMPTY_SHA256 == hashlib.sha256(b"{}").hexdigest()
    written = b'{"a":[2,"%s"],"a-b":[1,"%s"]}' % (STT.encode(), CAMERA.encode())
    unsorted = {"a-b": Numbered(1, CAMERA), "a": Numbered(2, STT)}
    assert list_digest(unsorted) == hashlib.sha256(written).hexdigest()


@given(LISTS)
def test_the_digest_of_a_list_survives_another_seal(services: dict[str, Numbered]) -> None:
    digest = list_digest(services)
    for sequence in (1, 2):
        body = shard(services=services, sequence=sequence, issued_at=f"2026-03-14T09:26:53.{sequence:03}Z")
        assert list_digest(parse_beacon(body).services) == digest


@given(LISTS.filter(bool), st.data())
def test_every_line_of_a_list_counts(services: dict[str, Numbered], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(services)))
    number, sha256 = services[name]
    other = f"{int(sha256[0], 16) ^ 1:x}{sha256[1:]}"
    changes: list[dict[str, Numbered]] = [
        {**services, name: Numbered(number ^ 1, sha256)},
        {**services, name: Numbered(number, other)},
        {one: line for one, line in services.items() if one != name},
    ]
    assert list_digest(services) not in map(list_digest, changes)


@given(NAMES)
def test_a_service_has_one_shard_of_256(name: str) -> None:
    assert shard_of(name) == f"{hashlib.sha256(name.encode()).digest()[0]:02x}"
    assert Topics().is_beacon(Topics().beacon_shard(shard_of(name)))


def test_a_shard_is_believed_on_its_own_topic_only() -> None:
    read = TRUST.beacon(SHARD_TOPIC, lit(shard()))
    assert read.shard == SHARD == shard_of("stt-worker")
    assert list_digest(read.services) == LISTED_SHA256
    for topic in (
        BEACON_TOPIC,
        OTHER_SHARD_TOPIC,
        f"{SHARD_TOPIC}/",
        SHARD_TOPIC.upper(),
        f"x/{SHARD_TOPIC}",
    ):
        assert refusal(topic, lit(shard())) == (6, "wrong-service")
    for topic in (SHARD_TOPIC, f"{BEACON_TOPIC}/", "other/trust/beacon"):
        assert refusal(topic, lit()) == (6, "wrong-service")


# strict parsing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["version", "generation", "sequence", "issued_at", "key_id", "services"])
def test_a_beacon_is_refused_when_a_member_is_missing(missing: str) -> None:
    members = json.loads(beacon())
    del members[missing]
    assert is_misshapen(canonical(members))


@pytest.mark.parametrize(
    "pair",
    [
        *(
            True,
            None,
            1,
            STT,
            [],
            [1],
            [STT],
            [STT, 1],
            [1, STT, 1],
            [[1, STT]],
            {"number": 1, "sha256": STT},
        ),
        *([True, STT], [False, STT], [1.0, STT], [1.5, STT], [-1, STT], [MAX_INTEGER + 1, STT], ["1", STT]),
        *([None, STT], [[1], STT], [1, None], [1, 1], [1, [STT]], [1, ""], [1, STT[1:]], [1, STT + "0"]),
        *([1, STT.upper().replace(STT[0].upper(), "A", 1)], [1, "g" * 64], [1, "a" * 63 + "\n"]),
        *([1, "a" * 64 + "\n"], [1, " " + "a" * 63], [1, "a" * 63 + "\u0661"], [1, "0x" + "a" * 62]),
    ],
    ids=repr,
)
def test_a_pair_is_a_counter_and_a_digest_and_nothing_like_them(pair: Any) -> None:
    assert is_misshapen(beacon(services={"stt-worker": pair}))
    if pair is not None:
        assert is_misshapen(beacon(keyring=pair))
    assert is_misshapen(beacon(audit={"access": pair}))
    with pytest.raises(ValueError):
        numbered(pair)


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "-a", "a_b", "a/b", "+", "#", "ä", "a\n", "\u0430", "a" * 65]
)
def test_a_list_names_services_only(name: str) -> None:
    assert is_misshapen(beacon(services={name: [1, STT]}))


COUNTERS: tuple[Any, ...] = (0, -1, True, 1.0, "1", MAX_INTEGER + 1, None)
OTHER_SHAPES: dict[str, tuple[Any, ...]] = {
    "services": (None, [], "x", 1, [["stt-worker", 1, STT]]),
    "shard": ("", "0", "000", "0G", "AB", "0\n", 0, True, ["00"]),
    "shards": ([], "00", {"0": STT}, {"AB": STT}, {"00": [1, STT]}, {"00": None}),
    "audit": ([], {"other": [1, STT]}, {"history": None}),
    "generation": COUNTERS,
    "sequence": COUNTERS,
    "version": (True, 1.0, "1", None),
    "key_id": ("", "a" * 31, "A" * 32, None),
    "issued_at": ("", "2026-03-14T09:26:53Z", "2026-03-14T09:26:53.589+00:00", 0),
}


@pytest.mark.parametrize(
    "changed", [{name: value} for name, shapes in OTHER_SHAPES.items() for value in shapes], ids=str
)
def test_a_member_of_another_shape_is_refused(changed: dict[str, Any]) -> None:
    assert is_misshapen(beacon(**changed))


def test_a_service_that_stands_twice_is_refused() -> None:
    line = b'"stt-worker":[1041,"%s"]' % STT.encode()
    for again in (line, line.replace(b"1041", b"1"), line.replace(b"-", b"\\u002d")):
        assert is_misshapen(beacon().replace(line, line + b"," + again))


def test_another_format_is_unknown_whatever_else_it_says() -> None:
    assert refusal(BEACON_TOPIC, lit(b'{"services":1,"version":2}')) == (5, "unknown-version")


# types, keys, generations -------------------------------------------------------------------------


@pytest.mark.parametrize("body", [beacon(), shard(), update(), canonical(HEALTH_MEMBERS)], ids=len)
@pytest.mark.parametrize("as_type", [CONFIG_UPDATE, HEALTH, "beacons", "keyring", ""])
def test_only_what_was_signed_as_a_beacon_is_one(body: bytes, as_type: str) -> None:
    for topic in (BEACON_TOPIC, SHARD_TOPIC):
        assert refusal(topic, sealed(body, as_type=as_type)) == (3, "bad-signature")


@pytest.mark.parametrize("body", [beacon(), shard(), update(), canonical(HEALTH_MEMBERS)], ids=len)
def test_what_was_signed_as_a_beacon_is_neither_a_config_nor_health(body: bytes) -> None:
    raw = lit(body)
    for topic in (TOPIC, BEACON_TOPIC, HEALTH_TOPIC):
        with pytest.raises(RejectedUpdate) as refused:
            TRUST.judge(topic, raw, Belief())
        assert (refused.value.step, refused.value.reason) == (3, "bad-signature")
    with pytest.raises(RejectedUpdate) as refused:
        unseal(raw, HEALTH, [KEY])
    assert refused.value.reason == "bad-signature"


def test_the_members_of_one_type_never_make_another() -> None:
    for body in (update(), canonical(HEALTH_MEMBERS)):
        assert is_misshapen(body)
    for body in (beacon(), shard()):
        for parse in (parse_update, parse_health):
            with pytest.raises(RejectedUpdate) as refused:
                parse(body)
            assert refused.value.reason == "bad-json"


def test_a_beacon_names_the_key_that_signed_it() -> None:
    both = Trust(ring_of(KEY, KEYS["beta"].verify_key), ["stt-worker"], Topics())
    assert refusal(BEACON_TOPIC, lit(by="beta"), both) == (5, "wrong-key")
    assert refusal(BEACON_TOPIC, lit(by="gamma"), both) == (3, "bad-signature")
    assert both.beacon(BEACON_TOPIC, lit(beacon(key_id=IDS["beta"]), by="beta")).key_id == IDS["beta"]


@pytest.mark.parametrize(("held", "shown"), [(1, 2), (2, 1)])
def test_a_beacon_of_another_generation_is_refused(held: int, shown: int) -> None:
    trust = Trust(ring_of(KEY, generation=held), ["stt-worker"], Topics())
    assert refusal(BEACON_TOPIC, lit(beacon(generation=shown)), trust)[0] == 8
    assert trust.beacon(BEACON_TOPIC, lit(beacon(generation=held))).generation == held


def test_the_type_of_a_beacon_is_signed() -> None:
    assert unseal(lit(), BEACON, [KEY])[0] == beacon()
