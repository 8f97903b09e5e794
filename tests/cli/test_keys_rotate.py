"""Keys are staged, retired, revoked, split and merged; every wrong use says what comes first."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from config_daemon.core.keyring import adding, revoking
from config_daemon.store import keybackup, locks
from config_daemon.store.ground import load_ground
from config_daemon.store.keyrings import KeyringFiles
from config_daemon.wire.keyring import Keyring, follow, seal_keyring
from config_daemon.wire.keys import key_id, signing_key_from_pem, signing_key_pem
from tests.cli.conftest import Cli, refused
from tests.cli.conftest import Daemon as Looks
from tests.cli.key_folders import CHEAP, PHRASE, secrets_in
from tests.cli.keyring_folders import held, ids, note_signing, public_key, sleeper_walks

AT = "2026-01-02T03:04:05.678Z"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passphrases cost half a second each otherwise, and memory."""
    monkeypatch.setattr(keybackup.sealed, "__defaults__", (CHEAP,))


@pytest.fixture
def roots(cli: Cli, tmp_path: Path) -> list[str]:
    """Two root keys, kept apart from the daemon's."""
    files = [str(tmp_path / "root-1.pem"), str(tmp_path / "root-2.pem")]
    cli.ok("keys", "split-root", *files)
    return files


@pytest.fixture
def outside(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose signing key is a credential."""
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o700)
    keys = load_ground(cli.folder, {}, {}).keys
    _write(folder / "signing-key", signing_key_pem(keys.signer().key))
    text = cli.files.environment.read_text()
    cli.files.environment.write_text(re.sub("CONFIG_SIGNATURE_PRIVATE_KEY=.*\n", "", text))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def env_keys(cli: Cli) -> set[str]:
    return {
        name.partition("=")[0]
        for name in cli.files.environment.read_text().splitlines()
        if "SIGNATURE" in name
    }


# staging and retiring -----------------------------------------------------------------------------


def test_a_key_is_staged_with_the_roles_of_the_one_that_signs(cli: Cli) -> None:
    old = ids(cli)["signing"]
    staged = cli.json("keys", "rotate")
    assert (staged["state"], staged["staged_now"], staged["backed_up"]) == ("staged", True, False)
    listed = cli.json("keys", "list")
    assert listed["rotation_status"] == "in-progress"
    assert listed["grace_window_until"] == staged["activates_at"] > held(cli).issued_at
    assert [(key["key_id"], key["roles"], key["here"]) for key in listed["keyring"]["keys"]] == [
        (old, ["config", "root"], True), (staged["key_id"], ["config", "root"], True),
    ]  # fmt: skip
    shown = cli.ok("keys", "rotate")
    assert "staged already" in shown.out
    assert staged["activates_at"] in shown.err
    assert "keys backup" in shown.err
    told = shown.out + shown.err + cli.ok("keys", "list").out + cli.files.keyring.read_text()
    assert not [secret for secret in _secrets(cli) if secret in told]


def _secrets(cli: Cli) -> list[str]:
    return re.findall(
        r"(?:BASE64=|PRIVATE KEY-----\\n)([A-Za-z0-9+/]{20,})", cli.files.environment.read_text()
    )


def test_a_backup_of_the_staged_key_counts_after_it_signs(cli: Cli, tmp_path: Path) -> None:
    new = cli.json("keys", "rotate")["key_id"]
    cli.ok("keys", "backup", str(tmp_path / "stick"), text=PHRASE)
    assert cli.json("keys", "rotate")["backed_up"] is True
    note_signing(cli.files, held(cli), new)
    assert cli.json("keys", "rotate")["state"] == "active"
    done = cli.ok("keys", "rotate", "--retire")
    assert "warning" not in done.err
    assert {key["backed_up"] is not None for key in cli.json("keys", "list")["keys"]} == {True}
    assert cli.json("keys", "list")["rotation_status"] == "idle"
    assert (cli.json("keys", "public")["key_id"], held(cli).number) == (new, 2)
    assert "CONFIG_SIGNATURE_NEXT_PRIVATE_KEY" not in cli.files.environment.read_text()


def test_what_has_to_come_first_is_told(cli: Cli, daemon: Looks) -> None:
    refused(cli("keys", "rotate", "--activate"), 1, "no key waits", "keys rotate` first")
    assert cli.json("keys", "rotate", "--retire")["retired"] == []
    cli.ok("keys", "rotate")
    refused(cli("keys", "rotate", "--activate"), 1, "is in no backup", "--without-backup")
    refused(cli("keys", "rotate", "--retire"), 1, "does not sign with key", "--activate")
    daemon.ends()
    refused(
        cli("keys", "rotate", "--activate", "--without-backup"),
        69,
        "no daemon is running",
        "Start the daemon",
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--activate", "--retire"), "goes with neither"),
        (("--activate", "--hmac"), "goes with neither"),
        (("--without-backup",), "with --activate only"),
        (("--retire", "--new-key-file", "x"), "with staging only"),
        (("--hmac", "--root-key", "x"), "not needed"),
        (("--new-key-file", "x"), "the new one goes there too"),
        (("--root-key", "none.pem"), "there is no file none.pem"),
        (("now",), "unexpected extra argument"),
    ],
)
def test_what_does_not_go_together_changes_nothing(cli: Cli, words: tuple[str, ...], told: str) -> None:
    before = cli.files.environment.read_bytes()
    result = cli("keys", "rotate", *words)
    refused(result, 2, told)
    assert cli.files.environment.read_bytes() == before
    assert not cli.files.keyring.exists()


def test_an_empty_folder_a_held_lock_and_a_lost_keyring_are_told(cli: Cli, tmp_path: Path) -> None:
    empty = Cli(tmp_path / "none")
    empty.folder.mkdir()
    for words in (
        ("rotate",),
        ("revoke", "a" * 32, "--reason", "r", "--yes"),
        ("merge",),
        ("split-root", "a", "b"),
    ):
        refused(empty("keys", *words), 78, "CONFIG_SIGNATURE_PUBLIC_KEY is missing")
    assert not list(empty.folder.iterdir())
    lock = locks.take(cli.files.folder / "keys.lock")
    assert lock is not None
    result = cli("keys", "rotate", "--json")
    locks.release(lock)
    assert (result.code, result.error["error"]) == (69, "STORE_LOCKED")
    new = cli.json("keys", "rotate")["key_id"]
    note_signing(cli.files, held(cli), new)
    for path in (cli.files.keyring, cli.files.keyrings / "1.json"):
        path.unlink()
    refused(cli("keys", "rotate"), 78, "the daemon holds keyring 1, which is not here", "keys restore")


def test_a_staged_key_that_was_lost_is_revoked_before_another_is_made(cli: Cli) -> None:
    lost = cli.json("keys", "rotate")["key_id"]
    text = cli.files.environment.read_text()
    cli.files.environment.write_text(re.sub("CONFIG_SIGNATURE_NEXT_PRIVATE_KEY=.*\n", "", text))
    refused(cli("keys", "rotate"), 78, "its private half is not in .env", f"keys revoke {lost[:12]}")
    refused(cli("keys", "rotate", "--retire"), 1, f"key {lost} is staged")
    first = public_key(cli)
    cli.ok("keys", "revoke", lost[:12], "--reason", "lost", "--yes")
    assert cli.json("keys", "rotate")["key_id"] != lost
    sleeper_walks(cli, first)


# a key that is not in .env -------------------------------------------------------------------------


def test_a_credential_is_rotated_step_by_step(cli: Cli, outside: Path, tmp_path: Path) -> None:
    first, old = public_key(cli), ids(cli)["signing"]
    refused(cli("keys", "rotate"), 2, "needs a file of its own", "--new-key-file FILE")
    file = tmp_path / "next.pem"
    before = cli.files.environment.read_bytes()
    staged = cli("keys", "rotate", "--new-key-file", str(file))
    assert "signing-key-next" in staged.err
    new = held(cli).keys[-1].key_id
    again = cli.json("keys", "rotate", "--new-key-file", str(file))
    assert (again["key_id"], again["staged_now"], file.stat().st_mode & 0o777) == (new, False, 0o600)
    other = cli("keys", "rotate", "--new-key-file", str(tmp_path / "other.pem"))
    refused(other, 78, "lists the next key")
    assert not (tmp_path / "other.pem").exists()
    refused(cli("keys", "rotate", "--retire"), 1, f"key {new} is staged")
    file.rename(outside / "signing-key-next")
    assert ids(cli)["signing-next"] == new
    note_signing(cli.files, held(cli), new)
    result = cli("keys", "rotate", "--retire")
    refused(result, 1, "not in .env", "CONFIG_SIGNATURE_PUBLIC_KEY=")
    assert cli.files.environment.read_bytes() == before
    (outside / "signing-key-next").rename(outside / "signing-key")
    public = re.search("CONFIG_SIGNATURE_PUBLIC_KEY=([0-9a-f]{64})", result.err)
    assert public
    _set_public(cli, public[1])
    assert cli.json("keys", "rotate", "--retire")["retired"] == [old]
    assert held(cli).config_ids == {new}
    sleeper_walks(cli, first)


def _set_public(cli: Cli, text: str) -> None:
    env = cli.files.environment
    env.write_text(
        re.sub("CONFIG_SIGNATURE_PUBLIC_KEY=.*", f"CONFIG_SIGNATURE_PUBLIC_KEY={text}", env.read_text())
    )


def test_the_only_credential_is_not_revoked_before_there_is_another(
    cli: Cli, outside: Path, tmp_path: Path
) -> None:
    first, old = public_key(cli), ids(cli)["signing"]
    words = ("keys", "revoke", old, "--reason", "stolen", "--yes")
    refused(cli(*words), 2, "the only key that signs", "--new-key-file FILE")
    file = str(tmp_path / "next.pem")
    cli.ok("keys", "rotate", "--new-key-file", file)
    refused(cli(*words), 2, "a root key must sign this")
    told = cli.ok(*words, "--root-key", file)
    assert "does not list the signing key" in told.err
    assert list(held(cli).revoked) == [old]
    sleeper_walks(cli, first)


def test_keys_in_two_places_are_not_changed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "public.pem"
    file.write_text(cli.ok("keys", "public").out)
    monkeypatch.setenv("CONFIG_SIGNATURE_PUBLIC_KEY_FILE", str(file))
    refused(cli("keys", "rotate"), 78, "they change together")
    monkeypatch.setenv("LKG_HMAC_KEY_BASE64_FILE", str(file))
    file.chmod(0o600)
    refused(cli("keys", "rotate", "--hmac"), 78, "LKG_HMAC_KEY_BASE64 is not in .env", "lkg-hmac-key-old")


# revoking -----------------------------------------------------------------------------------------


def test_the_staged_key_takes_over_from_a_revoked_one(cli: Cli) -> None:
    first, old = public_key(cli), ids(cli)["signing"]
    new = cli.json("keys", "rotate")["key_id"]
    done = cli.ok("keys", "revoke", old[:8].upper(), "--reason", "stolen at night", "--yes")
    assert f"key {new} signs" in done.err
    assert "NO WORKER KNOWS OF THIS YET: no daemon runs here" in done.err
    assert [one.number for one in sleeper_walks(cli, first)] == [1, 2]
    assert ids(cli)["signing"] == new
    assert cli.json("keys", "list")["keyring"]["revoked"] == [
        {"key_id": old, "at": held(cli).revoked[old].at, "reason": "stolen at night"}
    ]
    assert "stolen at night" in cli.ok("keys", "list").out
    again = cli.ok("keys", "revoke", old, "--reason", "again", "--yes")
    assert "was revoked already" in again.out
    assert held(cli).number == 2


def test_a_revoked_staged_key_leaves_env(cli: Cli) -> None:
    old = ids(cli)["signing"]
    new = cli.json("keys", "rotate")["key_id"]
    cli.ok("keys", "revoke", new, "--reason", "typed over", "--yes")
    assert (env_keys(cli), ids(cli)["signing"]) == (
        {"CONFIG_SIGNATURE_PRIVATE_KEY", "CONFIG_SIGNATURE_PUBLIC_KEY"}, old,
    )  # fmt: skip
    assert (held(cli).generation, held(cli).config_ids) == (2, {old})


def test_a_root_is_revoked_by_the_other_one(cli: Cli, roots: list[str], tmp_path: Path) -> None:
    lost, other = (key_id(bytes(signing_key_from_pem(Path(file).read_text()).verify_key)) for file in roots)
    words = ("keys", "revoke", lost, "--reason", "the safe burnt", "--yes")
    refused(cli(*words), 2, "a root key must sign this", f"{other}", "--root-key FILE")
    refused(
        cli(*words, "--root-key", roots[0]),
        2,
        f"holds the key {lost} itself",
        "Name the other root's file",
        other,
    )
    cli.ok(*words, "--root-key", roots[1])
    assert held(cli).root_ids == {other}
    words = ("keys", "revoke", other, "--reason", "and the other", "--yes", "--root-key", roots[1])
    refused(
        cli(*words), 2, "is the only root", "Make new ones first", "split-root FILE1 FILE2 --root-key FILE"
    )
    again = [str(tmp_path / "root-3.pem"), str(tmp_path / "root-4.pem")]
    refused(cli("keys", "split-root", *again), 2, "--root-key FILE")
    assert not Path(again[0]).exists()
    cli.ok("keys", "split-root", *again, "--root-key", roots[1])
    assert len(held(cli).root_ids) == 2 and other not in held(cli).root_ids


def test_with_a_split_root_a_stolen_key_is_revoked_by_a_root(cli: Cli, roots: list[str]) -> None:
    stolen, before = ids(cli)["signing"], held(cli)
    refused(cli("keys", "revoke", stolen, "--reason", "stolen", "--yes"), 2, "--root-key FILE")
    assert "NEXT" not in str(env_keys(cli)), "no key is made in vain"
    cli.ok("keys", "revoke", stolen, "--reason", "stolen", "--yes", "--root-key", roots[0])
    assert ids(cli)["signing"] in held(cli).config_ids
    assert held(cli).root_ids == before.root_ids
    assert (held(cli).number, held(cli).generation) == (before.number + 2, 2)


def test_a_person_is_asked_and_told_of_a_hold(cli: Cli, daemon: Looks) -> None:
    old = ids(cli)["signing"]
    declined = cli("keys", "revoke", old, "--reason", "stolen", text="no\n")
    refused(declined, 1, "will never be believed again", "nothing was changed")
    refused(cli("keys", "revoke", old, "--reason", "stolen", "--json"), 2, "needs a yes")
    assert not cli.files.keyring.exists()
    daemon.says(("not-the-newest", "config.db"))
    told = cli.ok("keys", "revoke", old, "--reason", "stolen", text="y\n")
    assert "NO WORKER KNOWS OF THIS YET: the daemon holds (not-the-newest)" in told.err
    assert "adopt --db" in told.err
    again = cli.ok("keys", "revoke", old, "--reason", "stolen")
    assert "NO WORKER KNOWS" not in again.err
    assert "workers may not know of this yet" in again.err


@pytest.mark.parametrize("condition", ["not-the-newest", "foreign-state", "disk-full"])
def test_what_a_hold_keeps_from_workers_is_told(
    cli: Cli, daemon: Looks, condition: str, tmp_path: Path
) -> None:
    files = [str(tmp_path / "a"), str(tmp_path / "b")]
    daemon.says((condition, ""))
    said = f"NO WORKER KNOWS OF THIS YET: the daemon holds ({condition}) and publishes no keyring"
    assert said in cli.ok("keys", "rotate").err
    assert cli.json("keys", "rotate")["keyring"]["held_by"] == [condition]
    new = held(cli).keys[1].key_id
    note_signing(cli.files, held(cli), new)
    assert said in cli.ok("keys", "rotate", "--retire").err
    assert said in cli.ok("keys", "split-root", *files).err
    daemon.says(("broker-down", ""))
    staged = cli.ok("keys", "rotate", "--root-key", files[0])
    assert "NO WORKER" not in staged.err


def test_a_merge_ends_the_hold_that_it_is_for(cli: Cli, daemon: Looks) -> None:
    cli.ok("keys", "rotate")
    before, key = held(cli), load_ground(cli.folder, {}, {}).keys.signer().key
    other = seal_keyring(revoking(before, ids(cli)["signing-next"], "elsewhere", AT), key)
    cli.ok("keys", "rotate", "--hmac")
    KeyringFiles(cli.files).set_unmerged(other)
    cli.ok("keys", "revoke", ids(cli)["signing-next"], "--reason", "here", "--yes")
    daemon.says(("keyring-unmerged", ""))
    merged = cli.ok("keys", "merge")
    assert "NO WORKER" not in merged.err


@pytest.mark.parametrize(
    ("key", "reason", "code", "told"),
    [
        ("abc", "r", 2, "is no key id"),
        ("zzzzzzzz", "r", 2, "is no key id"),
        ("00000000", "r", 5, "no key 00000000 is known"),
        ("00000000", " ", 2, "Say in 1 to 200"),
        ("00000000", "x" * 201, 2, "201 characters"),
        ("00000000", "\udcff", 2, "no text in UTF-8"),
    ],
)
def test_what_cannot_be_revoked_is_told(cli: Cli, key: str, reason: str, code: int, told: str) -> None:
    refused(cli("keys", "revoke", key, "--reason", reason, "--yes"), code, told)
    refused(cli("keys", "revoke", key, "--yes"), 2, "--reason")


# roots and merging --------------------------------------------------------------------------------


def test_root_keys_go_into_two_new_private_files(cli: Cli, tmp_path: Path) -> None:
    first, signs = public_key(cli), ids(cli)["signing"]
    files = [str(tmp_path / "a"), str(tmp_path / "b")]
    refused(cli("keys", "split-root", files[0], files[0]), 2, "both keys would be in one file")
    (tmp_path / "a").write_text("mine")
    refused(cli("keys", "split-root", *files), 78, "others may read")
    (tmp_path / "a").unlink()
    _write(tmp_path / "a", signing_key_pem(load_ground(cli.folder, {}, {}).keys.signer().key))
    refused(cli("keys", "split-root", *files), 2, "signs configs")
    (tmp_path / "a").unlink()
    done = cli.ok("keys", "split-root", *files)
    assert "two places" in done.err
    assert {Path(file).stat().st_mode & 0o777 for file in files} == {0o600}
    assert (len(held(cli).root_ids), held(cli).config_ids) == (2, {signs})
    assert cli.json("keys", "public")["key_id"] in held(cli).root_ids
    sleeper_walks(cli, first)
    _write(tmp_path / "c", Path(files[0]).read_text())
    refused(cli("keys", "split-root", files[0], str(tmp_path / "c")), 2, "hold the same key")
    refused(cli("keys", "split-root", files[0]), 2, "Missing argument 'FILE2'")


def test_a_key_that_is_there_already_becomes_a_root_only_when_a_person_agrees(
    cli: Cli, tmp_path: Path
) -> None:
    files, found = [str(tmp_path / "a"), str(tmp_path / "b")], SigningKey.generate()
    _write(tmp_path / "a", signing_key_pem(found))
    name = key_id(bytes(found.verify_key))
    refused(
        cli("keys", "split-root", *files), 2, f"{files[0]} is there already, with the key {name}", "--yes"
    )
    refused(cli("keys", "split-root", *files, "--json"), 2, name, "--yes")
    refused(cli("keys", "split-root", *files, text="n\n"), 1, "nothing was changed")
    assert not cli.files.keyring.exists() and not (tmp_path / "b").exists()
    done = cli.ok("keys", "split-root", *files, text="y\n")
    assert f"{name} ({files[0]}) and" in done.out and f"({files[1]}) are the only roots" in done.out
    assert name in held(cli).root_ids
    again = cli.ok("keys", "split-root", *files)
    assert "Make it a root?" not in again.err


def test_a_second_root_that_cannot_be_made_leaves_no_first(cli: Cli, tmp_path: Path) -> None:
    files = [str(tmp_path / "a"), str(tmp_path / "no" / "folder")]
    refused(cli("keys", "split-root", *files), 78, "cannot be made")
    assert not (tmp_path / "a").exists() and not cli.files.keyring.exists()
    _write(tmp_path / "a", signing_key_pem(SigningKey.generate()))
    refused(cli("keys", "split-root", *files, "--yes"), 78, "cannot be made")
    assert (tmp_path / "a").exists(), "this run did not make it"


def fork_of(cli: Cli, key: SigningKey) -> Keyring:
    """Return another keyring after the one held, that knows nothing of the next."""
    return follow(held(cli), seal_keyring(adding(held(cli), [(b"\x58" + b"\x66" * 31, ["config"])], AT), key))


def test_two_keyrings_are_merged_by_a_root_of_both(cli: Cli) -> None:
    assert cli.json("keys", "merge")["merged"] is None
    rings, first = KeyringFiles(cli.files), public_key(cli)
    cli.ok("keys", "rotate")
    key = load_ground(cli.folder, {}, {}).keys.signer().key
    before = held(cli)
    other = follow(before, seal_keyring(revoking(before, ids(cli)["signing-next"], "elsewhere", AT), key))
    cli.ok("keys", "split-root", str(cli.folder.parent / "1.pem"), str(cli.folder.parent / "2.pem"))
    rings.set_unmerged(other.raw)
    refused(cli("keys", "merge"), 78, "no root of keyring 3 signed the other one")
    rings.set_unmerged(before.raw)
    assert cli.json("keys", "merge")["merged"] is None, "what it covers needs no merging"
    sleeper_walks(cli, first)


def test_what_either_keyring_revoked_stays_revoked(cli: Cli) -> None:
    first, rings = public_key(cli), KeyringFiles(cli.files)
    new = cli.json("keys", "rotate")["key_id"]
    key, before = load_ground(cli.folder, {}, {}).keys.signer().key, held(cli)
    other = follow(before, seal_keyring(revoking(before, new, "elsewhere", AT), key))
    cli.ok("keys", "split-root", str(cli.folder.parent / "1.pem"), str(cli.folder.parent / "2.pem"))
    rings.put(before)
    (cli.files.keyrings / "2.json").unlink()
    (cli.files.keyrings / "3.json").unlink()
    ours = follow(
        before, seal_keyring(adding(before, [(bytes(SigningKey(b"o" * 32).verify_key), ["root"])], AT), key)
    )
    rings.put(ours)
    rings.set_unmerged(other.raw)
    merged = cli.json("keys", "merge")
    assert merged == {"merged": 2, "keyring": {"number": 3, "generation": 2, "held_by": []}}
    assert list(held(cli).revoked) == [new]
    assert follow(other, held(cli).raw).number == 3
    assert rings.unmerged() is None
    sleeper_walks(cli, first)


# what is told -------------------------------------------------------------------------------------


def test_a_new_worker_is_given_the_root_that_signed_or_the_keyring(cli: Cli) -> None:
    refused(cli("keys", "public", "--keyring"), 5, "there is no keyring yet")
    first = cli.json("keys", "public")
    cli.ok("keys", "rotate")
    assert cli.json("keys", "public") == first
    assert cli.ok("keys", "public", "--keyring").out == cli.files.keyring.read_text() + "\n"
    assert cli.json("keys", "public", "--keyring")["keyring"] == cli.files.keyring.read_text()


@pytest.mark.parametrize(
    "command", ["", "rotate", "revoke", "split-root", "merge", "list", "public", "backup", "restore"]
)
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    shown = cli.ok("keys", *filter(None, [command]), "--help")
    assert shown.out.startswith("Usage: config-daemon keys")
    assert max(map(len, shown.out.splitlines())) <= 80


def test_the_hmac_key_is_kept_until_nothing_needs_it(cli: Cli) -> None:
    assert cli.json("keys", "rotate", "--hmac", "--retire")["retired"] is None
    note_signing(cli.files, held(cli), ids(cli)["signing"])
    old = ids(cli)["lkg-hmac"]
    rotated = cli.json("keys", "rotate", "--hmac")
    assert (rotated["old_key_id"], rotated["in_use"]) == (old, False)
    assert cli.json("keys", "list")["rotation_status"] == "in-progress"
    assert ids(cli)["lkg-hmac-old"] == old
    refused(
        cli("keys", "rotate", "--hmac", "--retire"), 1, "marks.json cannot be verified", "Start the daemon"
    )
    note_signing(cli.files, held(cli), ids(cli)["signing"])
    assert cli.json("keys", "rotate", "--hmac", "--retire")["retired"] == old
    assert "OLD" not in cli.files.environment.read_text()
    assert len(secrets_in(cli.files.environment.read_text())) == 3


def test_adopting_a_database_without_marks_starts_in_the_keyrings_generation(cli: Cli) -> None:
    cli.ok("keys", "revoke", ids(cli)["signing"], "--reason", "stolen", "--yes")
    cli.ok("keys", "rotate", "--hmac")
    cli.ok("adopt", "--db", "--yes")
    cli.ok("keys", "rotate", "--hmac", "--retire")
    from config_daemon.store.marks import load

    marks = load(cli.files.marks, load_ground(cli.folder, {}, {}).keys.hmac_keys())
    assert marks is not None and marks.generation == 2


# keys that somebody else took out of the keyring ----------------------------------------------------


def test_a_key_that_was_revoked_elsewhere_is_replaced_by_a_root(cli: Cli, roots: list[str]) -> None:
    first_ring, old = held(cli), ids(cli)["signing"]
    root = signing_key_from_pem(Path(roots[0]).read_text())
    other = adding(first_ring, [(bytes(SigningKey(b"o" * 32).verify_key), ["config"])], AT)
    rings = KeyringFiles(cli.files)
    rings.put(follow(first_ring, seal_keyring(other, root)))
    rings.put(follow(held(cli), seal_keyring(revoking(held(cli), old, "elsewhere", AT), root)))
    told = cli.ok("keys", "revoke", old, "--reason", "again", "--yes")
    assert "run `config-daemon keys rotate` with a root key" in told.err
    refused(cli("keys", "rotate"), 2, "--root-key FILE")
    new = cli.json("keys", "rotate", "--root-key", roots[0])["key_id"]
    assert (ids(cli)["signing"], new in held(cli).config_ids, new in held(cli).root_ids) == (new, True, False)


def test_a_key_that_was_retired_elsewhere_is_replaced_by_a_root(cli: Cli, roots: list[str]) -> None:
    """`.env` came back from a backup that is older than the rotation."""
    first, before = public_key(cli), cli.files.environment.read_bytes()
    lost = cli.json("keys", "rotate", "--root-key", roots[0])["key_id"]
    note_signing(cli.files, held(cli), lost)
    cli.ok("keys", "rotate", "--retire", "--root-key", roots[0])
    cli.files.environment.write_bytes(before)
    refused(cli("keys", "rotate"), 2, "--root-key FILE")
    new = cli.json("keys", "rotate", "--root-key", roots[1])["key_id"]
    note_signing(cli.files, held(cli), new)
    assert cli.json("keys", "rotate", "--retire", "--root-key", roots[1])["retired"] == [lost]
    assert (ids(cli)["signing"], held(cli).config_ids) == (new, {new})
    sleeper_walks(cli, first)


def test_as_root_what_is_made_belongs_to_whom_the_folder_belongs(
    cli: Cli, outside: Path, tmp_path: Path
) -> None:
    if os.geteuid() == 0:  # anybody else cannot give anything away, and need not
        os.chown(cli.folder, 65534, 65534)
        os.chown(cli.files.environment, 65534, 65534)
        text = cli.files.environment.read_text()
        for name, credential in (("CONFIG_MASTER_KEY", "master-key"), ("LKG_HMAC_KEY", "lkg-hmac-key")):
            found = re.search(f"{name}_BASE64=(.*)", text)
            assert found
            _write(outside / credential, found[1])
    cli.ok("keys", "rotate", "--new-key-file", str(tmp_path / "next.pem"))
    owner = cli.folder.stat().st_uid
    made = [cli.files.keyring, cli.files.keyrings, cli.files.keyrings / "1.json", cli.folder / "keys.lock"]
    assert {path.stat().st_uid for path in made} == {owner}
    assert (tmp_path / "next.pem").stat().st_uid == os.geteuid()
