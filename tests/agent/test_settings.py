"""The agent's settings: where they come from, which source wins, and everything that is wrong at once."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from config_daemon.agent import settings as settings_module
from config_daemon.agent.main import main
from config_daemon.agent.settings import Settings, load
from config_daemon.errors import SettingsError
from config_daemon.worker.keep import Keep
from config_daemon.worker.trust import Belief
from tests.worker.updates import KEY, update

PUBLIC = bytes(KEY.verify_key).hex()


@pytest.fixture(autouse=True)
def no_file_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings_module, "FILE", tmp_path / "nowhere.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A whole configuration file, all of it valid."""
    (tmp_path / "key").write_text(PUBLIC)
    (tmp_path / "password").write_text("of the file\n")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "site.j2").write_text("{{ x }}\n")
    path = tmp_path / "config-agent.toml"
    path.write_text(f"""
worker = "box-7"
broker = "mqtt://stt@broker.example:1884"
password_file = "{tmp_path}/password"
public_key_file = "{tmp_path}/key"
state = "{tmp_path}/state"

[services.stt-worker]
check = "true {{}}"
reload = "true"
[[services.stt-worker.render]]
template = "env"
destination = "{tmp_path}/stt.env"
mode = "0640"
owner = "{pwd.getpwuid(os.geteuid()).pw_name}:{grp.getgrgid(os.getegid()).gr_name}"

[services.router]
on_delete = "stop"
[[services.router.render]]
template = "{tmp_path}/site.j2"
destination = "{tmp_path}/site.conf"
check = "false"
""")
    return path


def read(
    file: Path | None, environ: dict[str, str] | None = None, only: tuple[str, ...] = (), **flags: Any
) -> Settings:
    return load(flags, environ or {}, file, only)


def refusals(file: Path | None, environ: dict[str, str] | None = None, **flags: Any) -> list[tuple[str, str]]:
    with pytest.raises(SettingsError) as refused:
        read(file, environ, **flags)
    assert all(one.suggestion for one in refused.value.contexts)
    assert "secret" not in "".join(f"{one}" for one in refused.value.contexts)
    return [(one.error_code, one.failed_field) for one in refused.value.contexts]


def test_a_file_says_it_all(file: Path, tmp_path: Path) -> None:
    settings = read(file)
    assert (settings.worker, settings.state) == ("box-7", tmp_path / "state")
    assert (settings.broker.username, settings.broker.password) == ("stt", "of the file")
    stt, router = settings.services["stt-worker"], settings.services["router"]
    (target,) = stt.plan.targets
    assert (target.source, target.path, target.mode) == ("env", tmp_path / "stt.env", 0o640)
    assert (target.uid, target.gid) == (os.geteuid(), os.getegid())
    assert target.check and target.check.argv == ("true", "{}"), (
        "the service's, where the file has none of its own"
    )
    own = router.plan.targets[0].check
    assert own and own.argv == ("false",)
    assert (stt.on_delete, router.on_delete) == ("keep", "stop")


def test_flags_beat_the_environment_and_that_beats_the_file(file: Path, tmp_path: Path) -> None:
    environ = {
        "MQTT_URL": "mqtts://u:p@env.example",
        "CONFIG_AGENT_STATE": "/env/state",
        "CONFIG_SIGNATURE_PUBLIC_KEY": PUBLIC,
        "CONFIG_AGENT_WORKER": "of-the-unit",
    }
    (tmp_path / "key").write_text("no key")
    settings = read(file, environ)
    assert (settings.worker, read(file, environ, worker="of-a-flag").worker) == ("of-the-unit", "of-a-flag")
    assert (settings.broker.host, settings.state) == ("env.example", Path("/env/state"))
    settings = read(file, environ, broker="mqtt://flag.example", state="/flag/state")
    assert (settings.broker.host, settings.state) == ("flag.example", Path("/flag/state"))


def test_one_service_of_the_file_can_be_chosen(file: Path) -> None:
    assert list(read(file, only=("router",)).services) == ["router"]
    changed = read(file, only=("router",), reload="systemctl reload x", mode="0600")
    assert changed.services["router"].plan.targets[0].mode == 0o600
    assert refusals(file, reload="systemctl reload x") == [("ONE_SERVICE", "service")]


def test_the_command_line_alone_is_enough(tmp_path: Path) -> None:
    environ = {
        "CONFIG_SIGNATURE_PUBLIC_KEY": PUBLIC,
        "STATE_DIRECTORY": "/run/state",
        "CONFIG_AGENT_WORKER": "b",
    }
    render = [{"template": "json", "destination": "x.json"}]
    settings = read(None, environ, ("stt-worker",), render=render)
    assert settings.services["stt-worker"].plan.targets[0].path == Path.cwd() / "x.json"
    assert (settings.worker, settings.state, str(settings.broker)) == (
        "b",
        Path("/run/state"),
        "mqtt://127.0.0.1:1883",
    )


def test_a_credential_beats_the_password_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "broker-password").write_text("of systemd\n")
    (tmp_path / "broker-password").chmod(0o440)
    assert read(file, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).broker.password == "of systemd"


def test_misspelt_names_are_told_with_what_was_meant(file: Path) -> None:
    file.write_text(
        file.read_text()
        .replace("on_delete", "ondelete")
        .replace("mode =", "mod =")
        .replace("worker =", "wroker =")
    )
    with pytest.raises(SettingsError) as refused:
        read(file)
    told = {one.failed_field: one.suggestion for one in refused.value.contexts}
    assert told == {
        "wroker": "Did you mean worker?", "services.router.ondelete": "Did you mean on_delete?",
        "services.stt-worker.render.0.mod": "Did you mean mode?",
    }  # fmt: skip


def test_everything_that_is_wrong_is_told_at_once(file: Path, tmp_path: Path) -> None:
    text = (
        file.read_text()
        .replace('"0640"', '"rw-"')
        .replace("owner =", 'owner = "nobody-of-this-name"\n#')
        .replace("box-7", "Box 7")
    )
    text = text.replace("site.conf", "stt.env").replace('reload = "true"', 'reload = "echo \'open"')
    file.write_text(text.replace("stt@broker", "stt:secret@broker"))
    (tmp_path / "password").chmod(0o644)
    (tmp_path / "key").unlink()
    assert sorted(refusals(file)) == sorted([
        ("INVALID_SETTING", "worker"), ("EXPOSED_SECRET", "broker"), ("INVALID_SETTING", "password_file"),
        ("INVALID_SETTING", "public_key_file"), ("INVALID_SETTING", "services.stt-worker.render.0.mode"),
        ("INVALID_SETTING", "services.stt-worker.render.0.owner"), ("INVALID_SETTING", "services.stt-worker.reload"),
        ("INVALID_SETTING", "services.router.render.0.destination"),
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (('on_delete = "stop"', 'on_delete = "forget"'), ("INVALID_SETTING", "services.router.on_delete")),
        (('template = "env"', "template = 7"), ("INVALID_SETTING", "services.stt-worker.render.0.template")),
        (("destination = ", "#"), ("MISSING_SETTING", "services.stt-worker.render.0.destination")),
        (
            ("[services.router]", "[services.router]\nattempts = 0"),
            ("INVALID_SETTING", "services.router.attempts"),
        ),
        (("[services.router", "[services.Router"), ("INVALID_SETTING", "services.Router")),
        (("/site.conf", "/state/site.conf"), ("INVALID_SETTING", "services.router.render.0.destination")),
        (("public_key_file", "keyring_file = 'x'\npublic_key_file"), ("INVALID_SETTING", "keyring_file")),
        (("broker.example:1884", "broker.example:x"), ("INVALID_SETTING", "broker")),
    ],
)
def test_a_wrong_setting_is_named(file: Path, change: tuple[str, str], found: tuple[str, str]) -> None:
    text = file.read_text()
    assert change[0] in text
    everywhere = not change[0].endswith(("]", " "))
    file.write_text(text.replace(*change, -1 if everywhere else 1))
    assert found in refusals(file)


@pytest.mark.parametrize("way", ["link/stt.env", "app/../app/stt.env", "link/../app/stt.env"])
def test_two_ways_to_one_file_are_one_destination(file: Path, tmp_path: Path, way: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "app")
    text = file.read_text().replace("/stt.env", "/app/stt.env").replace("/site.conf", f"/{way}")
    file.write_text(text)
    assert refusals(file) == [("INVALID_SETTING", "services.router.render.0.destination")]


@pytest.mark.parametrize("way", ["app/../state/worker.keys", "link/worker.keys", "state"])
def test_the_state_folder_is_no_destination_by_any_way(file: Path, tmp_path: Path, way: str) -> None:
    for name in ("app", "state"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "state")
    file.write_text(file.read_text().replace("/site.conf", f"/{way}"))
    assert refusals(file) == [("INVALID_SETTING", "services.router.render.0.destination")]


def test_a_password_in_an_argument_is_refused_and_one_in_the_environment_is_not(file: Path) -> None:
    assert refusals(file, broker="mqtt://u:secret@host") == [("EXPOSED_SECRET", "broker")]
    text = file.read_text().replace("password_file", "#")
    file.write_text(text)
    assert read(file, {"MQTT_URL": "mqtt://u:secret@host"}).broker.password == "secret"


@pytest.mark.parametrize("content", [b"worker = ", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "odd.toml"
    if content is not None:
        path.write_bytes(content)
    assert [code for code, _ in refusals(path)] == ["INVALID_FILE"]


def test_nothing_to_follow_and_nobody_to_believe_is_told(tmp_path: Path) -> None:
    assert refusals(None) == [("MISSING_SETTING", "services"), ("MISSING_SETTING", "public_key_file")]


def test_check_finds_nothing_wrong_and_touches_nothing(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(["check", "--config", str(file)], {}) == 0
    assert capsys.readouterr().out == "services: 2, files: 2; nothing is wrong\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_check_tells_all_that_would_fail_later(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site.j2").write_text("{% if %}")
    (tmp_path / "stt.env").symlink_to("elsewhere")
    text = (
        file.read_text()
        .replace('reload = "true"', 'reload = "no-such-program -x"')
        .replace("/site.conf", "/none/site.conf")
    )
    file.write_text(f'ca_file = "{tmp_path}/none.crt"\n' + text)
    assert main(["check", "--config", str(file)], {}) == 78
    said = capsys.readouterr().err
    for word in (
        "5 settings are wrong",
        "site.j2 cannot be rendered: line 1",
        "stt.env is a symbolic link",
        "no-such-program (stt-worker) is no command",
        "/none/site.conf has no folder",
        "none.crt cannot be read",
    ):
        assert word in said


def test_check_tells_what_is_wrong_in_the_file_and_around_it_in_one_go(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site.j2").unlink()
    text = file.read_text().replace("worker =", "wroker =").replace('"0640"', '"0999"')
    text = text.replace("broker.example:1884", "broker.example:x").replace('"false"', '"nosuchcheck {}"')
    text = text.replace('on_delete = "stop"', 'on_delete = "forget"\nattempts = "many"\nreload = "noreload"')
    (tmp_path / "key").write_text("no key")
    more = '[services.odd]\nverify = "noverify"\n[[services.odd.render]]\ntemplate = "json"\n'
    file.write_text(text + more + "[services.none]\n")
    assert main(["check", "--config", str(file)], {}) == 78
    said = capsys.readouterr().err
    for word in (
        "wroker", "Did you mean worker?", "render.0.mode", "broker", "on_delete", "keep or stop", "attempts",
        "public_key_file:", "there is no file site.j2", "nosuchcheck (router)", "noreload (router)",
        "noverify (odd)", "services.odd.render.0.destination is missing", "none has no file to render",
    ):  # fmt: skip
        assert word in said
    assert "12 settings are wrong" in said
    assert "odd has no file" not in said, "that its only file is not whole is told already"


def test_check_renders_what_was_kept_and_says_where_nothing_was(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--config", str(file)], {}) == 0
    assert "router: no config is kept yet" in capsys.readouterr().err
    kept = Belief(current=update(3, {"port": 1, "log_level": "info"}, service="router"))
    Keep(tmp_path / "state", "anchor").save("router", kept)
    (tmp_path / "site.j2").write_text("{{ port }}\n{{ log_levle }}\n")
    assert main(["check", "--config", str(file)], {}) == 78
    said = capsys.readouterr().err
    assert "line 2: 'log_levle' is undefined" in said
    assert "Did you mean log_level?" in said
    (tmp_path / "site.j2").write_text("{{ port }}\n{{ log_level }}\n")
    assert main(["check", "--config", str(file)], {}) == 0
    assert capsys.readouterr().err == ""


def test_keys_are_made_once_and_need_no_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["keys", "--state", str(tmp_path / "state"), "--worker", "box-7"]
    assert main(arguments, {}) == 0
    first = capsys.readouterr()
    assert f"made new keys of box-7 in {tmp_path}/state" in first.err
    assert main(arguments, {}) == 0
    assert capsys.readouterr() == (first.out, "")
    assert '"worker": "box-7"' in first.out


def test_keys_that_are_there_keep_the_name_that_lies_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["keys", "--state", str(tmp_path / "state")]
    assert main([*arguments, "--worker", "box-7"], {}) == 0
    first = capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()}
    assert main(arguments, {}) == 0
    assert capsys.readouterr().out == first, "not under the host's name"
    assert main([*arguments, "--worker", "other"], {}) == 0
    assert '"worker": "other"' in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()} == before


@pytest.mark.parametrize(
    ("template", "destination", "said"),
    [
        ("xml", "x.xml", "no format 'xml' (env, json, yaml, toml)"),
        ("missing.j2", "x", "there is no file missing.j2"),
        ("env", "nowhere/x.env", "has no folder to be in"),
        ("env", "folder", "is a folder"),
    ],
)
def test_what_can_never_work_ends_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], template: str, destination: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    arguments = [
        "--service", "stt-worker", "--worker", "box-7", "--state", str(tmp_path / "state"), "--broker",
        "mqtt://127.0.0.1:1", "--render", f"{tmp_path}/{template}:{tmp_path}/{destination}", "--once", "--timeout", "0",
    ]  # fmt: skip
    if template == "env":
        arguments[arguments.index("--render") + 1] = f"env:{tmp_path}/{destination}"
    assert main(arguments, {"CONFIG_SIGNATURE_PUBLIC_KEY": PUBLIC}) == 78
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "meant"), [("chekc", "check"), ("--rendr", "--render"), ("--on-delete=kep", "keep")]
)
def test_a_misspelt_word_of_the_command_line_is_told_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], word: str, meant: str
) -> None:
    assert main([word], {}) == 2
    said = capsys.readouterr().err
    assert f"Did you mean {meant}?" in said
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize("render", ["env", "env:", ":/x", "a:b:c"])
def test_a_render_flag_that_means_nothing_is_a_usage_error(
    render: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--service", "stt-worker", "--render", render], {}) == 2
    assert "TEMPLATE:DESTINATION" in capsys.readouterr().err
