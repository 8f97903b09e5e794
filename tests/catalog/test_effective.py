"""Values over defaults, nested; nothing invented for secrets and required fields."""

from __future__ import annotations

from types import MappingProxyType

from config_daemon.catalog.definition import MISSING
from tests.catalog.conftest import definition, from_schema, of_properties

PORT = {"type": "integer", "default": 1}
HOST = {"type": "string"}


def test_values_lie_over_defaults_in_the_order_of_the_fields_and_unknown_keys_are_kept():
    effective = definition("tts-worker").effective({"zz": 1, "volume_percent": 50})
    assert list(effective) == [*definition("tts-worker").fields, "zz"]
    assert effective["volume_percent"] == 50
    assert effective["piper_voice"] == "en_US-lessac-medium"


def test_nested_values_are_merged_and_secrets_get_no_default():
    effective = definition("backend-api").effective({"database": {"host": "db", "extra": 1}})
    assert effective["database"] == {"host": "db", "port": 5432, "driver": "postgresql+asyncpg", "extra": 1}
    assert "secret_key" not in effective
    assert "database_url" not in effective


def test_a_section_that_may_be_null_stays_null_until_one_of_its_members_is_set():
    it = definition("agent-worker")
    assert it.effective({})["default_worker_options"] is None
    options = it.effective({"default_worker_options": {"timeout": 5}})["default_worker_options"]
    assert (options["timeout"], options["entry_point"]) == (5, None)
    assert "api_key" not in options


def test_nothing_is_judged_and_nothing_given_is_changed():
    given = MappingProxyType({"database": "not an object", "cors_origins": None})
    effective = definition("backend-api").effective(given)
    assert (effective["database"], effective["cors_origins"]) == ("not an object", None)


def test_defaults_are_never_shared_with_the_definition():
    it = definition("backend-api")
    it.effective({})["cors_origins"].append("https://evil.example")
    it.schema()["properties"]["cors_origins"]["default"].append("https://evil.example")
    assert it.effective({})["cors_origins"] == ["http://localhost:3000"]
    nested = of_properties(
        {"s": {"type": "object", "default": {"l": []}, "properties": {"l": {"type": "array"}}}}
    )
    nested.effective({})["s"]["l"].append(1)
    assert nested.effective({}) == {"s": {"l": []}}


def test_an_optional_section_is_filled_only_where_defaults_make_it_complete():
    complete = of_properties({"s": {"type": "object", "properties": {"port": PORT}}})
    assert complete.effective({}) == {"s": {"port": 1}}
    section = {"type": "object", "properties": {"port": PORT, "host": HOST}, "required": ["host"]}
    assert of_properties({"s": section}).effective({}) == {}
    assert of_properties({"s": section}).effective({"s": {"host": "x"}}) == {"s": {"port": 1, "host": "x"}}
    assert of_properties({"s": section}, required=["s"]).effective({}) == {"s": {"port": 1}}
    secret = {
        "type": "object",
        "properties": {"port": PORT, "k": {**HOST, "x-secret": True}},
        "required": ["k"],
    }
    assert of_properties({"s": secret}).effective({}) == {"s": {"port": 1}}


def test_a_sections_own_default_lies_between_values_and_its_members_defaults():
    section = {"type": "object", "default": {"host": "a"}, "properties": {"host": HOST, "port": PORT}}
    it = of_properties({"s": section})
    assert it.effective({}) == {"s": {"host": "a", "port": 1}}
    assert it.effective({"s": {"port": 2}}) == {"s": {"port": 2}}


def test_fields_of_a_schema_file():
    it = from_schema(
        {
            "type": "object",
            "title": "Sensor",
            "description": "Measures.",
            "x-depends-on": ["router"],
            "required": ["place", "s"],
            "properties": {
                "place": {
                    "type": "string",
                    "description": "Where.",
                    "x-help": "Long.",
                    "x-complexity": "advanced",
                },
                "rate": {"$ref": "#/$defs/rate", "default": 2, "x-env": "SENSOR_RATE"},
                "mode": {"enum": ["a", "b", None], "default": None},
                "file": {"type": "string", "format": "path", "pattern": "^/"},
                "token": {"type": ["string", "null"], "format": "password", "x-env": ["TOKEN", "OLD_TOKEN"]},
                "s": {
                    "type": "object",
                    "required": ["n"],
                    "properties": {"n": {"type": "number", "maximum": 9.5}},
                },
                "o": {
                    "anyOf": [{"type": "object", "properties": {"x": {"type": "boolean"}}}, {"type": "null"}]
                },
                "free": {"type": "object", "additionalProperties": {"type": "boolean"}},
            },
            "$defs": {
                "rate": {"type": "integer", "exclusiveMinimum": 0, "maximum": 10, "description": "Hz."}
            },
        }
    )
    assert (it.title, it.description, it.dependencies) == ("Sensor", "Measures.", ("router",))
    assert {key: field.type for key, field in it.fields.items()} == {
        "place": "string", "rate": "integer", "mode": "enum", "file": "path", "token": "secret", "s.n": "float",
        "o": "object", "o.x": "boolean", "free": "object",
    }  # fmt: skip
    f = it.fields
    assert (f["place"].required, f["place"].complexity, f["place"].help_text) == (True, "advanced", "Long.")
    assert (f["rate"].minimum, f["rate"].maximum, f["rate"].default, f["rate"].aliases) == (
        1,
        10,
        2,
        ("SENSOR_RATE",),
    )
    assert (f["rate"].description, f["rate"].complexity) == ("Hz.", "simple")
    assert (f["mode"].allowed, f["mode"].nullable) == (("a", "b"), True)
    assert f["file"].pattern == "^/"
    assert (f["token"].is_secret, f["token"].aliases, f["token"].default) == (
        True,
        ("TOKEN", "OLD_TOKEN"),
        MISSING,
    )
    assert (f["s.n"].required, f["s.n"].maximum) == (True, 9.5)
    assert (f["o"].nullable, f["o.x"].required) == (True, False)
