"""Names and topics: no name reaches into another one's topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_daemon.errors import UsageError
from config_daemon.wire.topics import Topics, is_name, is_service

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,63}", fullmatch=True)
NOT_NAMES = [
    "",
    "a" * 65,
    "A",
    "1a",
    "-a",
    "a_b",
    "a.b",
    "a b",
    "a/b",
    "../a",
    "+",
    "#",
    "a+",
    "$sys",
    "ä",
    "a\n",
    "a\0",
    "\u0430",  # a Cyrillic a
    "a\u0661",  # an Arabic digit
]


@given(NAMES.filter(lambda name: name != "keyring"))
def test_a_service_is_found_again_in_its_topic(name: str) -> None:
    for prefix in ("system", "site/42/config"):
        topics = Topics(prefix)
        assert topics.service_of(topics.config(name)) == name
        assert topics.service_of(topics.health(name)) is None


@pytest.mark.parametrize("name", NOT_NAMES)
def test_what_is_no_name_makes_no_topic(name: str) -> None:
    assert not is_name(name)
    assert not is_service(name)
    for make in (Topics().config, Topics().health):
        with pytest.raises(UsageError) as refused:
            make(name)
        assert refused.value.exit_code == 2
    assert Topics().service_of(f"system/config/{name}") is None


def test_the_longest_name_is_a_name() -> None:
    assert is_service("a" * 64)
    assert Topics().config("a" * 64).endswith("/" + "a" * 64)


def test_keyring_names_no_service_but_may_name_a_daemon() -> None:
    assert is_name("keyring")
    assert not is_service("keyring")
    assert Topics().service_of("system/config/keyring") is None
    with pytest.raises(UsageError):
        Topics().config("keyring")
    assert Topics().health("keyring") == "system/health/keyring"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "stt-worker",
        "/stt-worker",
        "config/stt-worker",
        "system/config/",
        "system/config",
        "system/config/a/b",
        "system/config//stt-worker",
        "system/Config/stt-worker",
        "other/config/stt-worker",
        "system/system/config/stt-worker",
        "system/config/stt-worker/candidate",
        "system/health/stt-worker",
        "$SYS/config/stt-worker",
    ],
)
def test_any_other_topic_belongs_to_no_service(topic: str) -> None:
    assert Topics().service_of(topic) is None


def test_the_filters_match_one_level_below_the_prefix() -> None:
    topics = Topics("home")
    assert (topics.every_config, topics.every_health) == ("home/config/+", "home/health/+")
    assert topics.config("tts") == "home/config/tts"
    assert topics.health("config-daemon") == "home/health/config-daemon"
