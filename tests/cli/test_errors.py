"""Every mistake is answered with what is wrong, how to mend it, and its exit code."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Cli, Daemon, call, refused


def test_an_unknown_service_gets_a_suggestion(cli: Cli) -> None:
    for words in (
        ["get"],
        ["history"],
        ["unset", "x"],
        ["set", "x=1"],
        ["delete", "--yes"],
        ["edit"],
        ["adopt"],
        ["diff"],
        ["export"],
    ):
        command, *rest = words
        refused(cli(command, "stt-workr", *rest), 5, "'stt-workr'", "Did you mean 'stt-worker'?")
    refused(cli("get", "stt-workr"), 5, "there is no service 'stt-workr'", "Did you mean 'stt-worker'?")
    error = cli("set", "stt-workr", "x=1", "--json").error
    assert (error["error"], error["exit_code"]) == ("NOT_FOUND", 5)
    assert error["errors"][0]["suggestion"] == "Did you mean 'stt-worker'?"
    for far in ("zzz", "nothere"):
        result = cli("get", far)
        refused(result, 5, "Defined are: agent-worker", "`config-daemon services --all`")
        assert "Did you mean" not in result.err
    refused(cli("get", "agent"), 5, "Did you mean 'agent-worker'?")


def test_unknown_keys_get_suggestions_all_at_once(cli: Cli) -> None:
    result = cli("set", "stt-worker", "vad_treshold=1", "chanels=2", "channels=2")
    refused(result, 5, "Did you mean 'vad_threshold'?", "Did you mean 'channels'?")
    assert cli("set", "stt-worker", "vad_treshold=1", "chanels=2", "--json").codes == {
        "vad_treshold": "UNKNOWN_KEY",
        "chanels": "UNKNOWN_KEY",
    }


def test_a_key_that_is_like_no_other_gets_no_suggestion_but_the_way_to_all(cli: Cli) -> None:
    refused(cli("history", "stt-worker", "vad_treshold"), 5, "Did you mean 'vad_threshold'?")
    result = cli("set", "agent-worker", "colour=1")
    refused(result, 5, "config-daemon search '' --service agent-worker --advanced")
    assert "Did you mean" not in result.err


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("channels=1.5", "stt-worker: channels must be a whole number from 1 to 2, not '1.5'; nothing"),
        ("channels=stereo", "stt-worker: channels must be a whole number from 1 to 2, not 'stereo'; nothing"),
        ("channels={", "stt-worker: channels must be a whole number from 1 to 2, not '{'; nothing"),
        ("channels=", "stt-worker: channels must be a whole number from 1 to 2, not ''; nothing"),
        ("channels=" + "9" * 5000, "stt-worker: channels must be a whole number from 1 to 2, not '9999"),
        ("channels:=stereo", "stt-worker: channels := 'stereo' is not JSON from character 1 on; nothing"),
        ('channels:={"a":}', "is not JSON from character 6 on"),
        ("channels:=", "stt-worker: channels := '' is not JSON, because nothing is there; nothing"),
        ("channels:=" + "9" * 5000, "is not JSON: a number in it has too many digits; nothing"),
        ("channels:=NaN", "is not JSON: NaN"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(cli: Cli, word: str, told: str) -> None:
    result = cli("set", "stt-worker", word)
    refused(result, 1, told)
    for jargon in ("Expecting", "char 0", "column", "sys.set_int", "Exceeds"):
        assert jargon not in result.err


def test_a_password_inside_a_wrong_value_is_not_repeated(cli: Cli) -> None:
    for more in ([], ["--json"]):
        result = cli("set", "stt-worker", "channels=mqtt://me:hunter2@host", *more)
        assert result.code == 1
        assert "hunter2" not in result.err
        assert "mqtt://***@host" in result.err


def test_a_file_that_is_not_json_is_told_with_its_place(cli: Cli) -> None:
    (cli.folder / "fleet.json").write_text('{"stt-worker":\n  {channels: 2}}')
    result = cli("apply", str(cli.folder / "fleet.json"))
    refused(result, 1, "fleet.json is not JSON from line 2, column 4 on")
    assert "Expecting" not in result.err


def test_one_is_one_and_not_ones(cli: Cli) -> None:
    cli.ok("set", "stt-worker", "channels=2")
    assert "with 1 set value?" in cli("delete", "stt-worker", text="n\n").err
    assert cli.ok("adopt", "--db", "--yes").out.endswith(", 1 service\n")
    passed = cli("import", "-", "--format", "env", text="MQTT_URL=mqtt://a\nSTT_WORKER__CHANNELS=1\n")
    assert "passed over 1 setting of config-daemon itself\n" in passed.err


def test_wrong_types_and_ranges_are_told_all_at_once(cli: Cli) -> None:
    words = [
        "vad_threshold=abc",
        "channels=9",
        "sample_rate=1.5",
        "stt_backend=tape",
        "streaming_partials=perhaps",
    ]
    result = cli("set", "stt-worker", *words, "whisper_model=fine", "--json")
    assert result.code == 1
    assert result.codes == {
        "vad_threshold": "WRONG_TYPE",
        "channels": "OUT_OF_RANGE",
        "sample_rate": "WRONG_TYPE",
        "stt_backend": "NOT_ALLOWED_VALUE",
        "streaming_partials": "WRONG_TYPE",
    }
    assert all(each["suggestion"] for each in result.error["errors"])
    refused(cli("set", "stt-worker", *words), 1, "nothing was stored", "vad_threshold", "channels")
    assert cli.json("services") == []


def test_a_stale_version_is_a_conflict_that_tells_the_current_one(cli: Cli) -> None:
    refused(cli("set", "stt-worker", "channels=2", "--expect-version", "1"), 3, "does not exist")
    cli.ok("set", "stt-worker", "channels=2", "--expect-version", "0")
    cli.ok("set", "stt-worker", "channels=1", "--expect-version", "1")
    result = cli("set", "stt-worker", "channels=2", "--expect-version", "1", "--json")
    assert result.code == 3
    assert (result.error["expected_version"], result.error["current_version"]) == (1, 2)
    refused(
        cli("unset", "stt-worker", "channels", "--expect-version", "1"),
        3,
        "at version 2",
        "--expect-version 2",
    )


def test_a_value_that_env_fixes_is_refused_with_file_and_line(cli: Cli) -> None:
    line = cli.dotenv("STT_WORKER__CHANNELS=2")
    place = f"{cli.files.environment}:{line}"
    refused(cli("set", "stt-worker", "channels=1"), 4, f"channels is fixed by {place}")
    assert cli("set", "stt-worker", "channels=1", "--json").error["error"] == "FIXED_BY_ENV"
    cli.ok("set", "stt-worker", "vad_threshold=0.1")
    refused(cli("apply", "-", text='{"stt-worker": {"channels": 1}}'), 4, place)
    cli.ok("set", "router", "router_stream_min_chars=9")
    cli.dotenv("ROUTER__ROUTER_STREAM_MIN_CHARS=7")
    refused(cli("set", "router", "router_stream_min_chars=9"), 4, "fixed by")
    assert cli.json("get", "stt-worker", "channels", "--source")["source"] == f"env ({place})"


def test_a_living_daemon_says_what_env_fixes(cli: Cli, daemon: Daemon) -> None:
    daemon.fixes("stt-worker", "channels", "/etc/elsewhere/.env", 7)
    refused(cli("set", "stt-worker", "channels=1"), 4, "fixed by /etc/elsewhere/.env:7")
    cli.ok("set", "stt-worker", "vad_threshold=0.1")


def test_an_object_that_env_gives_fixes_its_members(blob: Cli) -> None:
    blob.dotenv("BLOB__FREE={}")
    refused(blob("set", "blob", "free.deep.er=1"), 4, "fixed by")
    blob.ok("set", "blob", "note=a")


def test_an_env_file_that_contradicts_itself_is_told(blob: Cli) -> None:
    blob.dotenv("STT_WORKER__CHANNELS=2\nSTT_WORKER__CHANNELS=1")
    refused(blob("set", "blob", "note=a"), 78, "line")


def test_a_secret_is_refused_and_not_repeated(blob: Cli) -> None:
    result = blob("set", "blob", "key=hunter2", "--json")
    assert (result.code, result.error["error"]) == (4, "SECRET_FIELD")
    assert "hunter2" not in result.err + result.out
    refused(blob("apply", "-", text='{"blob": {"key": "hunter2"}}'), 4, "secret")


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("free:=NaN", "BAD_JSON"),
        ("free:=[Infinity]", "BAD_JSON"),
        ("free:=1e999", "BAD_JSON"),
        ("free:=", "BAD_JSON"),
        ('free:={"a":1,"a":2}', "BAD_JSON"),
        ('free:={"a":"\\ud800"}', "BAD_JSON"),
        ("free:=" + "9" * 5000, "BAD_JSON"),
        ('free:={"n":1152921504606846976}', "INTEGER_TOO_LARGE"),
        ("text=\udcff", "LONE_SURROGATE"),
        ("text:=7", "WRONG_TYPE"),
        ('free:={"a":' + "[" * 32 + "]" * 32 + "}", "TOO_DEEP"),
        ("free:=" + "[" * 100_000, "BAD_JSON"),
        ('free:={"a.b":1}', "UNKNOWN_KEY"),
        ('free:={"":1}', "UNKNOWN_KEY"),
        ("free:=7", "WRONG_TYPE"),
    ],
)
def test_what_no_config_may_hold_is_refused(blob: Cli, word: str, code: str) -> None:
    result = blob("set", "blob", word, "--json")
    assert result.code == 1
    assert code in {each["error_code"] for each in result.error["errors"]}, result.err
    assert blob.json("services") == []


def test_what_a_config_may_just_hold_is_kept(blob: Cli) -> None:
    deepest = json.loads('{"a":' + "[" * 29 + "]" * 29 + "}")
    blob.ok("set", "blob", f"free:={json.dumps(deepest)}", "text=é\U0001f600")
    assert blob.stored("blob") == {"free": deepest, "text": "é\U0001f600"}
    blob.ok("set", "blob", 'free:={"n":9007199254740991}')


def test_a_config_of_300_kib_is_too_large(blob: Cli) -> None:
    (blob.folder / "big").write_text("x" * 300 * 1024)
    result = blob("set", "blob", f"text=@{blob.folder / 'big'}", "--json")
    assert (result.code, result.error["errors"][0]["error_code"]) == (1, "TOO_LARGE")
    (blob.folder / "big").write_text("x" * 200 * 1024)
    blob.ok("set", "blob", f"text=@{blob.folder / 'big'}")


def test_a_file_that_gives_no_value_is_told(blob: Cli) -> None:
    (blob.folder / "latin").write_bytes(b"caf\xe9")
    (blob.folder / "huge").write_bytes(b"x" * 1_100_000)
    refused(blob("set", "blob", f"text=@{blob.folder}/latin"), 2, "not UTF-8 at byte 3")
    refused(blob("set", "blob", f"text=@{blob.folder}/huge"), 2, "longer than")
    refused(blob("set", "blob", "text=@/nowhere/file"), 2, "/nowhere/file cannot be read: No such file")
    refused(blob("set", "blob", f"text=@{blob.folder}"), 2, "cannot be read")


def test_words_that_assign_nothing_are_told(blob: Cli) -> None:
    for word in ("", "text", "=a", ":=1"):
        refused(blob("set", "blob", word), 2, "assigns nothing", "KEY=VALUE")
    refused(blob("set", "blob", "text=a", "text=b"), 2, "assigned twice")
    refused(blob("set", "blob", "free:={}", "free.a=1"), 2, "both assigned")


def test_huge_arguments_are_answered_in_few_words(cli: Cli) -> None:
    huge = "x" * 120_000
    for words in (
        ["get", huge],
        ["set", huge, "a=1"],
        ["set", "stt-worker", huge],
        ["set", "stt-worker", f"{huge}=1"],
        ["unset", "stt-worker", huge],
        ["history", "stt-worker", huge],
        ["history", "stt-worker", "--since", huge],
        ["set", "stt-worker", f"channels={huge}"],
        ["set", "stt-worker", "channels=1", "--reason", huge],
        [huge],
        ["get", "--" + huge],
        ["diff", huge + ".json"],
        ["set", "stt-worker", "channels=1", "--expect-version", huge],
    ):
        result = cli(*words)
        assert result.code in (1, 2, 5)
        assert 0 < len(result.err) < 2000, result.err[:300]
    assert cli("search", huge).code == 0


def test_empty_arguments_are_answered(cli: Cli) -> None:
    refused(cli("get", ""), 5, "there is no service ''")
    refused(cli("unset", "stt-worker", ""), 5, "no key ''")
    refused(cli("set", "stt-worker"), 2, "Missing argument")
    refused(cli("set", "stt-worker", "channels=1", "--reason", ""), 2, "reason")
    refused(cli("get", "stt-worker", ""), 5)
    refused(cli("apply", ""), 2, "cannot be read")


@pytest.mark.parametrize(
    "words",
    [
        ["get", "\udcff"],
        ["set", "stt-worker", "\udcff=1"],
        ["unset", "stt-worker", "\udcff"],
        ["history", "\udcff"],
        ["history", "stt-worker", "\udcff"],
        ["apply", "\udcff"],
        ["set", "stt-worker", "channels=1", "--reason", "\udcff"],
        ["\udcff"],
        ["get", "--\udcff"],
        ["set", "stt-worker", "whisper_model=\udcff"],
        ["--data", "/srv/\udcff", "services"],
    ],
)
def test_bytes_that_are_no_text_are_answered_in_json_too(cli: Cli, words: list[str]) -> None:
    for more in ([], ["--json"]):
        result = cli(*words, *more)
        assert result.code in (1, 2, 5)
        assert "Traceback" not in result.err
    assert result.error["errors"]


def test_a_wrong_command_or_option_is_exit_2_with_a_hint(cli: Cli) -> None:
    refused(cli("sett"), 2, "Did you mean 'set'?")
    refused(cli("get", "--sorce"), 2, "--source")
    refused(cli("get"), 2, "Missing argument 'SERVICE'", "config-daemon get --help")
    refused(cli("keys", "publik"), 2, "publik")
    for words in (
        ["sett"],
        ["get", "--sorce"],
        ["get"],
        [],
        ["keys"],
        ["rollback", "stt-worker", "--to", "x"],
    ):
        result = call(["--json", *words]) if not words else cli(*words, "--json")
        assert (result.code, result.error["error"], result.error["exit_code"]) == (2, "USAGE", 2)
        assert result.error["errors"][0]["suggestion"]


def test_options_stand_before_and_after_the_command(cli: Cli) -> None:
    data = ["--data", str(cli.folder)]
    cli.ok("set", "stt-worker", "channels=2")
    before = call(["--json", *data, "get", "stt-worker"])
    assert (
        before == call([*data, "get", "--json", "stt-worker"]) == call(["get", "stt-worker", "--json", *data])
    )
    assert call(["keys", *data, "public", "--json"]).data == call([*data, "keys", "--json", "public"]).data
    assert call(["set", "--data", "/nowhere", *data, "stt-worker", "channels=1"]).code == 0


def test_numbers_that_no_database_counts_to_are_refused_or_answered(cli: Cli) -> None:
    huge = "9" * 40
    cli.ok("set", "stt-worker", "channels=2")
    refused(cli("history", "stt-worker", "--limit", huge), 2, "--limit")
    refused(cli("rollback", "stt-worker", "--to", huge), 5, "the newest is 1")
    refused(cli("diff", "stt-worker", "--from", huge), 5, "the newest is 1")
    refused(cli("set", "stt-worker", "channels=1", "--expect-version", huge), 3, "at version 1")
    refused(cli("history", "stt-worker", "--limit", "-1"), 2)
