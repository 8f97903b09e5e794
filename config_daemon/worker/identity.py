"""Who a worker is: its own keys, made once, and a number that grows with every start.

Laws: the seeds are made on the worker, are durable before they sign, and are readable by its user alone;
keys that were there are never replaced by new ones in silence; a start has its number on disk before it
says anything, so that no later start says less.

Source: docs/protocol.md "Status".
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from config_daemon.errors import KeyUnavailable
from config_daemon.wire.values import MAX_INTEGER
from config_daemon.wire.workerkeys import SEED_BYTES, PublicKeys, WorkerKeys
from config_daemon.worker.durable import DAMAGED, framed, members_of, read, replace

KEYS, PUBLIC, BOOT = "worker.keys", "worker.public.json", "worker.boot"
_SEEDS = ("signing_seed", "box_seed")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_SEED = re.compile(rf"[0-9a-f]{{{2 * SEED_BYTES}}}")


def own_keys(folder: Path, worker: str, entropy: Callable[[int], bytes] = os.urandom) -> WorkerKeys:
    """Return a worker's keys; at its first start they are made, and the public halves laid beside them.

    Raises: KeyUnavailable when they are damaged, another program's, others may read them, they are gone, or
    cannot be made.
    """
    path = folder / KEYS
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = _kept(path, worker) or _made(path, worker, entropy)
        _tell(folder / PUBLIC, keys.public.to_text().encode())
    except OSError as error:
        raise KeyUnavailable(
            f"the worker's keys in {folder} cannot be read or made: {error.strerror}",
            suggestion="The worker's user must be able to read and write that folder, and its disk have space.",
        ) from error
    return keys


def known_keys(folder: Path, worker: str) -> PublicKeys | None:
    """Return the public halves of the keys that are there, None before the first start; nothing is written.

    Raises: KeyUnavailable when they are damaged, others may read them, or they cannot be read.
    """
    try:
        keys = _kept(folder / KEYS, worker)
    except OSError as error:
        raise KeyUnavailable(
            f"the worker's keys in {folder} cannot be read: {error.strerror}",
            suggestion="Run this as the worker's user, or name the right folder.",
        ) from error
    return keys.public if keys else None


def known_name(folder: Path) -> str | None:
    """Return the name that was laid beside the keys; None where there is none, or it cannot be read."""
    try:
        return PublicKeys.from_text(read(folder / PUBLIC).decode()).worker
    except (OSError, ValueError, KeyUnavailable):
        return None


def next_boot(folder: Path, unix_ms: int) -> int:
    """Return the number of this start, which is on disk now: above the one before, and not below the clock.

    Raises: OSError when it cannot be made durable.
    """
    path = folder / BOOT
    try:
        before = members_of(read(path))["boot"]
        if type(before) is not int:
            raise TypeError("a start's number is an integer")
    except FileNotFoundError:
        before = 0
    except DAMAGED:
        before = 0  # the clock is what is left; should it be behind, the daemon hears of us when it is not
    boot = min(max(before + 1, unix_ms, 1), MAX_INTEGER)  # at its end it stays: only new keys begin anew
    replace(path, framed({"boot": boot}))
    return boot


def _kept(path: Path, worker: str) -> WorkerKeys | None:
    try:
        content = read(path)
        if path.lstat().st_mode & _OTHERS:
            raise _unusable(path, "others than its owner may read it", f"`chmod 600 {path}`, if nobody has.")
        members = members_of(content)
        is_ours = not members.keys().isdisjoint(_SEEDS)  # what is whole and has none, another program wrote
        seeds = [members[name] for name in _SEEDS] if is_ours else []
        if not all(isinstance(seed, str) and _SEED.fullmatch(seed) for seed in seeds):
            raise ValueError("a seed is 32 bytes in hex")
    except FileNotFoundError:
        _check_first_start(path)
        return None
    except DAMAGED as error:
        raise _unusable(path, "it is damaged", _RESTORE) from error
    if not is_ours:
        raise _unusable(
            path, "it belongs to another worker program", "Give this one a state folder of its own."
        )
    signing, box = map(bytes.fromhex, seeds)
    return WorkerKeys(worker, signing, box)


def _check_first_start(path: Path) -> None:
    if any(path.with_name(name).exists() for name in (PUBLIC, BOOT)):
        raise _unusable(path, "it is gone, and this worker has had keys before", _RESTORE)


def _made(path: Path, worker: str, entropy: Callable[[int], bytes]) -> WorkerKeys:
    signing, box = entropy(SEED_BYTES), entropy(SEED_BYTES)
    replace(path, framed({"version": 1, "signing_seed": signing.hex(), "box_seed": box.hex()}))
    return WorkerKeys(worker, signing, box)


def _tell(path: Path, content: bytes) -> None:
    """Lay the public halves where a person finds them; what is there already is left alone."""
    try:
        if read(path) == content:
            return
    except (FileNotFoundError, ValueError):
        pass
    replace(path, content, 0o644)


_RESTORE = (
    f"Put it back from a copy. Without one: delete it, {PUBLIC} and {BOOT}, start the worker, and tell the "
    f"daemon of the new keys with `config-daemon worker add NAME --keys {PUBLIC} --replace`."
)


def _unusable(path: Path, why: str, suggestion: str) -> KeyUnavailable:
    return KeyUnavailable(f"{path} cannot be used: {why}", suggestion=suggestion)
