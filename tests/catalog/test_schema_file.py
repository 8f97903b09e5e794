"""Files that are schemas, files that are not, and what is told about them."""

from __future__ import annotations

import json

import pytest

from config_daemon.catalog.schema_file import MAX_BYTES, SchemaFiles, compile_schema
from config_daemon.catalog.shape import SchemaError
from tests.catalog.conftest import SERVICES, definition, from_schema, number, of_properties


def schema(**properties):
    return {"type": "object", "properties": properties}


A = {"type": "integer"}
SECRET = {"type": "string", "x-secret": True}


@pytest.mark.parametrize("service", SERVICES)
def test_a_published_schema_dropped_in_defines_the_same_fields(service):
    it = definition(service)
    copied = from_schema(it.schema(), service)
    assert dict(copied.fields) == dict(it.fields)
    assert list(copied.fields) == list(it.fields)
    assert copied.schema() == it.schema()
    assert copied.effective({}) == it.effective({})
    assert (copied.title, copied.description, copied.dependencies) == (
        it.title,
        it.description,
        it.dependencies,
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "strict JSON"),
        (b"{", "strict JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "strict JSON"),
        (b'{"type": "object", "type": "object"}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e999}', "too large"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "no JSON object"),
        (b"true", "no JSON object"),
        (b'"x"', "no JSON object"),
        (b" " * (MAX_BYTES + 1), "larger than"),
        (b"{}", "object with properties"),
    ],
)
def test_files_that_are_no_schema(text, why):
    with pytest.raises(SchemaError, match=why) as caught:
        compile_schema(text)
    assert caught.value.suggestion


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"type": "array"}, "object with properties"),
        ({"type": ["object", "null"], "properties": {"a": A}}, "object with properties"),
        ({"type": "object", "properties": {}}, "object with properties"),
        ({"properties": {"a": A}}, "object with properties"),
        (schema(a={"type": "strin"}), "not JSON Schema"),
        (schema(a={"type": "string", "pattern": "("}), "not JSON Schema"),
        (schema(a={"minimum": "1"}), "not JSON Schema"),
        (schema(a={}), "no single type"),
        (schema(a=True), "no single type"),
        (schema(a={"type": ["string", "integer"]}), "not supported"),
        (schema(a={"type": "null"}), "not supported"),
        (schema(a={"enum": ["x", 1]}), "no single type"),
        (schema(A=A), "cannot be a key"),
        (schema(**{"a.b": A}), "cannot be a key"),
        (schema(**{"": A}), "cannot be a key"),
        (schema(a_b=A, a=schema(b=A)), "one name in .env"),
        (schema(a={"$ref": "#/$defs/none"}), "leads nowhere|not exist"),
        (schema(a={"$ref": "http://127.0.0.1:1/x.json"}), "leads out of the file"),
        (schema(a={"$ref": "other.json"}), "leads out of the file"),
        (schema(a={"$dynamicRef": "http://127.0.0.1:1/x"}), "leads out of the file"),
        ({**schema(a=A), "allOf": [{"$ref": "file:///etc/passwd"}]}, "leads out of the file"),
        (schema(a={"$ref": "#/properties/a"}), "back to itself"),
        (schema(a={"$ref": "#"}), "too deeply"),
        ({**schema(a=A), "$schema": "http://json-schema.org/draft-07/schema#"}, "2020-12"),
        ({**schema(a=A), "$schema": "http://127.0.0.1:1/meta"}, "2020-12"),
        (schema(a={**A, "$id": "urn:x"}), "inside a schema"),
        (schema(a={**A, "x-complexity": "expert"}), "x-complexity"),
        (schema(a={**A, "x-env": "db_host"}), "x-env"),
        (schema(a={**A, "x-env": [1]}), "x-env"),
        (schema(a={**A, "x-env": "ENVIRONMENT"}), "daemon's own"),
        (schema(a={**A, "x-env": "CONFIG_DB_PATH"}), "daemon's own"),
        (schema(a={**A, "x-env": "SAME"}, b={**A, "x-env": "SAME"}), "x-env of both"),
        (schema(a={**A, "x-help": 3}), "x-help"),
        ({**schema(a=A), "x-depends-on": ["Router"]}, "x-depends-on"),
        (schema(a={**A, "default": "x"}), "own default"),
        (schema(a={**A, "default": 3, "maximum": 2}), "own default"),
        (schema(s={**schema(a={**A, "default": 1}), "default": {"a": "x"}}), "own default"),
    ],
)
def test_schemas_that_define_nothing(wrong, why):
    with pytest.raises(SchemaError, match=why) as caught:
        from_schema(wrong)
    assert caught.value.suggestion


@pytest.mark.parametrize(
    "wrong",
    [
        schema(a={**A, "x-secret": True}),
        schema(a={"type": "string", "x-secret": "yes"}),
        schema(a={"type": "string", "x-secret": True, "default": "hunter2"}),
        schema(a={**schema(b=A), "x-secret": True}),
        schema(a={"type": "array", "items": SECRET}),
        schema(a={"type": "object", "additionalProperties": schema(k=SECRET)}),
        schema(a={"type": "array", "items": {"$ref": "#/$defs/k"}}) | {"$defs": {"k": SECRET}},
        schema(a=A) | {"allOf": [{"properties": {"a": {"x-secret": True}}}]},
    ],
)  # fmt: skip
def test_a_secret_that_could_not_be_kept_is_refused(wrong):
    with pytest.raises(SchemaError) as caught:
        from_schema(wrong)
    assert "hunter2" not in caught.value.message


def test_the_place_in_the_file_is_named():
    with pytest.raises(SchemaError) as caught:
        from_schema(schema(s=schema(a={"type": ["string", "integer"]})))
    assert caught.value.where == "s.a"
    with pytest.raises(SchemaError) as caught:
        from_schema(schema(s={"allOf": [{"$ref": "http://127.0.0.1:1/"}]}))
    assert caught.value.where == "/properties/s/allOf/0"


def test_words_in_data_are_no_references():
    data = {"$ref": "http://example.com", "x-secret": True}
    it = of_properties(
        {"a": {"type": "object", "default": data, "examples": [data]}, "default": {"type": "string"}}
    )
    assert it.effective({})["a"] == data


def test_references_inside_the_file_are_followed():
    it = from_schema(
        {
            **schema(a={"$ref": "#/$defs/x~1y%25"}, s={"$ref": "#/$defs/s", "description": "Here."}),
            "$defs": {
                "x/y%": {"$ref": "#/$defs/n"},
                "n": {"type": "integer", "maximum": 3},
                "s": schema(b=A),
            },
        }
    )
    assert it.fields["a"].maximum == 3
    assert it.fields["s.b"].type == "integer"
    assert [p.error_code for p in it.check({"a": 4})] == ["OUT_OF_RANGE"]


def test_the_same_bytes_are_compiled_once_and_forgotten_when_unused():
    files, text = SchemaFiles(), json.dumps(number()).encode()
    first = files.shape(text)
    assert files.shape(text) is first
    assert files.shape(text + b" ") is not first
