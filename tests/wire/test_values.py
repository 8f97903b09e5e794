"""What JSON means: read strictly, and checked when written so that no parser reads something else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_daemon.wire import values
from config_daemon.wire.sealing import canonical
from config_daemon.wire.values import MAX_DEPTH, MAX_INTEGER, MAX_KEYS, BadJson, end_of_value, parse, problems

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PORTABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def codes(value: Any) -> list[tuple[str, str]]:
    found = problems(value)
    assert all(problem.suggestion and problem.message for problem in found)
    return [(problem.failed_field, problem.error_code) for problem in found]


@given(PORTABLE)
def test_what_may_be_written_is_read_as_it_was(value: Any) -> None:
    assert problems(value) == ()
    assert parse(canonical(value)) == value
    assert parse(canonical(value).decode()) == value
    assert canonical(parse(canonical(value))) == canonical(value)  # 1, 1.0 and True stay three things


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":1} x',
        b'{"a":1,}',
        b"[1,]",
        b"{'a':1}",
        b"{a:1}",
        b'{"a" 1}',
        b"{1:2}",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"1e",
        b"0x10",
        b"1_000",
        b"True",
        b"nul",
        b"// x\n1",
        b'"a\nb"',
        b'"\x00"',
        b'"\\x41"',
        b'"\\u12"',
        b'"\\u+123"',
        b"\xef\xbb\xbf{}",
        b'{"a":1}\0',
        "\u00a01".encode(),
    ],
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(BadJson):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"b":2,"a":3}',
        b'[{"x":{"a":{},"a":{}}}]',
        b'{"a":1,"\\u0061":2}',
        b'{"\xc3\xbc":1,"\\u00fc":2}',
        b'{"":1,"":2}',
    ],
)
def test_a_key_that_stands_twice_is_refused_and_named(text: bytes) -> None:
    with pytest.raises(BadJson, match="stands twice"):
        parse(text)


def test_keys_that_only_look_alike_are_two_keys() -> None:
    assert len(parse('{"ü":1,"u\u0308":2,"U\u0308":3}')) == 3


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e999999999", "9" * 400 + ".0"]
)
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    for text in (number, f'{{"a":{number}}}', f"[[{number}]]"):
        with pytest.raises(BadJson):
            parse(text)


def test_the_ends_of_binary64_are_read() -> None:
    assert parse("[1.7976931348623157e308,5e-324,-0.0,1e-400]") == [
        math.ldexp(2 - 2**-52, 1023),
        5e-324,
        0.0,
        0.0,
    ]


@pytest.mark.timeout(10)
def test_a_number_of_a_million_digits_costs_no_time() -> None:
    with pytest.raises(BadJson):
        parse(b"9" * 1_000_000)
    with pytest.raises(BadJson):
        parse(b'{"a":[1,-%s]}' % (b"8" * 1_000_000))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":[', b'{"a":1,"b":'])
@pytest.mark.parametrize("levels", [2_000, 100_000, 500_000])
def test_deep_nesting_is_refused_and_never_a_recursion_error(opening: bytes, levels: int) -> None:
    with pytest.raises(BadJson):
        parse(opening * levels)
    assert end_of_value((opening * levels).decode()) is None


def test_closed_deep_nesting_is_refused_as_well() -> None:
    with pytest.raises(BadJson, match="deep"):
        parse(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.timeout(10)
def test_many_small_things_are_read_in_bounded_time() -> None:
    assert len(parse(b"[" + b"{}," * 300_000 + b"1]")) == 300_001
    keys = b",".join(b'"%d":0' % number for number in range(100_000))
    assert len(parse(b"{" + keys + b"}")) == 100_000
    with pytest.raises(BadJson, match="'0' stands twice"):
        parse(b"{" + keys + b',"0":0}')


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b'"\xc3"',
        b'"\xc0\x80"',  # an overlong zero
        b'"\xed\xa0\x80"',  # a surrogate in CESU-8
        b'"\xf4\x90\x80\x80"',  # beyond U+10FFFF
        '"ü"'.encode("latin-1"),
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-32-le"),
    ],
)
def test_bytes_that_are_no_utf8_are_refused(text: bytes) -> None:
    with pytest.raises(BadJson):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud800"',
        '"\\udfff"',
        '"\\uD83C"',
        '"\\udf99\\ud83c"',
        '{"\\ud800":1}',
        '[{"a":{"b":["x\\udc00"]}}]',
        '"\ud800"',
    ],
)
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(text: str) -> None:
    with pytest.raises(BadJson) as refused:
        parse(text)
    str(refused.value).encode()  # the refusal itself can be logged
    if text.isascii():
        with pytest.raises(BadJson):
            parse(text.encode())


def test_escapes_that_make_whole_characters_are_read() -> None:
    assert parse(b'"\\ud83c\\udf99\\u0000\\\\ud800\\/"') == "\U0001f399\0\\ud800/"


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("{}", 2),
        ('{"a":1},"b":2}', 7),
        ('"a\\"b",', 6),
        ("12,3", 2),
        ("[[],{}]]", 7),
        ("null}", 4),
        (" {}", None),
        ("", None),
        (",", None),
        ("{", None),
        ('"abc', None),
    ],
)
def test_one_value_ends_where_it_ends(text: str, end: int | None) -> None:
    assert end_of_value(text) == end


@given(PORTABLE, TEXT)
def test_the_end_is_found_whatever_follows(value: Any, rest: str) -> None:
    text = canonical(value).decode()
    assert end_of_value(text + "," + rest) == len(text)


@pytest.mark.parametrize(
    ("value", "field", "code"),
    [
        ({"a": {"b": MAX_INTEGER + 1}}, "a.b", "INTEGER_TOO_LARGE"),
        ({"a": [0, -MAX_INTEGER - 1]}, "a[1]", "INTEGER_TOO_LARGE"),
        ({"a": 10**400}, "a", "INTEGER_TOO_LARGE"),
        ({"a": math.nan}, "a", "NOT_FINITE"),
        ({"a": -math.inf}, "a", "NOT_FINITE"),
        ({"a": "x\ud800"}, "a", "LONE_SURROGATE"),
        ({"a": b"x"}, "a", "NOT_JSON"),
        ({"a": {1, 2}}, "a", "NOT_JSON"),
        ({"a": {7: 1}}, "a.7", "NOT_JSON"),
    ],
)
def test_what_parsers_disagree_about_is_named_with_its_place(value: Any, field: str, code: str) -> None:
    assert codes(value) == [(field, code)]


def test_a_key_with_half_a_pair_is_reported_in_text_that_can_be_shown() -> None:
    (problem,) = problems({"a": {"\ud800": 1}})
    assert problem.error_code == "LONE_SURROGATE"
    json.dumps(problem.as_dict(), ensure_ascii=False).encode()


def test_a_key_that_is_no_text_is_called_that() -> None:
    (problem,) = problems({1: "a"})
    assert "no text" in problem.message
    assert "surrogate" not in problem.message


def test_every_problem_is_told_at_once() -> None:
    value = {"a": math.nan, "b": [10**20, "\udfff"], "c": "fine"}
    assert sorted(codes(value)) == [
        ("a", "NOT_FINITE"),
        ("b[0]", "INTEGER_TOO_LARGE"),
        ("b[1]", "LONE_SURROGATE"),
    ]


def test_the_depth_limit_is_exact() -> None:
    assert codes(nested(MAX_DEPTH - 1)) == []
    assert [code for _, code in codes(nested(MAX_DEPTH))] == ["TOO_DEEP"]


def test_the_key_limit_is_exact() -> None:
    half = {f"k{number}": number for number in range(MAX_KEYS // 2)}
    assert codes([half, dict(half)]) == []
    assert [code for _, code in codes([half, half, {"one": 1}])] == ["TOO_MANY_KEYS"]


@pytest.mark.timeout(10)
def test_values_without_end_are_reported_and_not_followed() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert [code for _, code in codes({"a": endless})] == ["TOO_DEEP"]
    assert [code for _, code in codes(nested(100_000))] == ["TOO_DEEP"]


def test_the_limits_of_both_ends_fit() -> None:
    """Whatever `problems` lets pass can be read back, at the very limits."""
    value = {"deep": nested(MAX_DEPTH - 2), "numbers": [MAX_INTEGER, -MAX_INTEGER, 1.7976931348623157e308]}
    assert values.problems(value) == ()
    assert parse(canonical(value)) == value
