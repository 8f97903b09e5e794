"""Whenever a command that changes keys is killed, a daemon can start, and the same command completes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.keyring_folders import Daemon, dies, held, ids, note_signing, public_key, sleeper_walks
from tests.cli.test_keys_restore import killed_at

KEYRING_STEPS = ("before_keyring:kill", "after_keyring:kill")
TWICE = ("before_keyring:kill:1", "after_keyring:kill:1", "before_keyring:kill:2", "after_keyring:kill:2")


def starts_and_signs(cli: Cli) -> str:
    """Start a daemon on what a killed command left; return the id of the key that it signs with."""
    keyring = held(cli)
    with Daemon(cli.folder) as daemon:
        listed = [
            one
            for one in (ids(cli).get("signing"), ids(cli).get("signing-next"))
            if one in keyring.config_ids
        ]
        assert listed, "a key that is here is listed"
        daemon.signs(keyring, str(listed[0]))
        assert "key-unlisted" not in daemon.conditions
    return str(listed[0])


@pytest.mark.parametrize("step", ["after_keys_env:kill", *KEYRING_STEPS])
def test_staging(cli: Cli, step: str) -> None:
    first, old = public_key(cli), ids(cli)["signing"]
    dies(cli, step, "keys", "rotate")
    sleeper_walks(cli, first)
    assert starts_and_signs(cli) == old
    staged = ids(cli)["signing-next"]
    assert cli.json("keys", "rotate")["key_id"] == staged, "the key that was made is not lost"
    assert [one.config_ids for one in sleeper_walks(cli, first)] == [{old, staged}]
    assert cli.files.keyring.read_bytes() == held(cli).raw


@pytest.mark.parametrize("step", ["after_keys_env:kill", *KEYRING_STEPS])
def test_retiring(cli: Cli, step: str) -> None:
    first = public_key(cli)
    new = cli.json("keys", "rotate")["key_id"]
    note_signing(cli.files, held(cli), new)
    dies(cli, step, "keys", "rotate", "--retire")
    sleeper_walks(cli, first)
    assert starts_and_signs(cli) == new
    cli.ok("keys", "rotate", "--retire")
    assert [one.number for one in sleeper_walks(cli, first)] == [1, 2]
    assert (held(cli).config_ids, held(cli).root_ids) == ({new}, {new})
    assert {name: one for name, one in ids(cli).items() if "signing" in name} == {"signing": new}
    assert cli.json("keys", "rotate", "--retire")["retired"] == []


@pytest.mark.parametrize("step", ["after_keys_env:kill:1", *TWICE, "after_keys_env:kill:2"])
def test_revoking_the_only_key(cli: Cli, step: str) -> None:
    first, stolen = public_key(cli), ids(cli)["signing"]
    words = ("keys", "revoke", stolen[:8], "--reason", "stolen", "--yes")
    dies(cli, step, *words)
    sleeper_walks(cli, first)
    starts_and_signs(cli)
    cli.ok(*words)
    one, two = sleeper_walks(cli, first)
    assert (one.generation, two.generation, list(two.revoked)) == (1, 2, [stolen])
    assert {name: one for name, one in ids(cli).items() if "signing" in name} == {
        "signing": max(two.config_ids)
    }
    assert starts_and_signs(cli) == max(two.config_ids)
    assert cli.json(*words)["revoked_now"] is False


@pytest.mark.parametrize("step", ["after_keys_env:kill:1", "after_keys_env:kill:2", *TWICE])
def test_splitting_the_root(cli: Cli, tmp_path: Path, step: str) -> None:
    first, signs = public_key(cli), ids(cli)["signing"]
    files = [str(tmp_path / "root-1.pem"), str(tmp_path / "root-2.pem")]
    dies(cli, step, "keys", "split-root", *files)
    sleeper_walks(cli, first)
    assert starts_and_signs(cli) == signs
    roots = [each["key_id"] for each in cli.json("keys", "split-root", *files, "--yes")["roots"]]
    assert [one.number for one in sleeper_walks(cli, first)] == [1, 2]
    assert (held(cli).root_ids, held(cli).config_ids) == (set(roots), {signs})
    assert cli.json("keys", "split-root", *files)["changed"] is False
    assert sorted(path.name for path in tmp_path.glob("*root*")) == ["root-1.pem", "root-2.pem"]


def test_rotating_the_hmac_key(cli: Cli) -> None:
    before = ids(cli)["lkg-hmac"]
    note_signing(cli.files, held(cli), ids(cli)["signing"])
    dies(cli, "after_keys_env:kill", "keys", "rotate", "--hmac")
    starts_and_signs(cli)
    done = cli.json("keys", "rotate", "--hmac")
    assert (done["old_key_id"], done["rotated_now"], done["in_use"]) == (before, False, True)
    dies(cli, "after_keys_env:kill", "keys", "rotate", "--hmac", "--retire")
    assert cli.json("keys", "rotate", "--hmac", "--retire") == {
        "key_id": ids(cli)["lkg-hmac"],
        "retired": None,
    }
    starts_and_signs(cli)


# at every step on a file --------------------------------------------------------------------------


def killed_everywhere(
    fresh: Callable[[], Cli], words: Callable[[Cli], list[str]], whole: Callable[[Cli], None]
) -> None:
    """Kill a command before each of its steps on a file; run again, it must be whole."""
    step, dead = 1, True
    while dead:
        cli = fresh()
        first, command = public_key(cli), words(cli)  # as `.env` had it from the beginning
        dead = killed_at(step, lambda: cli(*command))  # noqa: B023
        sleeper_walks(cli, first)
        cli.ok(*command)
        whole(cli)
        sleeper_walks(cli, first)
        assert cli.files.keyring.read_bytes() == held(cli).raw
        assert [path.name for path in cli.folder.iterdir() if "env" in path.name] == [".env"]
        step += 1
    assert step > 10


@pytest.fixture
def fresh(made: Path, tmp_path: Path) -> Callable[[], Cli]:
    def make() -> Cli:
        shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
        return Cli(Path(shutil.copytree(made, tmp_path / "fresh" / "data")))

    return make


def test_staging_is_completed_wherever_it_was_killed(fresh: Callable[[], Cli]) -> None:
    def whole(cli: Cli) -> None:
        assert held(cli).config_ids == {ids(cli)["signing"], ids(cli)["signing-next"]}

    killed_everywhere(fresh, lambda _: ["keys", "rotate"], whole)


def test_retiring_is_completed_wherever_it_was_killed(fresh: Callable[[], Cli]) -> None:
    def staged() -> Cli:
        cli = fresh()
        new = cli.json("keys", "rotate")["key_id"]
        note_signing(cli.files, held(cli), new)
        return cli

    def whole(cli: Cli) -> None:
        assert held(cli).config_ids == {ids(cli)["signing"]}

    killed_everywhere(staged, lambda _: ["keys", "rotate", "--retire"], whole)


def test_revoking_is_completed_wherever_it_was_killed(fresh: Callable[[], Cli]) -> None:
    def whole(cli: Cli) -> None:
        assert held(cli).config_ids == {ids(cli)["signing"]}
        assert (len(held(cli).revoked), held(cli).generation, held(cli).number) == (1, 2, 2)

    killed_everywhere(
        fresh, lambda cli: ["keys", "revoke", ids(cli)["signing"], "--reason", "stolen", "--yes"], whole
    )


def test_splitting_is_completed_wherever_it_was_killed(fresh: Callable[[], Cli]) -> None:
    def words(cli: Cli) -> list[str]:
        files = [str(cli.folder.parent / f"{number}.pem") for number in (1, 2)]
        return ["keys", "split-root", *files, "--yes"]

    def whole(cli: Cli) -> None:
        assert (len(held(cli).root_ids), held(cli).number) == (2, 2)
        assert sorted(path.name for path in cli.folder.parent.iterdir()) == ["1.pem", "2.pem", "data"]

    killed_everywhere(fresh, words, whole)
