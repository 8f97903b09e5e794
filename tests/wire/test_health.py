"""The health message: ten fields that are always there, and nothing that passes for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.messages import Condition, Health, health_body, parse_health
from config_daemon.wire.sealing import canonical
from tools.wire_messages import HEALTH

SEALED_AT = "2026-03-14T09:26:53.589Z"
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TEN_FIELDS = (
    "ok",
    "database_status",
    "operational_mode",
    "config_epoch",
    "schema_version",
    "lkg_cache_valid",
    "litestream_status",
    "last_backup",
    "event",
    "err",
)


def health(**changed: Any) -> bytes:
    return canonical({**HEALTH, **changed})


def is_refused(body: bytes) -> bool:
    with pytest.raises(RejectedUpdate) as refused:
        parse_health(body)
    return (refused.value.step, refused.value.reason) == (4, "bad-json")


def test_health_has_its_ten_fields_whatever_is_unknown() -> None:
    read = parse_health(health(last_backup=None, event=None, err=None, conditions=[]))
    written = json.loads(health_body(read))
    assert set(TEN_FIELDS) <= set(written)
    assert [written[name] for name in ("last_backup", "event", "err")] == [None, None, None]
    assert parse_health(health_body(read)) == read


@pytest.mark.parametrize("name", sorted(HEALTH))
def test_health_is_refused_when_a_field_is_missing(name: str) -> None:
    members = dict(HEALTH)
    del members[name]
    assert is_refused(canonical(members))


@pytest.mark.parametrize(
    "changed",
    [
        {"ok": 1},
        {"ok": "true"},
        {"database_status": "fine"},
        {"operational_mode": "Normal"},
        {"litestream_status": None},
        {"schema_version": -1},
        {"schema_version": "1"},
        {"lkg_cache_valid": None},
        {"last_backup": ""},
        {"event": 0},
        {"err": []},
        {"session": "x"},
        {"services": -1},
        {"behind": 1.5},
        {"conditions": {}},
        {"conditions": [{}]},
        {"conditions": [{**HEALTH["conditions"][0], "severity": "bad"}]},
        {"version": True},
    ],
    ids=str,
)
def test_health_of_another_shape_is_refused(changed: dict[str, Any]) -> None:
    assert is_refused(health(**changed))


@given(TEXT, TEXT, TEXT)
def test_health_comes_back_whatever_its_texts_hold(event: str, subject: str, detail: str) -> None:
    condition = Condition(
        name="too-large", subject=subject, severity="warning", since=SEALED_AT, detail=detail
    )
    sent = Health.model_validate({**HEALTH, "event": event, "conditions": [condition]})
    assert parse_health(health_body(sent)) == sent
