"""Text of a `.env` line or a command line, as a value of the field's type."""

from __future__ import annotations

import pytest

from config_daemon.errors import InvalidConfig
from tests.catalog.conftest import definition, from_schema, of_properties

KINDS = of_properties(
    {
        "s": {"type": "string"},
        "ns": {"type": ["string", "null"]},
        "p": {"type": "string", "format": "path"},
        "k": {"type": "string", "x-secret": True},
        "e": {"enum": ["one", "1"]},
        "ne": {"enum": ["one", None]},
        "i": {"type": "integer", "maximum": 5},
        "ni": {"type": ["integer", "null"]},
        "f": {"type": "number"},
        "b": {"type": "boolean"},
        "nb": {"type": ["boolean", "null"]},
        "l": {"type": "array"},
        "ln": {"type": "array", "items": {"type": "integer"}},
        "o": {"type": "object"},
        "sec": {"type": "object", "properties": {"k": {"type": "string", "x-secret": True}}},
    }
)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("s", "", ""), ("s", "0.60", "0.60"), ("s", "null", "null"), ("s", ' "x" ', ' "x" '), ("s", "[1]", "[1]"),
        ("ns", "null", "null"), ("p", "~/x", "~/x"), ("k", "123", "123"), ("e", "1", "1"), ("e", "two", "two"),
        ("ne", "null", None), ("i", "3", 3), ("i", " -7 ", -7), ("i", "99", 99), ("ni", "null", None),
        ("f", "0.6", 0.6), ("f", "3", 3), ("f", "1e-3", 0.001), ("nb", "null", None),
        ("l", "", []), ("l", "  ", []), ("l", "a", ["a"]), ("l", "a, b ,c", ["a", "b", "c"]), ("l", "1,2", ["1", "2"]),
        ("l", '["a,b", 3]', ["a,b", 3]), ("l", "[]", []), ("l", "a,", ["a", ""]), ("ln", "1, 2", [1, 2]),
        ("o", '{"a": {"b": [1]}}', {"a": {"b": [1]}}), ("o.a", "true", True), ("o.a.b", "text", "text"),
        ("sec", '{"k": "x"}', {"k": "x"}), ("sec.k", "{", "{"),
        *[("b", word, True) for word in ("true", "True", "YES", "on", "1", " true ")],
        *[("b", word, False) for word in ("false", "FALSE", "no", "Off", "0")],
    ],
)  # fmt: skip
def test_text_means(key, text, value):
    result = KINDS.coerce(key, text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("i", ""), ("i", "x"), ("i", "3.0"), ("i", "1_000"), ("i", "true"), ("i", "null"), ("i", '"3"'),
        ("i", "9" * 5000),
        ("f", "NaN"), ("f", "Infinity"), ("f", "1e999"), ("f", "0,6"), ("f", "true"), ("f", "null"),
        ("b", ""), ("b", "2"), ("b", "maybe"), ("b", "null"), ("l", "[1"), ("l", "[1] x"), ("ln", "1,x"),
        ("ln", "null"),
        ("o", "x"), ("o", "[]"), ("o", '{"a":1,"a":2}'), ("o", "null"), ("o", "[" * 100_000), ("sec", "x"),
    ],
)  # fmt: skip
def test_text_that_means_nothing_is_refused_with_what_to_write(key, text):
    with pytest.raises(InvalidConfig) as caught:
        KINDS.coerce(key, text)
    (told,) = caught.value.contexts
    assert (told.error_code, told.failed_field) == ("WRONG_TYPE", key)
    assert told.expected_type
    assert told.suggestion.startswith("Write ")


def test_a_secret_inside_a_section_is_not_shown_when_its_text_is_broken():
    with pytest.raises(InvalidConfig) as caught:
        KINDS.coerce("sec", '{"k": "hunter2"')
    assert "hunter2" not in repr(caught.value.contexts) + str(caught.value)


@pytest.mark.parametrize("key", ["vad_treshold", "vad_threshold.x", "", "Vad", "a..b"])
def test_unknown_keys_are_refused_with_the_nearest_one(key):
    with pytest.raises(InvalidConfig) as caught:
        definition("stt-worker").coerce(key, "1")
    (told,) = caught.value.contexts
    assert (told.error_code, told.failed_field) == ("UNKNOWN_KEY", key)
    if key == "vad_treshold":
        assert told.suggestion == "Did you mean vad_threshold?"


def test_an_open_schema_takes_unknown_keys_as_json_or_text():
    it = from_schema({"type": "object", "properties": {"a": {"type": "integer"}}})
    assert (it.coerce("b", "3"), it.coerce("b", "three"), it.coerce("b.c", "[1]")) == (3, "three", [1])
    with pytest.raises(InvalidConfig):
        it.coerce("B", "3")
    with pytest.raises(InvalidConfig):
        it.coerce("a.b", "3")


@pytest.mark.parametrize(
    "text", ["https://a.example,https://b.example", '["https://a.example", "https://b.example"]']
)
def test_both_forms_of_cors_origins(text):
    assert definition("backend-api").coerce("cors_origins", text) == [
        "https://a.example",
        "https://b.example",
    ]
