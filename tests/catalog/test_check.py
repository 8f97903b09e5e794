"""What a person is told about a wrong config, and that nothing makes `check` raise."""

from __future__ import annotations

import json
import math
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config_daemon.catalog.model import definition_of
from config_daemon.catalog.setting import Rule, ServiceModel, setting
from tests.catalog.conftest import SERVICES, codes, definition, example, from_schema, of_properties


def test_all_problems_come_at_once_in_the_order_of_the_fields():
    told = definition("stt-worker").check(
        {
            "vad_treshold": 0.5,
            "channels": "2",
            "sample_rate": None,
            "vad_threshold": 3,
            "stt_backend": "websocket",
            "whisper_model": "x" * 5001,
        }
    )
    assert [(p.failed_field, p.error_code, p.error_type) for p in told] == [
        ("whisper_model", "INVALID_VALUE", "invalid_config"),
        ("stt_backend", "NOT_ALLOWED_VALUE", "invalid_config"),
        ("vad_threshold", "OUT_OF_RANGE", "invalid_config"),
        ("sample_rate", "WRONG_TYPE", "type_error"),
        ("channels", "WRONG_TYPE", "type_error"),
        ("vad_treshold", "UNKNOWN_KEY", "invalid_config"),
    ]
    assert all(problem.suggestion and problem.message for problem in told)


def test_a_problem_says_what_came_what_is_expected_and_what_to_do():
    (told,) = definition("stt-worker").check({"vad_threshold": 1.5})
    assert told.received_value == "1.5"
    assert told.expected_type == "a number from 0.0 to 1.0"
    assert told.message == "vad_threshold must be a number from 0.0 to 1.0"
    (told,) = definition("stt-worker").check({"vad_treshold": 0.5})
    assert told.suggestion == "Did you mean vad_threshold?"
    (told,) = definition("llm-worker").check({"provider": "olama"})
    assert told.suggestion.startswith("Did you mean ollama?")
    (told,) = definition("stt-worker").check({"channels": None})
    assert "config-daemon unset stt-worker channels" in told.suggestion
    (told,) = definition("agent-worker").check({})
    assert "config-daemon set agent-worker worker_pool_size=" in told.suggestion
    assert "AGENT_WORKER__WORKER_POOL_SIZE" in told.suggestion


def test_a_problem_inside_a_list_names_the_field_and_the_item():
    (told,) = definition("backend-api").check({**example("backend-api"), "cors_origins": ["https://a.b", 3]})
    assert told.failed_field == "cors_origins"
    assert "cors_origins[1]" in told.message


def test_absent_secrets_are_no_problem_but_bad_ones_are():
    values = example("backend-api")
    del values["secret_key"], values["database"]["password"]
    assert definition("backend-api").check(values) == ()
    assert codes(definition("backend-api").check({**values, "secret_key": 3})) == {"secret_key": "WRONG_TYPE"}


def test_a_missing_section_is_told_as_its_missing_fields():
    values = example("backend-api")
    del values["database"]
    assert codes(definition("backend-api").check(values)) == {
        "database.host": "MISSING_FIELD",
        "database.username": "MISSING_FIELD",
        "database.database": "MISSING_FIELD",
    }


@pytest.mark.parametrize(
    "values",
    [
        {"secret_key": ["hunter2hunter2"]},
        {"secret_key": "hunter2"},
        {"database": "postgresql://me:hunter2@db/x"},
        {"secret_kye": "hunter2"},
        {"database": {"pasword": "hunter2"}},
        {"database_url": 12345, "secret_key": "hunter2"},
    ],
)
def test_what_is_or_may_be_a_secret_is_masked(values):
    told = definition("backend-api").check({**example("backend-api"), **values})
    assert told
    assert "hunter2" not in repr(told)
    assert "12345" not in repr(told)


@pytest.mark.parametrize("password", ["hunter2", "hunter2" * 100, "hun/ter2@hunter2", "hunter2 hunter2"])
def test_a_password_in_any_url_is_masked(password):
    (told,) = definition("llm-worker").check({"base_url": f"ftp://me:{password}@host/path"})
    assert told.received_value == '"ftp://***@host/path"'
    assert "hunter2" not in repr(told)


def test_an_unknown_key_is_masked_wherever_it_stands():
    it = of_properties(
        {"s": {"type": "object", "additionalProperties": False, "properties": {"a": {"type": "integer"}}}}
    )
    (told,) = it.check({"s": {"tokne": "hunter2"}})
    assert told.received_value
    assert "hunter2" not in repr(told)


def deep(levels):
    value = "bottom"
    for _ in range(levels):
        value = {"a": value}
    return value


def deep_list(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


LOOP: dict[str, object] = {}
LOOP["loop"] = LOOP
TWINS: list[object] = []
TWINS += [TWINS, TWINS]


class Odd(str):
    pass


WEIRD = [
    10**5000, -(10**20), 2**53, math.nan, math.inf, -math.inf, "\ud800", "a\udfffb", ["\ud800"], {"\ud800": 1},
    {1: 2}, {None: None}, {"a": {2: 3}}, deep(50), deep(100_000), deep_list(100_000), LOOP, object(), b"x",
    {"x"}, (1, 2), MappingProxyType({}), [MappingProxyType({})], 1j, Odd("x"), {"": 1}, {"A.b": 1}, {"a\nb": 1},
]  # fmt: skip


@pytest.mark.parametrize("value", WEIRD, ids=range(len(WEIRD)))
@pytest.mark.parametrize("service", ["agent-worker", "backend-api", "stt-worker"])
def test_nothing_makes_check_raise(service, value):
    it = definition(service)
    copied = from_schema(it.schema(), service)
    everywhere = {key: value for key in it.fields if "." not in key}
    as_a_name = {value: 1} if isinstance(value, str) else {}
    for values in (everywhere, {"media": value, "zz": value}, as_a_name):
        for judged in (it, copied):
            for told in judged.check({**example(service), **values}):
                json.dumps(told.as_dict()).encode()
                told.message.encode()
                assert len(told.received_value) <= 100


@pytest.mark.parametrize("values", [None, [], "x", 3, {1: 1}, {"\ud800": 1}])
def test_values_that_are_no_config_at_all(values):
    assert definition("global").check(values)


def test_unsound_values_are_told_by_field_and_the_rest_is_still_judged():
    told = codes(
        definition("agent-worker").check(
            {"worker_pool_size": 10**30, "timeout": -1, "media": {"gain": math.nan}, "agent_name": "\ud800",
             "load_threshold": math.inf, "session": {"id": 2**60}, "tool_registry": deep(40)}
        )
    )  # fmt: skip
    assert told == {
        "worker_pool_size": "OUT_OF_RANGE",
        "timeout": "OUT_OF_RANGE",
        "media": "NOT_FINITE",
        "agent_name": "LONE_SURROGATE",
        "load_threshold": "NOT_FINITE",
        "session": "INTEGER_TOO_LARGE",
        "tool_registry": "TOO_DEEP",
    }


def test_ten_thousand_unknown_keys_are_cut_short():
    told = definition("global").check({f"k{i}": i for i in range(9000)})
    assert len(told) == 101
    assert "8900 more" in told[-1].message or any("8900 more" in problem.message for problem in told)


def test_a_list_that_holds_itself_twice_ends():
    assert codes(definition("agent-worker").check({"media": {"a": TWINS}})) == {"": "TOO_MANY_ITEMS"}


def test_too_many_keys_are_one_problem():
    assert [
        p.error_code for p in definition("agent-worker").check({"media": {str(i): 1 for i in range(10_001)}})
    ] == ["TOO_MANY_KEYS"]


# JSON Schema takes 1.0 for an integer and a strict model does not; everything else is the same.
fractions = st.floats().filter(lambda number: not number.is_integer())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | fractions | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_values_are_judged_alike_by_a_model_and_by_its_published_schema(data):
    """What JSON Schema can say, a model and its schema say with the same codes; rules come on top."""
    service = data.draw(st.sampled_from(SERVICES))
    it = definition(service)
    copied = from_schema(it.schema(), service)
    keys = st.sampled_from(sorted({key.partition(".")[0] for key in it.fields} | {"unknown"}))
    values = {**example(service), **data.draw(st.dictionaries(keys, json_values, max_size=3))}
    by_model, by_schema = it.check(values), copied.check(values)
    assert _without_rules(by_model) == _without_rules(by_schema)
    assert by_model or not by_schema


def _without_rules(problems):
    told = {(problem.failed_field, problem.error_code) for problem in problems}
    return {(field, code) for field, code in told if code not in {"INVALID_VALUE", "MISSING_FIELD"}}


def test_a_registered_model_that_crashes_is_a_problem_and_no_crash():
    def explode(value):
        raise KeyError("boom")

    class Fragile(ServiceModel):
        """Breaks."""

        service = "fragile"
        rules = (Rule(("amount",), "never", explode, "Do not."),)
        amount: int = setting(1, description="Some.")

    (told,) = definition_of(Fragile).check({"amount": 2})
    assert "KeyError" in told.message
    assert codes(definition_of(Fragile).check({"amount": "x"})) == {"amount": "WRONG_TYPE"}
