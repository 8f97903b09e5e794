"""A config becomes a file that says the same, or none at all."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from config_daemon.agent.render import Config, check_template, rendered
from config_daemon.errors import InvalidConfig

VALUES: dict[str, Any] = {
    "text": "no", "time": "12:30", "small": 1e-05, "large": 1e22,
    "count": 3, "on": True, "list": [1, [0.5, "y"], {"a": 1}],
    "nested": {"two words": "ü\n\u0085", "yes": [], "deep": {"x": -1}},
}  # fmt: skip


def config(values: dict[str, Any]) -> Config:
    return Config("stt-worker", 7, values)


def template(folder: Path, text: str) -> str:
    (folder / "app.j2").write_text(text)
    return str(folder / "app.j2")


def test_json_says_the_same() -> None:
    assert json.loads(rendered("json", config({**VALUES, "none": None}))) == {**VALUES, "none": None}


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_yaml_says_the_same_to_readers_of_both_versions(version: str) -> None:
    reader = YAML(typ="safe", pure=True)
    reader.version = version
    read = reader.load(rendered("yaml", config({**VALUES, "none": None})).decode())
    assert json.dumps(read) == json.dumps({**VALUES, "none": None}), "types too"


def test_toml_says_the_same_but_for_null() -> None:
    assert tomllib.loads(rendered("toml", config({**VALUES, "none": None})).decode()) == VALUES
    with pytest.raises(InvalidConfig, match=r"nested\.list is a list with null"):
        rendered("toml", config({"nested": {"list": [1, None]}}))


def test_a_template_has_the_values_by_name_and_its_last_newline(tmp_path: Path) -> None:
    (tmp_path / "head.j2").write_text("# {{ service }} {{ version }}\n")
    source = template(
        tmp_path,
        "{% include 'head.j2' %}url={{ url }}\nodd={{ config['two words'] }} {{ nested.deep | tojson }}\n",
    )
    text = rendered(source, config({"url": "a&b<c>", "two words": 1, "nested": {"deep": [True]}})).decode()
    assert text == "# stt-worker 7\nurl=a&b<c>\nodd=1 [true]\n"


def test_a_template_can_quote_as_the_env_format_does(tmp_path: Path) -> None:
    assert rendered(template(tmp_path, "X={{ x | env }}"), config({"x": "a b"})) == b"X='a b'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ missing }}", "'missing' is undefined"),
        ("{{ nested.missing }}", "missing"),
        ("{% if missing %}x{% endif %}", "'missing' is undefined"),
        ("{{ open", "line 1"),
        ("\n{{ xs }}", "line 2: 'xs' is undefined"),
        ("\n{{ x / 2 }}", "line 2: an expression with x ends in TypeError"),
        ("{{ x | int(base='a') }}{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% include 'other.j2' %}", "there is no file other.j2"),
        ("{# nothing #}\n \n", "empty file"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ x.append('secret') }}", "unsafe|safely|ndefined|attribute"),
    ],
)
def test_no_file_comes_of_a_template_that_does_not_fit(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidConfig, match=said) as refused:
        rendered(template(tmp_path, text), config({"x": ["secret"], "nested": {"a": 1}}))
    assert "secret" not in refused.value.message
    assert all(context.suggestion for context in refused.value.contexts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ table[mode] }}", "what an expression looks up is undefined"),
        ("{{ table['a'][mode] }}", "is undefined"),
        ("{% include mode %}", "there is no file"),
        ("{% include [mode, mode] %}", "there is no file"),
        ("{% from 'part.j2' import missing %}{{ missing }}", "is undefined"),
        ("{{ x|attr('_' ~ mode) }}", "is undefined"),
        ("{{ [1]|map(mode)|list }}", "TemplateRuntimeError"),
        ("{{ mode|int + mode }}", "TypeError"),
        ("{% for one in [mode] %}{{ one.missing }}{% endfor %}", "no attribute 'missing'"),
        ("{{ mode.format_map(table) }}", "KeyError"),
    ],
)
def test_no_message_repeats_a_value(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "part.j2").write_text("{% set x = 1 %}")
    with pytest.raises(InvalidConfig, match=said) as refused:
        rendered(template(tmp_path, text), config({"table": {"a": {}}, "mode": "hunter2{z}", "x": 1}))
    assert "hunter2" not in str(refused.value.contexts) + refused.value.message


@pytest.mark.parametrize("source", ["json", "yaml", "toml", "env"])
def test_an_empty_config_makes_no_file(source: str) -> None:
    with pytest.raises(InvalidConfig, match="no values"):
        rendered(source, config({}))


@pytest.mark.parametrize("source", ["toml", "env"])
def test_a_config_of_nulls_makes_no_file(source: str) -> None:
    with pytest.raises(InvalidConfig, match="empty file"):
        rendered(source, config({"a": None}))


def test_a_template_is_checked_without_values(tmp_path: Path) -> None:
    check_template("json")
    check_template(template(tmp_path, "{{ anything }}"))
    with pytest.raises(InvalidConfig, match="line 2"):
        check_template(template(tmp_path, "\n{% if %}"))
    with pytest.raises(InvalidConfig, match=r"there is no file nowhere\.j2"):
        check_template(str(tmp_path / "nowhere.j2"))
    with pytest.raises(InvalidConfig, match=r"no format 'xml' \(env, json, yaml, toml\) and no file"):
        check_template(str(tmp_path / "xml"))


def test_a_misspelt_key_is_told_with_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as refused:
        rendered(template(tmp_path, "{{ vad_treshold }}"), config({"vad_threshold": 0.5}))
    assert refused.value.suggestion.startswith("Did you mean vad_threshold?")


def test_of_an_included_template_that_fails_the_line_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "part.j2").write_text("\n\n{{ x + 1 }}")
    with pytest.raises(InvalidConfig, match=r"part\.j2, line 3: an expression with x ends in TypeError"):
        rendered(template(tmp_path, "{% include 'part.j2' %}"), config({"x": "secret"}))
