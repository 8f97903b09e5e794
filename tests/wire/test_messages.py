"""The messages as values: what is written is read, and every deviation is refused with its step."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.messages import (
    CONFIG_OFFSET,
    Envelope,
    parse_health,
    parse_update,
    timestamp,
    update_body,
)
from config_daemon.wire.sealing import canonical
from tools.wire_messages import HEALTH, edited, update

EPOCH = "3f0c1a52-6b1e-4d6f-9a55-0c2c7a1f4e11"
SEALED_AT = "2026-03-14T09:26:53.589Z"
MARKER = "hunter2"
ENVELOPE = Envelope("stt-worker", EPOCH, 7, 1, 1041, "ab" * 16, SEALED_AT)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
CONFIGS = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=10,
    ),
    max_size=4,
)


def refusal(body: bytes, read: Any = parse_update) -> tuple[int, str]:
    with pytest.raises(RejectedUpdate) as refused:
        read(body)
    str(refused.value).encode()  # whatever the message held, its refusal can be logged
    return refused.value.step, refused.value.reason


def health(**changed: Any) -> bytes:
    return canonical({**HEALTH, **changed})


@given(CONFIGS)
def test_a_config_comes_back_in_value_and_in_bytes(config: dict[str, Any]) -> None:
    written = canonical(config)
    body = update_body(written, ENVELOPE)
    read, raw_config = parse_update(body)
    assert raw_config == written == body[CONFIG_OFFSET : CONFIG_OFFSET + len(written)]
    assert repr(read.config) == repr(json.loads(written))
    assert read.checksum == hashlib.sha256(written).hexdigest()
    assert body == canonical(json.loads(body))  # what we write is compact and sorted


def test_the_envelope_comes_back_whole() -> None:
    read, _ = parse_update(update_body(b"{}", ENVELOPE))
    for name in (
        "service",
        "config_epoch",
        "config_version",
        "generation",
        "sequence",
        "key_id",
        "issued_at",
    ):
        assert getattr(read, name) == getattr(ENVELOPE, name)
    assert (read.version, read.deleted) == (1, None)


def test_a_tombstone_says_so() -> None:
    envelope = Envelope("stt-worker", EPOCH, 8, 1, 1042, "ab" * 16, SEALED_AT, deleted=True)
    read, config = parse_update(update_body(b"{}", envelope))
    assert (read.deleted, read.config, config) == (True, {}, b"{}")


@pytest.mark.parametrize("text", [',"config_epoch":"', '"}', "},", '\\"},"config":{', "{}[]", "\x00\u2028ü🎙"])
def test_text_that_looks_like_the_message_stays_text(text: str) -> None:
    config = canonical({text: text, "z": {text: [text]}})
    read, raw_config = parse_update(update_body(config, ENVELOPE))
    assert raw_config == config
    assert read.config["z"] == {text: [text]}


@pytest.mark.parametrize(
    "body",
    [
        edited(update(), b',"config":', b',"a":1,"config":'),
        edited(update(), b',"config":', b', "config":'),
        edited(update(), b'"config":{', b'"config": {'),
        edited(update(), b'"config":{', b'"\\u0063onfig":{'),
        edited(update(), b'{"checksum"', b'{ "checksum"'),
        edited(update(b"{}"), b',"config":', b',"konfig":')[:-1] + b',"config":{"threads":4}}',
        canonical({"aaa": 1, **json.loads(update())}),
    ],
)
def test_a_config_that_stands_elsewhere_has_no_bytes(body: bytes) -> None:
    """Such a message parses; without its config's bytes no checksum can fit (step 7)."""
    read, raw_config = parse_update(body)
    assert read.config["threads"] == 4
    assert raw_config is None


def test_the_bytes_of_a_config_keep_their_own_white_space() -> None:
    config = b'{ "b" : 1 ,\n "a":"\\u00fc" }'
    assert parse_update(update(config) + b" \n")[1] == config
    assert parse_update(edited(update(config), b',"config_epoch"', b' , "config_epoch"'))[1] == config


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"{}",
        b"{",
        update() + b"x",
        update()[:-1],
        update(b'{"a":1,"a":2}'),
        edited(update(), b',"version":1', b',"version":1,"version":1'),
        update(b'{"a":NaN}'),
        update(b'{"a":1e400}'),
        update(b'{"a":%s}' % (b"9" * 5000)),
        update(b'{"a":"\\ud800"}'),
        update(b'{"\\ud800":1}'),
        update(b'{"a":"\xff"}'),
    ],
)
def test_what_is_no_strict_json_object_is_refused(body: bytes) -> None:
    assert refusal(body) == (4, "bad-json")
    assert refusal(body, parse_health) == (4, "bad-json")


@pytest.mark.parametrize("levels", [3_000, 150_000])
def test_deep_nesting_is_refused_wherever_it_stands(levels: int) -> None:
    deep = b"[" * levels + b"]" * levels
    assert refusal(update(b'{"a":%s}' % deep)) == (4, "bad-json")
    assert refusal(edited(update(), b',"version":1', b',"version":1,"x":' + deep)) == (4, "bad-json")
    assert refusal(edited(health(), b'"err":', b'"x":%s,"err":' % deep), parse_health) == (4, "bad-json")


@pytest.mark.parametrize(
    "changed",
    [
        {"config": []},
        {"config": None},
        {"checksum": "AB" * 32},
        {"checksum": "ab" * 31},
        {"config_epoch": "3f0c1a526b1e4d6f9a550c2c7a1f4e11"},
        {"config_epoch": EPOCH.upper()},
        {"config_version": "7"},
        {"generation": 0},
        {"generation": 1.0},
        {"sequence": True},
        {"sequence": 1 << 53},
        {"sequence": 10**300},
        {"sequence": None},
        {"key_id": "ab" * 15},
        {"key_id": "AB" * 16},
        {"service": "STT"},
        {"service": ""},
        {"service": "a\n"},
        {"service": "a" * 65},
        {"version": True},
        {"version": 1.0},
        {"version": "1"},
        {"version": None},
        {"deleted": 1},
        {"deleted": 1.0},
        {"deleted": False},
        {"deleted": "true"},
        {"deleted": True},  # with values in the config
        {"secrets": {}},
        {"secrets": {"nonce": "", "ciphertext": "", "recipients": {"a": 1}}},
        {"secrets": []},
        {"confirm_seconds": 9},
        {"confirm_seconds": 3601},
        {"until": SEALED_AT},
        {"then": {}},
        {"until": SEALED_AT, "then": []},
        {"expires_at": "2026-03-14"},
    ],
    ids=str,
)
def test_a_member_of_another_type_or_range_is_refused(changed: dict[str, Any]) -> None:
    assert refusal(canonical({**json.loads(update()), **changed})) == (4, "bad-json")


@pytest.mark.parametrize("name", sorted(json.loads(update())))
def test_no_member_may_be_missing(name: str) -> None:
    members = json.loads(update())
    del members[name]
    assert refusal(canonical(members)) == (4, "bad-json")


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-14T09:26:53Z",
        "2026-03-14T09:26:53.5Z",
        "2026-03-14T09:26:53.589000Z",
        "2026-03-14T09:26:53.589",
        "2026-03-14T09:26:53.589z",
        "2026-03-14t09:26:53.589Z",
        "2026-03-14 09:26:53.589Z",
        "2026-03-14T09:26:53,589Z",
        "2026-03-14T09:26:53.589+00:00",
        "2026-03-14T09:26:53.589+01:00",
        "20260314T092653.589Z",
        "+002026-03-14T09:26:53.589Z",
        " 2026-03-14T09:26:53.589Z",
        "2026-03-14T09:26:53.589Z\n",
        "٢٠٢٦-03-14T09:26:53.589Z",
        "",
        1773480413589,
        None,
    ],
)
def test_a_time_has_one_form(text: Any) -> None:
    assert refusal(update(issued_at=text)) == (4, "bad-json")
    assert refusal(health(issued_at=text), parse_health) == (4, "bad-json")


def test_members_that_nobody_knows_yet_are_ignored() -> None:
    read, _ = parse_update(update(zone="x", future={"a": [1]}))
    assert read == parse_update(update())[0]
    assert parse_health(health(uptime=5, zone=None)) == parse_health(health())


def test_optional_members_may_be_null_and_are_read() -> None:
    absent: dict[str, Any] = dict.fromkeys(
        ("deleted", "secrets", "expires_at", "confirm_seconds", "until", "then")
    )
    assert parse_update(update(**absent))[0] == parse_update(update())[0]
    secrets = {"nonce": "bg==", "ciphertext": "Yw==", "recipients": {"kitchen": "a2V5"}}
    read, _ = parse_update(
        update(confirm_seconds=10, until=SEALED_AT, then={"a": 1}, secrets=secrets, expires_at=SEALED_AT)
    )
    assert (read.confirm_seconds, read.until, read.then, read.expires_at) == (
        10,
        SEALED_AT,
        {"a": 1},
        SEALED_AT,
    )
    assert read.secrets is not None
    assert read.secrets.recipients == {"kitchen": "a2V5"}


@pytest.mark.parametrize("version", [0, 2, -1, 1 << 70])
def test_another_format_is_told_apart_from_damage(version: int) -> None:
    """A later format may have other members, so nothing but its number is judged."""
    for body in (update(version=version), canonical({"version": version}), health(version=version)):
        assert refusal(body) == (5, "unknown-version")
        assert refusal(body, parse_health) == (5, "unknown-version")


def test_strict_json_comes_before_the_version() -> None:
    assert refusal(b'{"version":2,"version":2}') == (4, "bad-json")


def test_a_refusal_names_the_member_and_repeats_no_value() -> None:
    for changed in ({"config_epoch": MARKER}, {"sequence": MARKER}, {"then": MARKER}, {"deleted": MARKER}):
        with pytest.raises(RejectedUpdate) as refused:
            parse_update(canonical({**json.loads(update()), **changed}))
        assert next(iter(changed)) in refused.value.detail
        assert MARKER not in f"{refused.value} {refused.value.__cause__} {refused.value.contexts}"


def test_neither_message_passes_as_the_other() -> None:
    assert refusal(health()) == (4, "bad-json")
    assert refusal(update(), parse_health) == (4, "bad-json")


def test_a_message_cannot_be_changed_after_it_was_judged() -> None:
    read, _ = parse_update(update())
    with pytest.raises(ValidationError):
        read.sequence = 1


@given(st.integers(0, 253402300799999))
def test_milliseconds_are_written_as_one_form_of_time(unix_ms: int) -> None:
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=unix_ms)
    text = timestamp(unix_ms)
    assert datetime.fromisoformat(text) == expected
    assert parse_update(update(issued_at=text))[0].issued_at == text


def test_a_known_moment() -> None:
    assert timestamp(1773480413589) == "2026-03-14T09:26:53.589Z"
