"""Values in files: apply, diff, export and import, all or nothing and there and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import BLOB, Cli, Result


@pytest.fixture
def fleet(blob: Cli) -> Cli:
    """Three services with values of every kind."""
    blob.ok(
        "set",
        "stt-worker",
        "channels=2",
        "vad_threshold=0.6",
        "streaming_partials=true",
        "stt_backend=ws",
        "ws_url=ws://a.b/c?d#e",
    )
    blob.ok("set", "blob", "text= a 'b' \"c\" \\ $d # é\n\ttab", "free.x.y:=[1,{}]")
    blob.ok("apply", "-", text='{"router": {}}')
    return blob


def put(cli: Cli, name: str, text: str) -> str:
    (cli.folder / name).write_text(text)
    return str(cli.folder / name)


def test_apply_replaces_the_values_of_each_named_service_in_one_change(fleet: Cli) -> None:
    file = put(fleet, "f.json", '{"stt-worker": {"channels": 1}, "tts-worker": {}}')
    done = fleet.json("apply", file, "--reason", "spring")
    assert [(each["service"], each["config_version"], each["stored"]) for each in done] == [
        ("stt-worker", 2, True),
        ("tts-worker", 1, True),
    ]
    assert fleet.stored("stt-worker") == {"channels": 1}
    assert fleet.stored("tts-worker") == {}
    rows = fleet.json("history", "stt-worker")
    assert {row["reason"] for row in rows if row["config_version"] == 2} == {"spring"}
    assert [each["stored"] for each in fleet.json("apply", file)] == [False, False]


def test_apply_reads_yaml_streams_lists_and_several_files(fleet: Cli) -> None:
    stream = put(
        fleet,
        "f.yaml",
        "---\nservice: stt-worker\nconfig: {channels: 1}\n---\nrouter:\n  router_stream_min_chars: 7\n",
    )
    listed = put(fleet, "f.json", '[{"service": "tts-worker", "version": 9, "config": {}}]')
    assert [each["service"] for each in fleet.json("apply", stream, listed)] == [
        "stt-worker",
        "router",
        "tts-worker",
    ]
    assert fleet.stored("router") == {"router_stream_min_chars": 7}
    assert fleet.version("tts-worker") == 1


def test_apply_stores_nothing_when_anything_is_wrong_and_tells_all_of_it(fleet: Cli) -> None:
    file = put(
        fleet,
        "f.yaml",
        "stt-worker: {channels: 7, nope: 1}\nrouter: {router_stream_min_chars: many}\nblob: {note: fine}\n",
    )
    result = fleet("apply", file, "--json")
    assert result.code == 1
    assert result.codes.keys() == {"channels", "nope", "router_stream_min_chars"}
    assert all(each["message"].startswith(("stt-worker", "router")) for each in result.error["errors"])
    assert fleet.version("blob") == 1
    unknown = fleet("apply", "-", "--json", text='{"stt-workr": {}, "routr": {}, "blob": {"note": "x"}}')
    assert (unknown.code, len(unknown.error["errors"])) == (5, 2)
    assert fleet.version("blob") == 1


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("f.json", "{", "not JSON"),
        ("f.json", '{"a": {}, "a": {}}', "stands twice"),
        ("f.json", "7", "holds no object"),
        ("f.json", "[1]", "no document"),
        ("f.json", "{}", "names no service"),
        ("f.json", '{"blob": 7}', "no object of values"),
        ("f.json", '{"service": "blob"}', "no object of values"),
        ("f.json", '[{"service":"blob","config":{}},{"service":"blob","config":{}}]', "second time"),
        ("f.json", '{"service": "blob", "config": {}, "state": "x"}', "unknown member 'state'"),
        ("f.yaml", "a: [1,", "line 1"),
        ("f.yaml", "blob:\n  note: a\n  note: b\n", "duplicate key"),
        ("f.yaml", "1: {}", "no text"),
        ("f.yaml", "", "names no service"),
        ("f.yaml", "blob: {free: {x: !!python/object:os.system y}}", "constructor"),
        ("f.yaml", "blob: {free: {n: .nan}}", "NaN"),
        ("f.yaml", "blob: {free: {1: x}}", "key is no text"),
        ("f.yaml", "blob: {free: {s: !!binary aGk=}}", "no JSON type"),
        (
            "f.yaml",
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
            ),
            "too large",
        ),
        ("f.yaml", "blob: &b {free: *b}", "too large"),
        ("f.toml", "a = 1", "holds no object"),
        ("f", "{a", "not YAML"),
    ],
)
def test_a_file_that_is_not_right_is_told_with_its_name(blob: Cli, name: str, text: str, told: str) -> None:
    result = blob("apply", put(blob, name, text))
    assert (result.code, result.out) == (1, "")
    assert told in result.err, result.err
    assert name in result.err
    assert blob.json("services") == []


def test_yaml_dates_are_text_and_only_true_is_true(blob: Cli) -> None:
    blob.ok("apply", put(blob, "f.yml", "blob: {note: 2026-01-31, text: no, free: {t: true}}"))
    assert blob.stored("blob") == {"note": "2026-01-31", "text": "no", "free": {"t": True}}


def test_apply_expects_a_version_of_one_service_only(fleet: Cli) -> None:
    one, two = '{"stt-worker": {}}', '{"stt-worker": {}, "blob": {}}'
    assert fleet("apply", "-", "--expect-version", "7", text=one).code == 3
    assert fleet("apply", "-", "--expect-version", "1", text=two).code == 2
    assert fleet("apply", "-", "--expect-version", "1", "--dry-run", text=one).code == 0
    assert fleet.version("stt-worker") == 1


def test_diff_of_a_file_tells_what_applying_it_would_change(fleet: Cli) -> None:
    file = put(fleet, "f.yaml", "stt-worker: {channels: 1, vad_threshold: 0.6}\ntts-worker: {}\n")
    [stt, tts] = fleet.json("diff", file)
    assert stt["changed"]["channels"] == {"before": "2", "after": "1"}
    assert (stt["from"], stt["differs"], tts["from"], tts["differs"]) == (1, True, 0, False)
    assert fleet("diff", file, "--exit-code").code == 6
    assert "no difference" in fleet.ok("diff", file).out
    fleet.ok("apply", file)
    assert fleet("diff", file, "--exit-code").code == 0
    assert fleet("diff", file, "--from", "1").code == 2
    assert fleet("diff", put(fleet, "bad.json", '{"blob": {"free": {"n": 1e400}}}')).code == 1


@pytest.mark.parametrize("kind", ["json", "yaml", "env"])
def test_what_is_exported_is_imported_exactly(fleet: Cli, tmp_path: Path, kind: str) -> None:
    if kind == "env":  # lines of a .env name fields, and members of free objects are none
        fleet.ok("apply", "-", text='{"blob": {"text": "a\\n\\"b\\" $c", "free": {"x": [1, {"y": null}]}}}')
    services = ["blob", "stt-worker"] if kind == "env" else ["blob", "router", "stt-worker"]
    before = {service: fleet.stored(service) for service in services}
    file = put(fleet, f"fleet.{kind}", fleet.ok("export", *services, "--format", kind).out)
    assert [each["stored"] for each in fleet.json("import", file)] == [False] * len(services)
    for service in services:
        fleet.ok("delete", service, "--yes")
    fleet.ok("set", "stt-worker", "sample_rate=8000")
    done = fleet.json("import", "-", "--format", kind, text=Path(file).read_text())
    assert [each["service"] for each in done] == services
    assert {service: fleet.stored(service) for service in services} == before


def test_export_writes_set_values_with_versions(fleet: Cli) -> None:
    found = json.loads(fleet.ok("export").out)
    assert [(each["service"], each["version"]) for each in found] == [
        ("blob", 1),
        ("router", 1),
        ("stt-worker", 1),
    ]
    assert found == fleet.json("export")
    assert (
        fleet.ok("export", "router", "--format", "yaml").out
        == '---\nservice: "router"\nversion: 1\nconfig: {}\n'
    )
    lines = fleet.ok("export", "stt-worker", "--format", "env").out.splitlines()
    assert lines[0] == "# stt-worker, version 1"
    assert "STT_WORKER__STREAMING_PARTIALS=true" in lines
    assert "STT_WORKER__WS_URL='ws://a.b/c?d#e'" in lines


def test_export_refuses_what_it_cannot_write_or_find(fleet: Cli) -> None:
    fleet.ok("set", "blob", "note:=null")
    refused = fleet("export", "blob", "--format", "env", "--json")
    assert refused.code == 2
    refused = fleet("export", "blob", "--format", "env")
    assert (refused.code, refused.out) == (1, "")
    assert "blob note has a value that no line of a .env file can hold" in refused.err
    assert fleet("export", "tts-worker").code == 5
    fleet.ok("delete", "router", "--yes")
    assert fleet("export", "router").code == 5
    assert [each["service"] for each in fleet.json("export")] == ["blob", "stt-worker"]


def test_import_of_a_dotenv_tells_every_line_that_means_nothing(fleet: Cli) -> None:
    text = "STT_WORKER__CHANELS=1\nDB_HORST=x\nSTT_WORKER__VAD_THRESHOLD=high\nBLOB__NOTE=fine\n"
    result = fleet("import", put(fleet, "x.env", text), "--json")
    assert result.code == 1
    assert [each["error_code"] for each in result.error["errors"]] == [
        "UNKNOWN_NAME",
        "UNKNOWN_NAME",
        "WRONG_TYPE",
    ]
    assert "STT_WORKER__CHANNELS" in result.error["errors"][0]["suggestion"]
    assert "horst" not in result.err.lower()  # what no name is might be a piece of a key
    assert fleet.version("blob") == 1
    assert fleet("import", put(fleet, "y.env", 'BLOB__NOTE="open\n')).code == 1


def test_import_passes_the_daemons_own_settings_over(fleet: Cli) -> None:
    own = fleet.files.environment.read_text() + "MQTT_URL=mqtt://u:hunter2@h\nBLOB__NOTE=new\n"
    done: Result = fleet.ok("import", put(fleet, "own.env", own))
    assert "passed over" in done.err
    assert "hunter2" not in done.out + done.err
    assert fleet.stored("blob") == {"note": "new"}
    assert fleet("import", put(fleet, "none.env", "MQTT_URL=mqtt://h\n")).code == 1


def test_import_is_all_or_nothing_and_a_dry_run_is_nothing(fleet: Cli) -> None:
    file = put(
        fleet,
        "f.json",
        '[{"service":"blob","config":{"note":"x"}},{"service":"stt-worker","config":{"channels":9}}]',
    )
    assert fleet("import", file).code == 1
    assert fleet.version("blob") == 1
    good = put(fleet, "g.json", '{"blob": {"note": "x"}}')
    assert fleet.json("import", good, "--dry-run")[0]["stored"] is False
    assert fleet.version("blob") == 1
    assert fleet("import", str(fleet.folder / "missing.json")).code == 2


def test_an_alias_in_a_dotenv_is_a_name_of_its_field(blob: Cli) -> None:
    schema = {**BLOB, "properties": {"level": {"type": "integer", "x-env": "GAUGE_LEVEL"}}}
    blob.define("gauge", schema)
    blob.ok("import", put(blob, "a.env", "GAUGE_LEVEL=7\n"))
    assert blob.stored("gauge") == {"level": 7}
