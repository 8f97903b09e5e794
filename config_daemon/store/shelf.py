"""Read single messages back from a cache file: a large fleet's do not all stay in memory.

Laws: an open file is read, whatever became of its name meanwhile; what is read is nobody's word for anything,
and whoever asks compares its digest.
"""

from __future__ import annotations

import json
import os


class CacheShelf:
    """One cache file, open as long as any message is read from it; `descriptor` stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)

    def read(self, offset: int, length: int) -> bytes | None:
        """Return the message whose text stands there as a JSON string; None when none can be read."""
        try:
            text = json.loads(os.pread(self._descriptor, length, offset))
            return text.encode("utf-8") if isinstance(text, str) else None
        except (OSError, ValueError, RecursionError):
            return None

    def __del__(self) -> None:
        os.close(self._descriptor)
