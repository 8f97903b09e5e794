"""Schema files tell the same problems with the same codes as shipped models."""

from __future__ import annotations

import pytest

from tests.catalog.conftest import codes, from_schema, of_properties

NUMBER = {"type": "integer", "minimum": 1, "maximum": 9, "default": 3}
SECTION = {"type": "object", "properties": {"a": NUMBER}}


@pytest.mark.parametrize(
    ("schema", "values", "told"),
    [
        ({"a": NUMBER}, {"a": 0}, {"a": "OUT_OF_RANGE"}),
        ({"a": {"type": "integer", "exclusiveMinimum": 0}}, {"a": 0}, {"a": "OUT_OF_RANGE"}),
        ({"a": NUMBER}, {"a": "1"}, {"a": "WRONG_TYPE"}),
        ({"a": NUMBER}, {"a": True}, {"a": "WRONG_TYPE"}),
        ({"a": NUMBER}, {"a": None}, {"a": "WRONG_TYPE"}),
        ({"a": {"enum": ["x", "y"]}}, {"a": "z"}, {"a": "NOT_ALLOWED_VALUE"}),
        ({"a": {"const": "x"}}, {"a": "z"}, {"a": "NOT_ALLOWED_VALUE"}),
        ({"a": {"type": "string", "pattern": "^x"}}, {"a": "y"}, {"a": "BAD_PATTERN"}),
        ({"a": {"type": "string", "maxLength": 2}}, {"a": "yyy"}, {"a": "INVALID_VALUE"}),
        ({"a": {"type": "integer", "multipleOf": 5}}, {"a": 7}, {"a": "INVALID_VALUE"}),
        ({"a": {"type": "array", "uniqueItems": True}}, {"a": [1, 1]}, {"a": "INVALID_VALUE"}),
        ({"a": NUMBER}, {"b": 1}, {"b": "UNKNOWN_KEY"}),
        ({"a": {"type": ["integer", "null"], "maximum": 5}}, {"a": 6}, {"a": "OUT_OF_RANGE"}),
        ({"a": {"anyOf": [{"type": "integer", "maximum": 5}, {"type": "null"}]}}, {"a": 6}, {"a": "OUT_OF_RANGE"}),
        ({"a": {"anyOf": [{"type": "integer", "maximum": 5}, {"type": "null"}]}}, {"a": "6"}, {"a": "WRONG_TYPE"}),
        ({"a": {"type": "string", "not": {"const": "x"}}}, {"a": "x"}, {"a": "INVALID_VALUE"}),
        ({"s": SECTION}, {"s": {"a": 99}}, {"s.a": "OUT_OF_RANGE"}),
        ({"s": {**SECTION, "additionalProperties": False}}, {"s": {"b": 1}}, {"s.b": "UNKNOWN_KEY"}),
    ],
)  # fmt: skip
def test_schema_files_speak_the_same_codes(schema, values, told):
    assert codes(of_properties(schema).check(values)) == told


def test_required_fields_of_schema_files():
    section = {"type": "object", "required": ["b"], "properties": {"b": {"type": "integer"}}}
    it = of_properties(
        {"a": {"type": "string"}, "k": {"type": "string", "x-secret": True}, "s": section},
        required=["a", "k", "s"],
    )
    assert codes(it.check(it.effective({}))) == {"a": "MISSING_FIELD", "s.b": "MISSING_FIELD"}
    assert codes(it.check({})) == {"a": "MISSING_FIELD", "s.b": "MISSING_FIELD"}
    assert it.check({"a": "x", "s": {"b": 1}}) == ()


def test_a_choice_between_secrets_is_not_judged_before_they_come():
    it = of_properties(
        {name: {"type": "string", "x-secret": True} for name in ("token", "password")},
        anyOf=[{"required": ["token"]}, {"required": ["password"]}],
    )
    assert it.check({}) == ()


def test_an_open_schema_takes_other_keys_if_they_can_be_keys():
    it = from_schema({"type": "object", "properties": {"a": NUMBER}})
    assert it.check({"a": 3, "other": {"x": 1}}) == ()
    assert codes(it.check({"Other": 1})) == {"Other": "UNKNOWN_KEY"}


def test_the_text_limit_of_schema_files_is_ours_unless_they_say_otherwise():
    it = of_properties({"a": {"type": "string"}, "b": {"type": "string", "maxLength": 6000}})
    assert it.check({"a": "x" * 5000, "b": "x" * 6000}) == ()
    assert codes(it.check({"a": "x" * 5001})) == {"a": "INVALID_VALUE"}
    assert it.schema()["properties"]["a"]["maxLength"] == 5000


def test_a_pattern_that_runs_away_is_ended():
    it = of_properties({"a": {"type": "string", "pattern": r"^(?=a)(a+)+\1c$"}})
    assert codes(it.check({"a": "a" * 4999})) == {"a": "BAD_PATTERN"}
