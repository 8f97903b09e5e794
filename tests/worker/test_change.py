"""What a program is told of a change, and how its class reads values."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from config_daemon.errors import ErrorContext, InvalidConfig
from config_daemon.worker.change import changed_keys
from config_daemon.worker.typed import validator


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        (None, {"a": 1, "b": {"c": 2}}, ("a", "b.c")),
        ({"a": 1}, {"a": 1}, ()),
        ({"a": 1}, {"a": True}, ("a",)),
        ({"a": 1}, {"a": 1.0}, ("a",)),
        ({"a": 0.0}, {"a": -0.0}, ("a",)),
        ({"a": None}, {}, ("a",)),
        ({}, {"a": None}, ("a",)),
        ({"a": {}}, {"a": {"b": 1}}, ("a", "a.b")),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ("a",)),
        ({"a": [{"b": 1, "c": 2}]}, {"a": [{"c": 2, "b": 1}]}, ()),
        ({"z": 1, "a": 1}, {"z": 2, "a": 2}, ("a", "z")),
    ],
)
def test_the_keys_that_differ_are_those_that_json_tells_apart(
    old: Any, new: Any, keys: tuple[str, ...]
) -> None:
    assert changed_keys(old, new) == keys


class Colour(enum.Enum):
    RED = "red"


class Endpoint(BaseModel):
    url: str = Field(min_length=3)
    password: SecretStr = SecretStr("")
    pin: int = Field(0, ge=0, json_schema_extra={"x-secret": True})


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    colour: Colour = Colour.RED
    since: datetime | None = None
    ratio: float = 0.5
    endpoints: list[Endpoint] = []
    named: dict[str, Endpoint] = {}

    @model_validator(mode="after")
    def _together(self) -> Strict:
        if self.ratio > 1 and not self.endpoints:
            raise ValueError("a ratio above 1 needs an endpoint")
        return self


def errors(values: dict[str, Any]) -> list[ErrorContext]:
    with pytest.raises(InvalidConfig) as refusal:
        validator(Strict, "router")(values)
    return list(refusal.value.contexts)


def test_a_strict_class_reads_what_json_can_say() -> None:
    made = validator(Strict, "router")({"colour": "red", "since": "2026-01-02T03:04:05Z", "ratio": 1})
    assert (made.colour, made.since.year, made.ratio) == (Colour.RED, 2026, 1.0)


@pytest.mark.parametrize(
    ("values", "field", "code"),
    [
        ({"colour": "blue"}, "colour", "NOT_ALLOWED_VALUE"),
        ({"since": "yesterday"}, "since", "WRONG_TYPE"),
        ({"ratio": "much"}, "ratio", "WRONG_TYPE"),
        ({"endpoints": [{"url": ""}]}, "endpoints.0.url", "OUT_OF_RANGE"),
        ({"endpoints": [{}]}, "endpoints.0.url", "MISSING_FIELD"),
        ({"ratio": 2}, "", "INVALID_VALUE"),
    ],
)
def test_an_error_names_field_and_kind_and_a_way_out(values: dict[str, Any], field: str, code: str) -> None:
    (found,) = errors(values)
    assert (found.failed_field, found.error_code) == (field, code)
    assert found.suggestion and found.message


def test_all_errors_are_told_at_once() -> None:
    assert {one.failed_field for one in errors({"colour": 1, "ratio": "x"})} == {"colour", "ratio"}


@pytest.mark.parametrize(
    "values",
    [
        {"endpoints": [{"url": "abc", "password": 31337}]},
        {"endpoints": [{"url": "abc", "pin": -31337}]},
        {"named": {"31337": {"url": "abc", "password": 31337}}},
    ],
)
def test_the_value_of_a_secret_is_not_shown(values: dict[str, Any]) -> None:
    (found,) = errors(values)
    assert found.received_value == "********"
    assert "31337" not in found.message.replace("named.31337", "")
