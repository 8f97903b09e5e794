"""A full disk, without one: the kernel cuts every file of this process short.

Laws: bytes that still fit are written before the error comes, as on a real disk; it ends with the block.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def full_disk(free_bytes: int = 0) -> Iterator[None]:
    """Let no file grow beyond `free_bytes`; Python ignores SIGXFSZ, so a write fails with an OSError."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
