"""Reading and changing values: get, set, unset, services, and who may not."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli, Daemon


def test_set_creates_then_changes_and_get_tells_the_sources(cli: Cli) -> None:
    first = cli.json("set", "stt-worker", "vad_threshold=0.6", "whisper_model=small.en")
    assert (first["config_version"], first["stored"]) == (1, True)
    assert first["changed"]["whisper_model"] == {"before": None, "after": '"small.en"'}
    line = cli.dotenv("STT_WORKER__SAMPLE_RATE=8000")
    shown = cli.json("get", "stt-worker", "--source")
    assert shown["config"]["vad_threshold"] == 0.6
    assert shown["sources"]["vad_threshold"] == "database"
    assert shown["sources"]["channels"] == "default"
    assert shown["sources"]["sample_rate"] == f"env ({cli.files.environment}:{line})"
    assert shown["config"]["sample_rate"] == 8000
    assert shown["state"] == "unpublished"


def test_one_value_is_printed_bare(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "whisper_model=small.en", "vad_threshold=0.25")
    assert cli.ok("get", "stt-worker", "whisper_model").out == "small.en\n"
    assert cli.ok("get", "stt-worker", "vad_threshold").out == "0.25\n"
    assert cli.ok("get", "stt-worker", "streaming_partials").out == "false\n"
    assert cli.json("get", "stt-worker", "ws_url") == {
        "service": "stt-worker",
        "key": "ws_url",
        "value": None,
    }


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text=0.5", "0.5"),
        ("text=", ""),
        ("text= a=b ", " a=b "),
        ('text:="0.5"', "0.5"),
        ("note=null", "null"),
        ("note:=null", None),
        ("free:={}", {}),
        ('free:={"a":[1,{"b":null}]}', {"a": [1, {"b": None}]}),
        ("text=é\u202e\x1b[31m", "é\u202e\x1b[31m"),
    ],
)
def test_a_value_is_read_by_its_fields_type(blob: Cli, word: str, value: object) -> None:
    blob.ok("set", "blob", word)
    assert list(blob.stored("blob").values()) == [value]


def test_dots_lead_into_objects(blob: Cli) -> None:
    blob.ok("set", "blob", "free.a.b=1", "free.c=text")
    assert blob.stored("blob") == {"free": {"a": {"b": 1}, "c": "text"}}
    assert blob.json("get", "blob", "free.a")["value"] == {"b": 1}
    assert blob.ok("get", "blob", "free.a.b").out == "1\n"
    blob.ok("unset", "blob", "free.a.b")
    assert blob.stored("blob") == {"free": {"c": "text"}}
    blob.ok("unset", "blob", "free")
    assert blob.stored("blob") == {}


def test_a_value_comes_from_a_file_or_from_standard_input(blob: Cli) -> None:
    file = blob.folder / "text"
    file.write_bytes(b"two\r\nlines\n")
    blob.ok("set", "blob", f"text=@{file}", "free:=@-", text='{"a": 1}\n')
    assert blob.stored("blob") == {"text": "two\r\nlines", "free": {"a": 1}}
    blob.ok("set", "blob", 'text:="@file"')
    assert blob.stored("blob")["text"] == "@file"


def test_setting_what_is_so_makes_no_version(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    again = cli.ok("set", "stt-worker", "channels=2")
    assert "already so, at version 1" in again.out
    assert cli.json("set", "stt-worker", "channels=2")["stored"] is False


def test_a_dry_run_checks_everything_and_stores_nothing(cli: Cli) -> None:
    planned = cli.json("set", "stt-worker", "channels=2", "--dry-run")
    assert (planned["config_version"], planned["stored"]) == (1, False)
    assert cli("get", "stt-worker").code == 5
    assert cli("set", "stt-worker", "channels=3", "--dry-run").code == 1


def test_unset_lets_the_default_hold_again(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2", "vad_threshold=0.9")
    done = cli.json("unset", "stt-worker", "channels")
    assert done["changed"] == {"channels": {"before": "2", "after": None}}
    assert cli.json("get", "stt-worker", "channels")["value"] == 1
    assert "already so, at version 2" in cli.ok("unset", "stt-worker", "channels").out
    assert cli.version("stt-worker") == 2


def test_unset_takes_all_keys_or_none_and_makes_no_service(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    refused = cli("unset", "stt-worker", "channels", "chanels")
    assert refused.code == 5
    assert "Did you mean 'channels'?" in refused.err
    assert cli.stored("stt-worker") == {"channels": 2}
    assert cli("unset", "router", "router_stream_min_chars").code == 5
    assert [row["service"] for row in cli.json("services")] == ["stt-worker"]


def test_services_lists_what_has_a_config_and_with_all_the_rest(cli: Cli) -> None:
    assert cli.json("services") == []
    cli.ok("set", "stt-worker", "channels=2")
    cli.ok("set", "router", "router_stream_min_chars=9")
    cli.ok("delete", "router", "--yes")
    [row] = cli.json("services")
    assert (row["service"], row["config_version"], row["state"]) == ("stt-worker", 1, "unpublished")
    assert row["updated_by"].startswith("cli:")
    states = {row["service"]: row["state"] for row in cli.json("services", "--all")}
    assert states["router"] == "deleted"
    assert states["tts-worker"] == "no config"
    assert states["stt-worker"] == "unpublished"


def test_services_says_which_config_would_not_be_published(blob: Cli) -> None:
    blob.ok("set", "blob", "text=a")
    blob.ok("set", "stt-worker", "stt_backend=ws")
    (blob.files.schemas / "blob.schema.json").unlink()
    states = {row["service"]: row["state"] for row in blob.json("services")}
    assert states == {"blob": "definition-missing", "stt-worker": "incomplete"}


def test_what_a_living_daemon_says_is_shown(cli: Cli, daemon: Daemon) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    daemon.publishes("stt-worker", 1, {"channels": 2, "told": "by the daemon"})
    shown = cli.json("get", "stt-worker")
    assert (shown["state"], shown["config"]["told"]) == ("confirmed", "by the daemon")
    assert "note" not in shown
    assert [row["state"] for row in cli.json("services")] == ["confirmed"]


def test_who_sets_a_value_sees_it_at_once_though_the_daemon_lags(cli: Cli, daemon: Daemon) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    daemon.publishes("stt-worker", 1, {"channels": 2})
    cli.ok("set", "stt-worker", "channels=1")
    shown = cli.json("get", "stt-worker")
    assert (shown["config_version"], shown["state"], shown["config"]["channels"]) == (2, "in-flight", 1)
    assert [row["state"] for row in cli.json("services")] == ["in-flight"]


def test_get_of_a_key_without_a_value_says_so(blob: Cli) -> None:
    blob.ok("set", "blob", "note=a")
    missing = blob("get", "blob", "text")
    assert (missing.code, "has no value at 'text'" in missing.err) == (5, True)
    wrong = blob("get", "blob", "nte")
    assert (wrong.code, "Did you mean 'note'?" in wrong.err) == (5, True)
    assert blob("get", "blob", "note.deeper").code == 5


def test_the_actor_is_the_user_and_not_what_the_environment_says(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    cli.ok("set", "stt-worker", "channels=2")
    assert "somebody-else" not in cli.json("history", "stt-worker")[0]["by"]


def test_search_finds_by_name_description_help_and_service(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "vad_threshold=0.6")
    [hit] = cli.json("search", "voice detector")
    assert (hit["service"], hit["key"], hit["value"]) == ("stt-worker", "vad_threshold", "0.6")
    assert {hit["key"] for hit in cli.json("search", "LARGER models hear")} == {"whisper_model"}
    assert {hit["service"] for hit in cli.json("search", "stt-worker")} == {"stt-worker"}
    assert cli.json("search", "no such thing anywhere") == []


def test_search_hides_advanced_keys_unless_named_exactly(cli: Cli) -> None:
    hidden = cli.ok("search", "silence", "--service", "stt-worker")
    assert hidden.out == ""
    assert "--advanced" in hidden.err
    assert [h["key"] for h in cli.json("search", "silence", "--advanced")] == ["vad_silence_duration_ms"]
    assert [h["key"] for h in cli.json("search", "vad_silence_duration_ms")] == ["vad_silence_duration_ms"]


def test_search_takes_types_and_empty_text(cli: Cli) -> None:
    floats = cli.json("search", "", "--service", "stt-worker", "--type", "float", "--advanced")
    assert [hit["key"] for hit in floats] == ["vad_threshold"]
    everything = cli.json("search", "", "--advanced")
    assert len({hit["service"] for hit in everything}) == 9


def test_search_never_shows_a_secret(blob: Cli) -> None:
    [hit] = blob.json("search", "key", "--service", "blob")
    assert (hit["type"], hit["value"]) == ("secret", None)


def test_settings_are_shown_with_their_sources_and_without_passwords(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_URL", "mqtts://daemon:hunter2@broker.example:8883")
    cli.dotenv("CONFIG_DAEMON_LOG_LEVEL=debug")
    (cli.folder / "config-daemon.toml").write_text("CONFIG_DAEMON_POLL_SECONDS = 0.5\n")
    shown = {each["name"]: each for each in cli.json("settings", "show")}
    assert shown["MQTT_URL"]["value"] == "mqtts://broker.example:8883"
    assert shown["MQTT_URL"]["source"] == "the environment"
    assert (shown["CONFIG_DAEMON_LOG_LEVEL"]["value"], shown["CONFIG_DAEMON_LOG_LEVEL"]["source"]) == (
        "debug",
        ".env",
    )
    poll = shown["CONFIG_DAEMON_POLL_SECONDS"]
    assert (poll["value"], poll["unit"], poll["source"]) == (0.5, "seconds", "config-daemon.toml")
    assert shown["CONFIG_DB_PATH"]["value"] == str(cli.files.database)
    assert all(each["meaning"] for each in shown.values())
    assert "hunter2" not in cli.ok("settings", "show").out


def test_the_public_key_is_printed_as_pem_and_hex(cli: Cli) -> None:
    facts = cli.json("keys", "public")
    assert cli.ok("keys", "public").out == facts["pem"]
    assert facts["pem"].startswith("-----BEGIN PUBLIC KEY-----\n")
    assert cli.ok("keys", "public", "--hex").out.strip() == facts["hex"]
    assert len(bytes.fromhex(facts["hex"])) == 32
