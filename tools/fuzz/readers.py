"""The readers: what each takes, what it may answer, inputs that it must accept, and how its bodies are sealed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from config_daemon.errors import CacheError, RejectedUpdate, SettingsError
from config_daemon.store import cache, dotenv, marks
from config_daemon.wire.beacon import BEACON, parse_beacon
from config_daemon.wire.keyring import follow, installed_keyring, of_key, read_keyring
from config_daemon.wire.mac import seal_hmac
from config_daemon.wire.messages import CONFIG_UPDATE, HEALTH, parse_health, parse_update
from config_daemon.wire.sealing import seal, unseal
from config_daemon.wire.tail import MAX_MESSAGE_BYTES, TAIL_BYTES
from config_daemon.worker.keep import Keep
from tools.fuzz import bodies, env_texts, large, raws, seeds
from tools.wire_messages import KEYS

ALPHA = KEYS["alpha"]
TRUSTED = [ALPHA.verify_key]
MIB = 1 << 20
Read = Callable[[bytes], object]
Mutants = Callable[[random.Random, Sequence[bytes]], Iterator[bytes]]


class Lost(Exception):
    """A worker's file counts as damaged: its typed refusal."""


@dataclass(frozen=True)
class Reader:
    """One kind of input: `reads` are all fed with it, and the first of them tells whether it was accepted."""

    name: str
    reads: Sequence[Read]
    refusals: tuple[type[Exception], ...]
    good: Sequence[bytes]  # sealed
    seal: Callable[[bytes], bytes] = lambda body: body
    plain: Sequence[bytes] = ()  # bodies to mutate before they are sealed
    by_body: Mapping[str, Mutants] = field(default_factory=lambda: bodies.CLASSES)
    by_raw: Mapping[str, Mutants] = field(default_factory=lambda: raws.CLASSES)
    large: Callable[[random.Random, Sequence[bytes], int, int], tuple[str, bytes]] = large.large_body
    most_bytes: int = MIB - 200  # of a body, so that its tail still fits into 1 MiB


@contextmanager
def scratch() -> Iterator[Path]:
    """Lend a new folder for `readers`: in memory where there is such a place, for a million files."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    with TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def readers(folder: Path) -> dict[str, Reader]:
    """Return every reader; those of files read them in `folder`, which belongs to the caller."""
    every = [
        _config(),
        _health(),
        _beacon(),
        _keyring(),
        _marks(folder),
        _lkg(folder),
        _env(folder),
        _kept(folder),
    ]
    return {reader.name: reader for reader in every}


def reason(error: Exception) -> str:
    """Return what a typed refusal is counted as: its reason, or what lies behind it."""
    if isinstance(error, RejectedUpdate):
        return error.reason
    if isinstance(error, CacheError):
        behind = error.__cause__
        return behind.reason if isinstance(behind, RejectedUpdate) else type(behind).__name__
    if isinstance(error, SettingsError):
        return error.contexts[0].error_type
    return type(error).__name__


def _sealed(kind: str) -> Callable[[bytes], bytes]:
    return lambda body: seal(body, kind, ALPHA)


def _signed(name: str, kind: str, parse: Read, plain: Sequence[bytes]) -> Reader:
    def read(raw: bytes) -> object:
        body, _ = unseal(raw, kind, TRUSTED)
        return parse(body)

    sealed = _sealed(kind)
    most = MAX_MESSAGE_BYTES - TAIL_BYTES
    return Reader(name, [read], (RejectedUpdate,), [*map(sealed, plain)], sealed, plain, most_bytes=most)


def _config() -> Reader:
    return _signed("unseal", CONFIG_UPDATE, parse_update, seeds.UPDATES)


def _health() -> Reader:
    return _signed("health", HEALTH, parse_health, seeds.HEALTHS)


def _beacon() -> Reader:
    return _signed("beacon", BEACON, parse_beacon, seeds.BEACONS)


def _keyring() -> Reader:
    first = of_key(ALPHA.verify_key)
    held = follow(first, _sealed(seeds.KEYRING)(seeds.HELD_KEYRING))
    reads: list[Read] = [
        lambda raw: follow(held, raw),
        lambda raw: read_keyring(raw, first.roots),
        installed_keyring,
    ]
    plain, sealed = seeds.KEYRINGS, _sealed(seeds.KEYRING)
    most = MAX_MESSAGE_BYTES - TAIL_BYTES
    return Reader("keyring", reads, (RejectedUpdate,), [*map(sealed, plain)], sealed, plain, most_bytes=most)


def _marks(folder: Path) -> Reader:
    path, key = folder / "marks.json", seeds.HMAC_KEY

    def read(raw: bytes) -> object:
        path.write_bytes(raw)
        return marks.load(path, (key,))

    def sealed(body: bytes) -> bytes:
        return seal_hmac(body, marks.MARKS, key)

    return Reader("marks", [read], (CacheError,), [*map(sealed, seeds.MARKS)], sealed, seeds.MARKS)


def _lkg(folder: Path) -> Reader:
    path, key = folder / "config.lkg.json", seeds.HMAC_KEY

    def read(raw: bytes) -> object:
        path.write_bytes(raw)
        return cache.load(path, [key])

    def sealed(body: bytes) -> bytes:
        return seal_hmac(body, cache.LKG, key)

    by_body = {**bodies.CLASSES, "messages inside": _messages_inside}
    return Reader("lkg", [read], (CacheError,), [*map(sealed, seeds.LKGS)], sealed, seeds.LKGS, by_body)


def _messages_inside(rng: random.Random, good: Sequence[bytes]) -> Iterator[bytes]:
    """Mutate a sealed message that a cache holds as text, or the config beside it."""
    mutants = {
        (name, turn): make(rng, [text])
        for turn, text in enumerate(seeds.UPDATES)
        for name, make in bodies.CLASSES.items()
    }
    every = list(mutants.values())
    while True:
        members = json.loads(rng.choice(good))
        name = rng.choice(list(members["sealed"]) or ["a"])
        members["sealed"][name] = next(rng.choice(every)).decode("utf-8", "surrogateescape")
        yield json.dumps(members).encode()


def _env(folder: Path) -> Reader:
    path = folder / ".env"

    def read(raw: bytes) -> object:
        path.write_bytes(raw)
        return dotenv.read(path)

    by_raw = {name: raws.CLASSES[name] for name in _NO_TAIL}
    return Reader(
        "env", [read], (SettingsError,), seeds.ENVS, plain=seeds.ENVS, by_body=env_texts.CLASSES, by_raw=by_raw,
        large=large.large_file, most_bytes=MIB,
    )  # fmt: skip


_NO_TAIL = ("bit flips", "byte edits", "splices", "cuts", "chunks", "insertions", "noise")


def _kept(folder: Path) -> Reader:
    """Return the reader of a worker's state; it refuses nothing, but tells that it was lost."""
    keep = Keep(folder / "state", "anchor")
    path = folder / "state" / "stt-worker.state"

    def read(raw: bytes) -> object:
        path.write_bytes(raw)
        kept = keep.load("stt-worker")
        if kept.lost:
            raise Lost
        return kept

    def sealed(body: bytes) -> bytes:
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    by_raw = {name: raws.CLASSES[name] for name in _NO_TAIL}
    return Reader("state", [read], (Lost,), [*map(sealed, seeds.KEPT)], sealed, seeds.KEPT, by_raw=by_raw)
