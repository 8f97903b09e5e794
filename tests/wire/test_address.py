"""Broker addresses: read as people write them, and silent about passwords."""

from __future__ import annotations

import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_daemon.errors import SettingsError
from config_daemon.wire.address import BrokerAddress

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", BrokerAddress("mqtt", "broker", 1883)),
        ("mqtts://broker", BrokerAddress("mqtts", "broker", 8883)),
        ("ws://broker/mqtt", BrokerAddress("ws", "broker", 80, path="/mqtt")),
        ("wss://broker", BrokerAddress("wss", "broker", 443)),
        ("MQTT://Broker.Example:1884/", BrokerAddress("mqtt", "broker.example", 1884)),
        ("mqtt://10.0.0.7:1", BrokerAddress("mqtt", "10.0.0.7", 1)),
        ("mqtt://[fd00::7]:1884", BrokerAddress("mqtt", "fd00::7", 1884)),
        ("mqtt://me@broker", BrokerAddress("mqtt", "broker", 1883, "me")),
        ("mqtt://me:@broker", BrokerAddress("mqtt", "broker", 1883, "me", "")),
        ("mqtt://:pw@broker", BrokerAddress("mqtt", "broker", 1883, "", "pw")),
        ("mqtt://a%40b:c%2Fd%3A%23@broker", BrokerAddress("mqtt", "broker", 1883, "a@b", "c/d:#")),
        ("mqtt://a:b@c@broker", BrokerAddress("mqtt", "broker", 1883, "a", "b@c")),
    ],
)
def test_an_address_is_read_as_it_is_meant(url: str, expected: BrokerAddress) -> None:
    assert BrokerAddress.parse(url) == expected


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_user_and_password_pass_when_encoded(user: str, password: str) -> None:
    address = BrokerAddress.parse(f"mqtt://{quote(user, safe='')}:{quote(password, safe='')}@broker")
    assert (address.username, address.password, address.host) == (user, password, "broker")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker",
        "broker:1883",
        "//broker",
        "http://broker",
        "mqtt:broker",
        "mqtt://",
        "mqtt://me:pw@",
        "mqtt://:1883",
        "mqtt://broker:port",
        "mqtt://broker:65536",
        "mqtt://broker:-1",
        "mqtt://[fd00::7",
        "mqtt://broker?x=1",
        "mqtt://broker#x",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        BrokerAddress.parse(url)
    assert "mqtt://user:password@host:1883" in refused.value.suggestion
    assert refused.value.exit_code == 78


def test_port_zero_is_not_taken_for_the_default() -> None:
    assert BrokerAddress.parse("mqtt://broker:0").port == 0


def test_tls_and_transport_follow_from_the_scheme() -> None:
    found = {
        scheme: (address.secure, address.transport)
        for scheme in ("mqtt", "mqtts", "ws", "wss")
        for address in [BrokerAddress.parse(f"{scheme}://broker")]
    }
    assert found == {
        "mqtt": (False, "tcp"),
        "mqtts": (True, "tcp"),
        "ws": (False, "websockets"),
        "wss": (True, "websockets"),
    }


def test_an_address_prints_as_a_url_without_credentials() -> None:
    assert str(BrokerAddress.parse(f"mqtts://me:{SECRET}@broker:99")) == "mqtts://broker:99"
    assert str(BrokerAddress.parse("mqtt://[fd00::7]")) == "mqtt://[fd00::7]:1883"


def everything_said_about(url: str) -> str:
    """Whatever a log, a traceback or a person could get to see of this address or of its refusal."""
    try:
        address = BrokerAddress.parse(url)
    except SettingsError as error:
        chain = [error, error.__cause__, error.__context__]
        shown = "".join(repr(link) + str(link) for link in chain)
        return shown + error.suggestion + str(error.contexts) + "".join(traceback.format_exception(error))
    return f"{address} {address!r} {[address]}"


@pytest.mark.parametrize(
    "url",
    [
        f"mqtt://me:{SECRET}@broker",
        f"mqtt://me:{SECRET}",
        f"mqtt://me:{SECRET}@",
        f"mqtt://me:{SECRET}@broker:port",
        f"mqtt://me:{SECRET}@broker:99999",
        f"mqtt://me:{SECRET}@broker?x",
        f"mqtt://me:{SECRET}/@broker",
        f"mqtt://me:{SECRET}#@broker",
        f"mqtt://me:1883/{SECRET}@broker",
        f"mqtt://me:1883?{SECRET}@broker",
        f"mqtt://me:1883#{SECRET}@broker",
        f"mqtt://me:[{SECRET}@broker",
        f"mqtt://me:\u2100{SECRET}@broker",
        f"me:{SECRET}@broker",
        f"{SECRET}:me@broker",
        f"http://me:{SECRET}@broker",
    ],
)
def test_no_password_is_ever_shown(url: str) -> None:
    assert SECRET not in everything_said_about(url)


@given(st.text("/?#[]@:%\\ 1a\u2100\t", max_size=5), st.text("/?#[]@:%\\ 1a\u2100\t", max_size=5))
def test_no_password_is_shown_however_badly_it_is_encoded(before: str, after: str) -> None:
    assert SECRET not in everything_said_about(f"mqtt://me:{before}{SECRET}{after}@broker")
