"""N7: where a secret may have got to. Every form that a program may have given it is looked for."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator
from pathlib import Path

from tools.faults.checker.ear import Heard

_SQLITE = ("config.db", "status.db")  # nobody opens these but SQLite: their copies are looked at
_FULL_OF_SECRETS = (".env",)


def n7(secrets: list[str], heard: list[Heard], folders: list[Path], copies: list[Path]) -> Iterator[str]:
    """No secret is in a topic, a message, a log, a command line or a file that is not meant for it."""
    needles = {form: number for number, secret in enumerate(secrets) for form in forms(secret)}
    for one in heard:
        for needle, number in needles.items():
            if needle in one.raw or needle in one.topic.encode():
                yield f"secret {number} is in a message on {one.topic}"
    for path in [*_files(folders), *copies]:
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            yield from (
                f"secret {number} is in {path.name}"
                for needle, number in needles.items()
                if needle in content
            )


def forms(secret: str) -> set[bytes]:
    """Return the bytes that a secret may look like: as text, in base64, in hex, and unwrapped where it is base64."""
    plain = {secret.encode()}
    with contextlib.suppress(binascii.Error, ValueError):
        raw = base64.b64decode(secret, validate=True)
        plain |= {raw} if len(raw) >= 16 else set()
    every = set(plain)
    for one in plain:
        every |= {
            base64.b64encode(one).rstrip(b"="),
            base64.urlsafe_b64encode(one).rstrip(b"="),
            one.hex().encode(),
        }
    return every


def _files(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            meant = path.name.startswith((*_SQLITE, *_FULL_OF_SECRETS))
            if path.is_file() and not path.is_symlink() and not meant:
                yield path
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        yield path
