"""Steps 1 to 9: which message is refused, where, and in which order the steps are taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from nacl.signing import SigningKey

from config_daemon.errors import KeyUnavailable, RejectedUpdate
from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import HEALTH
from config_daemon.wire.sealing import canonical
from config_daemon.wire.tail import MAX_MESSAGE_BYTES
from config_daemon.wire.topics import Topics
from config_daemon.worker import trust as trust_module
from config_daemon.worker.trust import Belief, Floor, Trust
from tests.keyrings import ring_of
from tests.worker.edge import Edge
from tests.worker.updates import (
    ABSENT,
    KEY,
    OTHER_KEY,
    SERVICE,
    TOPIC,
    TOPICS,
    members,
    sealed_body,
    tombstone,
    update,
)

FLOOR = 100
OTHER_ID = key_id(bytes(OTHER_KEY.verify_key))


def trusting(*keys: SigningKey, generation: int = 1) -> Trust:
    return Trust(
        ring_of(*(key.verify_key for key in keys or (KEY,)), generation=generation), [SERVICE], TOPICS
    )


def refusal(raw: bytes, topic: str = TOPIC, belief: Belief | None = None) -> tuple[int, str]:
    with pytest.raises(RejectedUpdate) as refused:
        trusting().judge(topic, raw, belief or Belief())
    return refused.value.step, refused.value.reason


def sized(size: int) -> bytes:
    """Return a good update of exactly `size` bytes."""
    empty = len(update(200, {"text": ""}))
    return update(200, {"text": "x" * (size - empty)})


def flipped(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


def text_of(**changes: Any) -> bytes:
    return canonical(members(200, **changes))


def non_canonical_tail(raw: bytes) -> bytes:
    """Return the same signature in base64 whose unused last bits are not zero."""
    last = raw[-5:-4]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return raw[:-5] + alphabet[alphabet.index(last) + 1 :][:1] + raw[-4:]


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "an empty payload": (b"", 1, "wiped"),
    "one byte too many": (sized(MAX_MESSAGE_BYTES + 1), 1, "oversize"),
    "no JSON at all": (b"hello", 2, "bad-tail"),
    "an unsigned config": (text_of(), 2, "bad-tail"),
    "only a tail": (update(200)[-104:], 2, "bad-tail"),
    "cut short": (update(200)[:-1], 2, "bad-tail"),
    "a line end after it": (update(200) + b"\n", 2, "bad-tail"),
    "base64 with other unused bits": (non_canonical_tail(update(200)), 2, "bad-tail"),
    "signed by somebody else": (update(200, key=OTHER_KEY), 3, "bad-signature"),
    "a bit of the config flipped": (flipped(update(200), 100), 3, "bad-signature"),
    "a bit of the signature flipped": (flipped(update(200), -50), 3, "bad-signature"),
    "another type, same body": (sealed_body(text_of(), body_type=HEALTH), 3, "bad-signature"),
    "not UTF-8": (sealed_body(text_of().replace(b"number", b"n\xffmber")), 4, "bad-json"),
    "one key twice": (sealed_body(text_of()[:-1] + b',"version":1}'), 4, "bad-json"),
    "one key twice within": (sealed_body(text_of().replace(b'"number":', b'"number":1,"number":')), 4, "bad-json"),
    "NaN": (sealed_body(text_of().replace(b"200", b"NaN", 1)), 4, "bad-json"),
    "nested without end": (sealed_body(b'{"config":' + b"[" * 100_000 + b"}"), 4, "bad-json"),
    "bytes after the object": (sealed_body(text_of() + b" {}"), 4, "bad-json"),
    "no sequence": (sealed_body(text_of(sequence=ABSENT)), 4, "bad-json"),
    "a sequence in quotes": (sealed_body(text_of(sequence="200")), 4, "bad-json"),
    "a sequence with a fraction": (sealed_body(text_of(sequence=200.0)), 4, "bad-json"),
    "a sequence that is true": (sealed_body(text_of(sequence=True)), 4, "bad-json"),
    "sequence zero": (sealed_body(text_of(sequence=0)), 4, "bad-json"),
    "a sequence that doubles cannot hold": (sealed_body(text_of(sequence=1 << 53)), 4, "bad-json"),
    "a format that is true": (sealed_body(text_of(version=True)), 4, "bad-json"),
    "deleted with a config": (sealed_body(text_of(deleted=True)), 4, "bad-json"),
    "deleted but false": (sealed_body(text_of(deleted=False)), 4, "bad-json"),
    "deleted but 1": (update(200, {}, deleted=1), 4, "bad-json"),
    "a config that is a list": (update(200, [1]), 4, "bad-json"),
    "until without then": (sealed_body(text_of(until="2026-01-02T03:04:05.678Z")), 4, "bad-json"),
    "format 2": (sealed_body(text_of(version=2)), 5, "unknown-version"),
    "format 2 of another shape": (sealed_body(b'{"version":2}'), 5, "unknown-version"),
    "another key's name": (sealed_body(text_of(key_id=OTHER_ID)), 5, "wrong-key"),
    "another service": (update(200, service="router"), 6, "wrong-service"),
    "another checksum": (sealed_body(text_of(checksum="0" * 64)), 7, "bad-checksum"),
    "a member before the config": (sealed_body(text_of(a=1)), 7, "bad-checksum"),
    "config bytes with a space": (sealed_body(text_of().replace(b'{"number":', b'{"number": ')), 7, "bad-checksum"),
    "a generation ahead of the keyring": (update(200, generation=2), 8, "keyring-behind"),
    "below the floor": (update(FLOOR - 1), 9, "rollback"),
    "the floor's number, other config": (update(FLOOR, {"number": -1}), 9, "fork"),
    "the floor's number, other version": (update(FLOOR, config_version=7), 9, "fork"),
    "a tombstone below the floor": (tombstone(FLOOR - 1), 9, "rollback"),
    "a tombstone under the floor's number": (tombstone(FLOOR), 9, "fork"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_changes_neither_belief_nor_program(edge: Edge, name: str) -> None:
    raw, step, reason = REFUSED[name]
    edge.receive(update(FLOOR))
    kept = edge.state_file.read_bytes()
    report = edge.receive(raw)
    assert (report.state, report.reason) == ("rejected", reason)
    assert edge.state_file.read_bytes() == kept
    assert edge.attempts == [{"number": FLOOR}]
    held = Floor(*_floor(update(FLOOR)))
    assert refusal(raw, belief=Belief(floor=held)) == (step, reason)


def _floor(raw: bytes) -> Floor:
    return trusting().judge(TOPIC, raw, Belief()).floor


@pytest.mark.parametrize(
    "topic",
    [
        "system/config/router",
        f"other/config/{SERVICE}",
        f"system/config/x/{SERVICE}",
        f"system/health/{SERVICE}",
        "",
    ],
)
def test_a_good_message_on_another_topic_is_refused(edge: Edge, topic: str) -> None:
    assert refusal(update(), topic) == (6, "wrong-service")
    assert edge.receive(update(), topic).reason == "wrong-service"
    assert (edge.attempts, edge.floor()) == ([], None)


def test_a_service_that_is_not_followed_is_refused_on_its_own_topic(edge: Edge) -> None:
    raw, topic = update(service="router"), TOPICS.config("router")
    assert refusal(raw, topic) == (6, "wrong-service")
    assert edge.receive(raw, topic).reason == "wrong-service"
    assert edge.attempts == []


def test_a_reserved_name_is_no_service() -> None:
    everything = Trust(ring_of(KEY.verify_key), ["keyring"], Topics())
    with pytest.raises(RejectedUpdate) as refused:
        everything.judge("system/config/keyring", update(service="keyring"), Belief())
    assert refused.value.step == 6


def test_a_message_of_exactly_the_largest_size_is_taken(edge: Edge) -> None:
    raw = sized(MAX_MESSAGE_BYTES)
    assert len(raw) == (1 << 20) - 1
    assert edge.receive(raw).state == "applied"


# Each breaks one step; together they show which step comes first.
FLAWS: dict[int, Callable[[dict[str, Any]], object]] = {
    4: lambda whole: whole.update(issued_at=5),
    5: lambda whole: whole.update(key_id=OTHER_ID),
    6: lambda whole: whole.update(service="router"),
    7: lambda whole: whole.update(checksum="0" * 64),
    8: lambda whole: whole.update(generation=2),
    9: lambda whole: whole.update(sequence=1),
    10: lambda whole: whole.update(secrets={"nonce": "", "ciphertext": "", "recipients": {}}),
    11: lambda whole: whole["config"].update(invalid=True),
}
REASONS = {4: "bad-json", 5: "wrong-key", 6: "wrong-service", 7: "bad-checksum", 8: "keyring-behind"} | {
    9: "rollback",
    10: "cannot-open",
    11: "invalid",
}


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(FLAWS, 2)))
def test_the_earlier_step_refuses(edge: Edge, first: int, second: int) -> None:
    edge.receive(update(FLOOR))
    whole = members(200)
    # step 11's flaw changes the config, and must not break the checksum by that
    for step in sorted((first, second), reverse=True):
        FLAWS[step](whole)
        if step == 11:
            whole = members(200, whole["config"])
    assert edge.receive(sealed_body(canonical(whole))).reason == REASONS[first]


@pytest.mark.parametrize("step", FLAWS)
def test_a_bad_signature_comes_before_everything_inside(step: int) -> None:
    whole = members(200)
    FLAWS[step](whole)
    assert refusal(sealed_body(canonical(whole), OTHER_KEY)) == (3, "bad-signature")


def test_nothing_is_parsed_before_its_signature_was_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_module, "parse_update", lambda body: pytest.fail("parsed"))
    assert refusal(update(key=OTHER_KEY)) == (3, "bad-signature")


def test_members_of_a_later_writer_are_ignored() -> None:
    raw = sealed_body(canonical(members(200, rollout={"percent": 5}, zz=[1])))
    assert trusting().judge(TOPIC, raw, Belief()).update.sequence == 200


def test_each_of_four_keys_verifies_and_names_itself() -> None:
    keys = [SigningKey(bytes([number]) * 32) for number in range(1, 5)]
    four = trusting(*keys)
    for key in keys:
        assert four.judge(TOPIC, update(key=key), Belief()).update.key_id == key_id(bytes(key.verify_key))
    with pytest.raises(RejectedUpdate) as refused:  # a trusted key, but the message names another one
        four.judge(TOPIC, update(key=keys[1], key_id=key_id(bytes(keys[2].verify_key))), Belief())
    assert refused.value.reason == "wrong-key"


@pytest.mark.parametrize("count", [0, 5])
def test_no_key_and_five_keys_are_no_trust_anchor(count: int) -> None:
    keys = [SigningKey(bytes([number]) * 32).verify_key for number in range(1, 6)][:count]
    with pytest.raises(KeyUnavailable):
        Trust(ring_of(*keys), [SERVICE], TOPICS)


def test_a_raised_generation_refuses_what_the_revoked_key_signed() -> None:
    with pytest.raises(RejectedUpdate) as refused:
        trusting(generation=2).judge(TOPIC, update(10**6), Belief())
    assert (refused.value.step, refused.value.reason) == (8, "rollback")


def test_a_higher_generation_wins_whatever_its_number() -> None:
    held = Floor(1, 10**9, "0" * 64)
    judged = trusting(generation=2).judge(TOPIC, update(1, generation=2), Belief(floor=held))
    assert (judged.again, judged.floor[:2]) == (False, (2, 1))


@pytest.mark.parametrize(
    "changes", [{"config_epoch": "ffffffff-ffff-4fff-8fff-ffffffffffff"}, {"config_version": 1}]
)
def test_only_the_number_orders(edge: Edge, changes: dict[str, Any]) -> None:
    edge.receive(update(5))
    assert edge.receive(update(6, **changes)).state == "applied"
    assert (
        edge.receive(update(4, issued_at="2099-01-01T00:00:00.000Z", config_version=99)).reason == "rollback"
    )
