"""The people with the keys: who stages, retires and revokes them, keeps copies, and restores old ones.

Laws: the steps are those of `config-daemon keys …`, by the same pure functions on the same files; keys are
made from counters, so that a failure comes again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nacl.signing import SigningKey, VerifyKey

from config_daemon.core.keyring import adding, keeping_roots, merging, removing, revoking
from config_daemon.store.dotenv import read
from config_daemon.store.dotenv_new import quote
from config_daemon.store.files import Files
from config_daemon.store.ground import Ground
from config_daemon.store.keyfiles import NEXT_PRIVATE_KEY, PRIVATE_KEY, PUBLIC_KEY
from config_daemon.store.keylist import SIGNING, HeldKey
from config_daemon.store.keyrecord import note
from config_daemon.store.keyrings import KeyringFiles
from config_daemon.wire.keyring import (
    ROOT,
    Keyring,
    KeyringBody,
    follow,
    kept_keyring,
    of_key,
    seal_keyring,
)
from config_daemon.wire.keys import key_id, public_key_pem, signing_key_from_pem, signing_key_pem
from config_daemon.wire.messages import timestamp


class Clock(Protocol):
    """Tells what time the people believe it is."""

    def unix_ms(self) -> int:
        """Return Unix milliseconds."""


class Home(Protocol):
    """A host as the people with its keys see it: a data folder, simulated or real."""

    @property
    def folder(self) -> Path:
        """The data folder."""

    @property
    def files(self) -> Files:
        """What is in it."""

    @property
    def ground(self) -> Ground:
        """Its settings and keys."""

    @property
    def clock(self) -> Clock:
        """Its time."""


def name(key: SigningKey) -> str:
    """Return the id of a key."""
    return key_id(bytes(key.verify_key))


@dataclass(frozen=True)
class KeyCopy:
    """A copy of everything about keys in a data folder."""

    folder: Path


class KeyHolder:
    """Has every private key that was ever made for one host, and its root keys."""

    def __init__(self, host: Home) -> None:
        self._host, self.rings = host, KeyringFiles(host.files)
        self._made = 0
        self.dated = ""  # what stands in keyrings instead of the time
        first = host.ground.keys.signer().key
        self.first: VerifyKey = first.verify_key
        self.keys = {name(first): first}
        self.roots: list[SigningKey] = []  # offline ones
        self._issued: list[Keyring] = []

    @property
    def ever(self) -> list[VerifyKey]:
        """Return every public key that was ever in use."""
        return [key.verify_key for key in self.keys.values()]

    @property
    def held(self) -> Keyring:
        """Return the newest keyring in the folder."""
        return self.rings.installed() or of_key(self.first)

    def stage(self, *, backed_up: bool = True) -> SigningKey:
        """Make a key, and list it beside the others."""
        fresh, active = self._fresh(), self._active()
        self.set_env(**{NEXT_PRIVATE_KEY: signing_key_pem(fresh)})
        roles = next(one.roles for one in self.held.keys if one.key_id == name(active))
        self._issue(adding(self.held, [(bytes(fresh.verify_key), roles)], self._now()))
        if backed_up:
            note(self._host.files, [HeldKey(SIGNING, name(fresh), "", None)], self._now())
        return fresh

    def may_retire(self, signs: str) -> bool:
        """Tell whether the staged key signs, and the other one is still listed."""
        staged = self.staged
        return staged is not None and name(staged) == signs and name(self._active()) in self.held.config_ids

    def retire_old(self) -> None:
        """Take the key that the staged one replaced out of the keyring."""
        self.retire(self._active())

    def retire(self, gone: SigningKey) -> None:
        """Take the old key out of `.env` and of the keyring; the staged one takes its place."""
        self._promote()
        self._issue(removing(self.held, name(gone), self._now()))

    def revoke(self, gone: SigningKey) -> None:
        """Revoke a key; the other one signs, a fresh one where there is none."""
        if self.held.config_ids == {name(gone)}:
            self.stage(backed_up=False)
        self._issue(revoking(self.held, name(gone), "stolen", self._now()))
        if self._active() == gone:
            self._promote()
        else:
            self.set_env(**{NEXT_PRIVATE_KEY: None})

    def split_root(self) -> None:
        """Move the root role to two keys that lie elsewhere."""
        self.roots = [self._fresh(), self._fresh()]
        listed = [(bytes(key.verify_key), [ROOT]) for key in self.roots]
        self._issue(adding(self.held, listed, self._now()))
        self._issue(keeping_roots(self.held, map(name, self.roots), self._now()))

    def merge(self) -> None:
        """Make one keyring of two that know nothing of each other."""
        raw = self.rings.unmerged()
        assert raw is not None
        self._issue(merging(self.held, kept_keyring(raw), self._now()))

    def put_back(self) -> None:
        """Put the newest keyring that anybody kept into the folder, and a key that it lists into `.env`."""
        newest = max([self.held, *self._issued], key=lambda one: one.number)
        if newest.number:
            self.rings.put(newest)
        if name(self._active()) not in newest.config_ids:
            listed = next(key for key_name, key in self.keys.items() if key_name in newest.config_ids)
            self.set_env(**{
                PRIVATE_KEY: signing_key_pem(listed), PUBLIC_KEY: public_key_pem(listed.verify_key),
                NEXT_PRIVATE_KEY: None,
            })  # fmt: skip

    @property
    def staged(self) -> SigningKey | None:
        """Return the key that `.env` holds beside the active one."""
        entries = read(self._host.files.environment).entries
        return self._in_env(NEXT_PRIVATE_KEY) if NEXT_PRIVATE_KEY in entries else None

    def copy(self) -> KeyCopy:
        """Copy `.env` and keyrings, as `keys backup` does."""
        self._made += 1
        place = KeyCopy(self._host.folder.parent / f"keys-{self._made}")
        place.folder.mkdir()
        for path in self._paths():
            if path.is_dir():
                shutil.copytree(path, place.folder / path.name)
            elif path.exists():
                shutil.copy2(path, place.folder / path.name)
        return place

    def restore(self, copy: KeyCopy) -> None:
        """Put such a copy in place of what is there; what else `.env` says stays as it is."""
        entries = read(copy.folder / self._host.files.environment.name).entries
        names = (PRIVATE_KEY, PUBLIC_KEY, NEXT_PRIVATE_KEY)
        self.set_env(
            **{variable: entries[variable].value if variable in entries else None for variable in names}
        )
        for path in (self._host.files.keyring, self._host.files.keyrings):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            kept = copy.folder / path.name
            if kept.is_dir():
                shutil.copytree(kept, path)
            elif kept.exists():
                shutil.copy2(kept, path)

    def _paths(self) -> list[Path]:
        files = self._host.files
        return [files.environment, files.keyring, files.keyrings]

    def _fresh(self) -> SigningKey:
        self._made += 1
        key = SigningKey(self._made.to_bytes(32, "big"))
        self.keys[name(key)] = key
        return key

    def _active(self) -> SigningKey:
        return self._in_env(PRIVATE_KEY)

    def _in_env(self, variable: str) -> SigningKey:
        from config_daemon.store.dotenv import read

        return signing_key_from_pem(read(self._host.files.environment).entries[variable].value)

    def _promote(self) -> None:
        coming = self._in_env(NEXT_PRIVATE_KEY)
        self.set_env(
            **{
                PRIVATE_KEY: signing_key_pem(coming),
                PUBLIC_KEY: public_key_pem(coming.verify_key),
                NEXT_PRIVATE_KEY: None,
            }
        )

    def _issue(self, body: KeyringBody) -> None:
        """Seal a keyring with a root of the one before that the new one lists too."""
        listed = {one.key_id for one in body.keys if ROOT in one.roles}
        signer = next(key for key_name, key in self.keys.items() if key_name in listed & self.held.root_ids)
        self._issued.append(follow(self.held, seal_keyring(body, signer)))
        self.rings.put(self._issued[-1])

    def set_env(self, **values: str | None) -> None:
        path = self._host.files.environment
        kept = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in values]
        new = [f"{variable}={quote(value)}" for variable, value in values.items() if value is not None]
        beside = path.with_name(".env.keys")
        beside.write_text("\n".join([*kept, *new]) + "\n")
        beside.chmod(0o600)
        beside.replace(path)

    def _now(self) -> str:
        return self.dated or timestamp(self._host.clock.unix_ms())
