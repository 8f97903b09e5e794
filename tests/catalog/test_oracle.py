"""Verdicts compared with a validator that shares no code with ours, and files of any bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from config_daemon.catalog.schema_file import compile_schema
from config_daemon.catalog.shape import SchemaError
from tests.catalog.conftest import from_schema


def keywords(required, **optional):
    return st.fixed_dictionaries(
        {name: st.just(value) for name, value in required.items()}, optional=optional
    )


integer = keywords(
    {"type": "integer"}, minimum=st.integers(-3, 3), maximum=st.integers(0, 6), multipleOf=st.integers(1, 3)
)
number = keywords({"type": "number"}, exclusiveMinimum=st.integers(-3, 3), maximum=st.floats(0, 6))
text = keywords(
    {"type": "string"},
    minLength=st.integers(0, 3),
    maxLength=st.integers(0, 5),
    pattern=st.sampled_from(["^a", "b$", "[0-9]"]),
)
choice = st.sets(st.sampled_from(["a", "b", "c"]), min_size=1).map(lambda choices: {"enum": sorted(choices)})
array = keywords(
    {"type": "array"},
    items=st.sampled_from([{}, {"type": "string"}, {"type": "integer"}]),
    maxItems=st.integers(0, 3),
    uniqueItems=st.booleans(),
)
nullable = st.sampled_from(
    [
        {"type": ["boolean", "null"]},
        {"enum": ["a", None]},
        {"anyOf": [{"type": "integer", "minimum": 2}, {"type": "null"}]},
    ]
)
leaf = integer | number | text | choice | array | nullable
names = st.sampled_from(["a", "b", "c", "d"])


def objects(members):
    return st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(names, members, min_size=1, max_size=4)},
        optional={
            "additionalProperties": st.booleans(),
            "required": st.lists(names, unique=True, max_size=2),
        },
    )


scalars = st.none() | st.booleans() | st.integers(-4, 8) | st.floats(-4, 8) | st.text("ab1", max_size=6)
configs = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "e"]),
    scalars | st.lists(scalars, max_size=4) | st.dictionaries(names, scalars, max_size=4),
    max_size=5,
)


@settings(max_examples=200, deadline=None)
@given(objects(leaf | objects(leaf)), configs)
def test_verdicts_are_those_of_an_independent_validator(schema, values):
    it = from_schema(schema)
    assert (it.check(values) == ()) == Draft202012Validator(it.schema()).is_valid(values)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]":,truefalsn01.-$xy ', max_size=60).map(str.encode))
def test_any_bytes_are_a_schema_or_a_told_problem(content):
    try:
        compile_schema(content)
    except SchemaError as problem:
        assert problem.message
        assert problem.suggestion


KEYWORDS = [
    "type",
    "properties",
    "items",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "required",
    "default",
    "x-env",
    "x-secret",
    "x-complexity",
    "minimum",
    "pattern",
    "format",
    "$defs",
    "not",
    "additionalProperties",
]
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from(["object", "string", "#", "#/$defs/a", "A"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*KEYWORDS, "a", "b"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b"]), anything, min_size=1),
    st.dictionaries(st.sampled_from(KEYWORDS), anything, max_size=2),
)
def test_any_json_is_a_schema_or_a_told_problem(properties, more):
    try:
        it = from_schema({"type": "object", "properties": properties, **more})
    except SchemaError as problem:
        assert problem.suggestion
    else:
        it.check(it.effective({"a": 1}))
        it.schema()
