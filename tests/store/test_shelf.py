"""A large fleet's messages lie in the cache file: what is read back is what was sealed, or nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from config_daemon.core.sealed import Fingerprint, Sealed
from config_daemon.errors import CacheError
from config_daemon.store.cache import Draft, GoneMessage, Head, load
from config_daemon.store.ports import Place
from config_daemon.wire.mac import seal_hmac
from config_daemon.wire.messages import CONFIG_UPDATE, Envelope, update_body
from config_daemon.wire.sealing import canonical, seal

KEY, SIGNER = b"k" * 32, SigningKey(b"\5" * 32)
EPOCH = "11111111-2222-4333-8444-555555555555"
NOW = "2026-01-02T03:04:05.678Z"
HEAD = Head(EPOCH, NOW, 1, 9, Place(4, "ABCD"), 1, "hmac-test", uncovered={"sealed": 7})
# what a config may hold to look like the members around it
AWKWARD: dict[str, Any] = {
    "a": 1.5, "payload": {"x": {}}, "schema_version": 9, "sealed": {"router": '","sealed":{"router":"x"}'},
    "quote": '\\" ,"sealed":{', "signature": "é\u2028\\", "z": [1e300, -0.0],
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "router": AWKWARD,
    "stt-worker": {"vad": 0.5},
    "empty": {},
    "zz": {"deep": AWKWARD},
}


def sealed(service: str, config: Any, number: int = 1) -> Sealed:
    text = canonical(config)
    envelope = Envelope(service, EPOCH, number, 1, number, "ab" * 16, NOW)
    fingerprint = Fingerprint(hashlib.sha256(text).digest(), number, EPOCH, 1, "ab" * 16, False)
    return Sealed(seal(update_body(text, envelope), CONFIG_UPDATE, SIGNER), number, fingerprint, len(text))


def fleet() -> dict[str, Sealed]:
    return {name: sealed(name, config) for name, config in CONFIGS.items()}


def write(path: Path, messages: dict[str, Sealed], in_memory: int, slice_: int = 3) -> None:
    draft = Draft(path, HEAD, messages, in_memory)
    while draft.write(slice_):
        pass
    draft.put_in_place(KEY)


@pytest.mark.parametrize("in_memory", [0, 100])
def test_what_was_let_go_of_is_read_back_byte_for_byte(tmp_path: Path, in_memory: int) -> None:
    path, messages = tmp_path / "config.lkg.json", fleet()
    raws = {name: one.read() for name, one in messages.items()}
    write(path, messages, in_memory)
    found = load(path, [KEY], in_memory)
    assert found is not None
    assert found.head == HEAD
    for name, config in CONFIGS.items():
        for one in (messages[name], found.sealed[name]):
            assert one.read() == raws[name]
            assert one.read_config() == canonical(config)
            assert one.is_same(raws[name] or b"")
            assert not one.is_same((raws[name] or b"")[:-1] + b"]")
        assert found.sealed[name].fingerprint == messages[name].fingerprint
        assert found.sealed[name].body_sha256 == messages[name].body_sha256


def test_two_ways_to_write_it_make_the_same_file(tmp_path: Path) -> None:
    messages = fleet()
    for name, in_memory in (
        ("first", 100),
        ("second", 0),
        ("third", 0),
    ):  # the third reads what the second wrote
        write(tmp_path / name, messages, in_memory)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert (tmp_path / "first").read_bytes() == (tmp_path / "third").read_bytes()


def test_a_file_that_was_replaced_or_removed_is_still_read(tmp_path: Path) -> None:
    path, messages = tmp_path / "config.lkg.json", fleet()
    raws = {name: one.read() for name, one in messages.items()}
    write(path, messages, 0)
    write(path, {"other": sealed("other", {"b": 2})}, 0)
    path.unlink()
    (tmp_path / "config.lkg.json.1").unlink()
    assert {name: one.read() for name, one in messages.items()} == raws


@pytest.mark.parametrize("harm", ["flipped", "cut", "emptied"])
def test_what_was_altered_in_place_is_gone_and_nothing_else(tmp_path: Path, harm: str) -> None:
    path, messages = tmp_path / "config.lkg.json", fleet()
    write(path, messages, 0)
    raw = messages["zz"].read()
    content = bytearray(path.read_bytes())
    with path.open("r+b") as stream:
        if harm == "flipped":
            at = content.rindex(b"stt-worker")
            stream.seek(at)
            stream.write(b"x")
        else:
            stream.truncate(content.rindex(b'"stt-worker"') if harm == "cut" else 0)
    assert messages["stt-worker"].read() is None
    assert messages["stt-worker"].read_config() is None
    if harm == "flipped":
        assert messages["zz"].read() == raw
    with pytest.raises(GoneMessage, match=r"stt-worker|empty|router"):
        write(tmp_path / "next", messages, 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"sealed":{"empty":', b'"sealed":{"empty":"{}","empty":'),  # twice
        (b'"sealed":{"', b'"sealed":{"NO NAME'),
        (b'},"sequence"', b',"sequence"'),
        (b',"sealed":{"empty":"', b',"sealed":{"empty":["'),
        (b',"schema_version":1,"sealed":{', b',"sealed":{'),
    ],
)
def test_a_cache_of_another_form_is_refused_whatever_sealed_it(
    tmp_path: Path, before: bytes, after: bytes
) -> None:
    path = tmp_path / "config.lkg.json"
    write(path, fleet(), 100)
    body = path.read_bytes()[:-60] + b"}"
    assert before in body
    at = body.rindex(before)
    path.write_bytes(seal_hmac(body[:at] + after + body[at + len(before) :], "lkg", KEY))
    with pytest.raises(CacheError):
        load(path, [KEY], 100)
