"""Values as text: whatever can be stored is written so that it reads back exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config_daemon.catalog.registered import shipped
from config_daemon.catalog.schema_file import compile_schema
from config_daemon.catalog.service import ServiceDefinition
from config_daemon.catalog.services import SHIPPED
from config_daemon.cli.env_text import env_lines
from config_daemon.cli.printing import visible
from config_daemon.cli.yaml_reading import load_all
from config_daemon.core.paths import put
from config_daemon.errors import InvalidConfig
from config_daemon.store.dotenv import parse
from config_daemon.yaml_writing import lines_of
from tests.cli.conftest import BLOB

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
DEFINITION = ServiceDefinition("blob", compile_schema(json.dumps(BLOB).encode()))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=4))
def test_yaml_gives_every_json_value_back(values: dict[str, Any]) -> None:
    text = "\n".join(lines_of(values)) + "\n"
    assert json.dumps(load_all(text)) == json.dumps([values])
    assert all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize(
    "name",
    [
        "yes",
        "no",
        "on",
        "null",
        "~",
        "1",
        "1.5",
        "a b",
        "#a",
        "-",
        "?",
        "é",
        "true",
        "",
        "a: b",
        ".nan",
        "0x1",
    ],
)
def test_no_name_is_taken_for_something_else(name: str) -> None:
    assert load_all("\n".join(lines_of({name: name}))) == [{name: name}]


def read_back(definition: ServiceDefinition, lines: list[str]) -> dict[str, Any]:
    names = {
        f"{definition.service}__{key}".upper().replace("-", "_").replace(".", "_"): key
        for key in definition.fields
    }
    values: dict[str, Any] = {}
    for entry in parse("\n".join(lines), Path("x.env")).entries.values():
        put(values, names[entry.name], definition.coerce(names[entry.name], entry.value))
    return values


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={"text": TEXT, "note": TEXT | st.none(), "free": st.dictionaries(TEXT, VALUES, max_size=3)},
    )
)
def test_env_lines_give_exactly_the_values_back_or_are_refused(values: dict[str, Any]) -> None:
    try:
        lines = env_lines(DEFINITION, values)
    except InvalidConfig as error:
        assert {context.error_code for context in error.contexts} == {"NOT_IN_ENV"}
        assert values.get("note", "") is None or "\0" in json.dumps(values, ensure_ascii=False).replace(
            "\\u0000", "\0"
        )
    else:
        assert json.dumps(read_back(DEFINITION, lines), sort_keys=True) == json.dumps(values, sort_keys=True)


@pytest.mark.parametrize("service", sorted(SHIPPED))
def test_the_example_of_every_shipped_service_survives_a_dotenv(service: str) -> None:
    definition = shipped(service)
    example = {
        k: v
        for k, v in definition.schema()["examples"][0].items()
        if not (k in definition.fields and definition.fields[k].is_secret)
    }
    try:
        lines = env_lines(definition, example)
    except InvalidConfig as error:
        for context in error.contexts:
            assert definition.fields[context.failed_field].nullable
    else:
        assert read_back(definition, lines) == example


@given(st.text(max_size=30))
def test_what_is_shown_is_printable_and_one_line(text: str) -> None:
    assert visible(text).isprintable()
    assert visible(text) == text or not text.isprintable()
