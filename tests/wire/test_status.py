"""A worker's status: signed with its own key, told apart from any other's, bounded."""

from __future__ import annotations

import pytest
from nacl.signing import SigningKey

from config_daemon.errors import ErrorContext, KeyUnavailable, RejectedUpdate
from config_daemon.wire.sealing import canonical, seal
from config_daemon.wire.status import STATUS, Attempt, Running, Status, problems, read_status, status_body
from config_daemon.wire.workerkeys import PublicKeys, WorkerKeys

AT = "2026-01-02T03:04:05.678Z"
DIGEST = "ab" * 32
KEYS = WorkerKeys("kitchen", b"\1" * 32, b"\2" * 32)
CONTEXT = ErrorContext("invalid_config", "OUT_OF_RANGE", "m" * 600, "Use less.", "a.b", "9", "int")


def status(**changes: object) -> Status:
    place = {"generation": 1, "sequence": 7, "config_version": 3, "body_sha256": DIGEST}
    members = {
        "service": "stt-worker", "worker": "kitchen", "boot": 5, "n": 1, "key_id": KEYS.key_id, "issued_at": AT,
        "beacon": 6, "running": Running(**place, source="broker", applied_at=AT),
        "last_attempt": Attempt(**place, state="rejected", reason="invalid", errors=problems((CONTEXT,)), at=AT),
        "flags": ["stale"], "agent": "test/1",
    }  # fmt: skip
    return Status(**{**members, **changes})


def read(raw: bytes, service: str = "stt-worker", worker: str = "kitchen") -> Status:
    return read_status(raw, service, worker, KEYS.public.verifier, KEYS.public.key_id)


def test_what_a_worker_signed_is_read_as_it_was_meant() -> None:
    said = status()
    assert read(KEYS.sign(said)) == said
    assert read(KEYS.sign(said)).last_attempt.errors[0].message == "m" * 500  # type: ignore[union-attr]


@pytest.mark.parametrize("at", range(0, 1200, 37))
def test_one_flipped_bit_is_refused(at: int) -> None:
    raw = bytearray(KEYS.sign(status()))
    raw[at % len(raw)] ^= 1
    with pytest.raises(RejectedUpdate):
        read(bytes(raw))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (KEYS.sign(status(worker="hall")), "wrong-service"),
        (KEYS.sign(status(service="router")), "wrong-service"),
        (KEYS.sign(status(key_id="0" * 32)), "wrong-key"),
        (WorkerKeys("kitchen", b"\3" * 32, b"\2" * 32).sign(status()), "bad-signature"),
        (seal(status_body(status()), "config-update", SigningKey(b"\1" * 32)), "bad-signature"),
        (seal(canonical({"version": 2}), STATUS, SigningKey(b"\1" * 32)), "unknown-version"),
        (seal(canonical({"version": 1}), STATUS, SigningKey(b"\1" * 32)), "bad-json"),
        (KEYS.sign(status(agent="x" * 100, flags=["stale"] * 12)).ljust(70_000, b"x"), "oversize"),
        (b"", "wiped"),
    ],
)
def test_what_is_not_this_workers_status_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(RejectedUpdate) as refusal:
        read(raw)
    assert refusal.value.reason == reason


def test_the_longest_status_fits() -> None:
    long = ErrorContext("é" * 200, "A" * 64, "é" * 500, "é" * 500, "é" * 900, "é" * 100, "é" * 900)
    said = status(last_attempt=status().last_attempt.model_copy(update={"errors": problems((long,) * 30)}))  # type: ignore[union-attr]
    assert len(read(KEYS.sign(said)).last_attempt.errors) == 12  # type: ignore[union-attr]


def test_a_flag_of_a_later_version_is_no_reason_to_refuse() -> None:
    assert read(KEYS.sign(status(flags=["of-tomorrow"]))).flags == ["of-tomorrow"]


def test_public_keys_are_read_as_they_were_written() -> None:
    assert PublicKeys.from_text(KEYS.public.to_text()) == KEYS.public
    assert len(KEYS.public.fingerprint) == 19


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"worker": "Kitchen", "verify_key": "", "box_key": ""}',
        KEYS.public.to_text().replace(KEYS.public.verify_key, "00" * 32),  # a point of small order
        KEYS.public.to_text().replace(KEYS.public.verify_key, KEYS.public.verify_key.upper()),
        KEYS.public.to_text().replace('"worker"', '"private": "x", "worker"'),
    ],
)  # fmt: skip
def test_what_is_no_file_of_public_keys_is_refused(text: str) -> None:
    with pytest.raises(KeyUnavailable) as refusal:
        PublicKeys.from_text(text)
    assert refusal.value.suggestion
