"""Give memory back to the system.

glibc keeps what was freed between things that stay, and a daemon that published ten thousand configs once keeps
the room for what came by on the way. Elsewhere than with glibc nothing is done.

Source: malloc_trim(3).
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return the heap's free pages to the system; takes about a millisecond."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
