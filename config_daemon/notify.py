"""Tell systemd how we are: one datagram to the socket that it names.

Source: sd_notify(3), "Notes": the protocol, needing no library.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states to `$NOTIFY_SOCKET`; without one every call does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def send(self, state: str) -> None:
        """Send one or more `KEY=value` lines; a systemd that does not listen is no problem of ours."""
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s,
        ):
            s.sendto(state.encode(), self._address)
