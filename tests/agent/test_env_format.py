"""What is rendered as `.env` is read alike by python-dotenv, a POSIX shell and systemd, or refused."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st

from config_daemon.agent.env_format import env_text, quoted
from config_daemon.errors import InvalidConfig

GENERATOR = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"
ODD = st.text(
    st.sampled_from(
        ["a", "'", '"', "\\", "$", "{", "}", "`", "\n", " ", "#", "\t", "!", "ü", "=", "~", ";", "n"]
    )
)
TEXTS = st.lists(ODD | st.text(max_size=8), min_size=1, max_size=20)


def writable(texts: list[str]) -> dict[str, str]:
    """Return those that can be written, each under a name of its own."""
    kept = {}
    for number, text in enumerate(texts):
        try:
            quoted(text)
        except ValueError:
            continue
        kept[f"V{number}"] = text
    return kept


def by_shell(path: Path, names: list[str]) -> dict[str, str]:
    show = "".join(f'printf "%s\\0" "${{{name}}}"; ' for name in names)
    done = subprocess.run(
        ["/bin/sh", "-euc", f'. "$1"; {show}', "sh", str(path)], capture_output=True, env={}, check=True
    )
    return dict(zip(names, done.stdout.decode().split("\0"), strict=False))


def _unescaped(found: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t"}.get(found[1], found[1])


def by_systemd(path: Path) -> dict[str, str]:
    """Read a file with systemd's own parser; this program also expands `$`, which EnvironmentFile= does not."""
    folder = path.parent / "systemd" / "environment.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.conf").write_bytes(path.read_bytes())
    done = subprocess.run(
        [GENERATOR],
        capture_output=True,
        check=True,
        env={"XDG_CONFIG_HOME": str(folder.parent), "HOME": str(path.parent)},
    )
    assert not done.stderr, done.stderr
    read = {}
    for line in done.stdout.decode().split("\n"):
        name, _, value = line.partition("=")
        if value.startswith('"'):
            value = re.sub(r"\\(.)", _unescaped, value[1:-1])
        read[name] = value
    return read


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_all_three_read_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    values = writable(texts)
    path = tmp_path_factory.getbasetemp() / "env"
    path.write_text(env_text(values), newline="")
    assert dotenv_values(path) == values
    assert by_shell(path, list(values)) == values
    plain = {name: text for name, text in values.items() if text and "$" not in text}
    path.write_text(env_text(plain), newline="")
    known = {name: text for name, text in by_systemd(path).items() if name in plain}
    assert known == plain


def test_what_people_write_needs_no_thought(tmp_path: Path) -> None:
    text = env_text({
        "port": 8080, "vad": {"threshold": 0.5, "on": True}, "url": "http://x/y?a=1&b=2", "empty": "",
        "greeting": "it's", "price": "5 $", "words": ["a", "b c"], "nothing": None, "log-level": "info",
    })  # fmt: skip
    assert text.splitlines() == [
        "PORT=8080", "VAD_THRESHOLD=0.5", "VAD_ON=true", "URL='http://x/y?a=1&b=2'", "EMPTY=''",
        "GREETING=\"it's\"", "PRICE='5 $'", "WORDS='[\"a\",\"b c\"]'", "LOG_LEVEL=info",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    ["${HOME}", "it's $5", "back\\slash `id`", "bell\a", "return\r", "\ud800", "\ufffe", "null\0byte"],
)
def test_what_one_of_them_would_misread_is_refused_with_its_key(value: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        env_text({"fine": 1, "odd": value})
    assert [context.failed_field for context in refused.value.contexts] == ["odd"]
    assert value not in str(refused.value), "a value may be none of the log's business"


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"a.b": 1, "a-b": 2}, ["a-b"]),
        ({"a": {"b": 1}, "a_b": 2}, ["a_b"]),
        ({"path": "/opt"}, ["path"]),
        ({"ld": {"preload": "x.so"}}, ["ld.preload"]),
        ({"größe": 1, "1st": 2, "two words": 3}, ["größe", "1st", "two words"]),
    ],
)
def test_every_key_that_makes_no_name_of_its_own_is_told_at_once(
    values: dict[str, Any], fields: list[str]
) -> None:
    with pytest.raises(InvalidConfig) as refused:
        env_text(values)
    assert [context.failed_field for context in refused.value.contexts] == fields


NAMES_OF_SHELLS = (
    "seconds", "random", "srandom", "groups", "optind", "lineno", "dirstack", "bash_versinfo", "histcmd",
    "epochseconds", "bashpid", "funcname", "pwd", "oldpwd", "shlvl", "bash_argv0", "posixly_correct", "bash_cmds",
    "bash_aliases", "comp_wordbreaks", "pipestatus", "opterr", "optarg", "ps1",
)  # fmt: skip
NAMES_OF_RUNTIMES = (
    "node_options", "node_path", "perl5opt", "perl5lib", "perllib", "java_tool_options", "_java_options",
    "jdk_java_options", "rubyopt", "rubylib", "gconv_path", "glibc_tunables", "locpath", "pythonstartup",
    "pythonbreakpoint", "prompt_command", "dyld_insert_libraries",
)  # fmt: skip


@pytest.mark.parametrize("shell", [["dash"], ["bash", "--posix"], ["bash"]], ids=" ".join)
def test_a_name_that_a_shell_uses_itself_is_refused_or_read_as_written(
    tmp_path: Path, shell: list[str]
) -> None:
    script, written = [], []
    for key in NAMES_OF_SHELLS:
        try:
            text = env_text({key: "/not-a-number", "zz_after": "there"})
        except InvalidConfig:
            continue
        (tmp_path / key).write_text(text)
        written.append(key)
        script.append(f'(. "{tmp_path}/{key}"; printf "%s|%s\\n" "${key.upper()}" "$ZZ_AFTER")')
    done = subprocess.run([*shell, "-c", "\n".join(script)], capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (["/not-a-number|there"] * len(written), "")


@pytest.mark.parametrize("key", NAMES_OF_RUNTIMES)
def test_a_name_by_which_a_runtime_loads_other_code_is_refused(key: str) -> None:
    with pytest.raises(InvalidConfig, match="means something"):
        env_text({key: "x"})


@pytest.mark.parametrize(
    "key", ["random_seed", "seconds_limit", "node_env", "java_home", "groups_file", "bashful", "mailer"]
)
def test_a_name_that_only_begins_like_one_is_written(key: str) -> None:
    assert env_text({key: "x"}) == f"{key.upper()}=x\n"


def test_the_shell_runs_nothing_that_a_value_says(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text(
        env_text({"a": "$(touch pwned)", "b": "`touch pwned`", "c": "x; touch pwned", "d": "\ntouch pwned\n"})
    )
    assert by_shell(path, ["A", "B"])["A"] == "$(touch pwned)"
    assert [file.name for file in tmp_path.iterdir()] == ["env"]
    assert dotenv_values(stream=io.StringIO(path.read_text()))["B"] == "`touch pwned`"
