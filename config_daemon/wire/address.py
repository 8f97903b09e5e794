"""Where a broker is: an `mqtt://`, `mqtts://`, `ws://` or `wss://` URL, taken apart.

Laws: printing an address never shows its password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from config_daemon.errors import SettingsError

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """One broker; `str()` is fit for logs."""

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str = "/"

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """Read an MQTT URL.

        Raises: SettingsError; its text repeats neither user name nor password.
        """
        wanted = "an MQTT URL looks like mqtt://user:password@host:1883 (or mqtts, ws, wss)"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise SettingsError(f"the broker's URL cannot be read: {error}", suggestion=wanted) from error
        if parts.scheme not in _PORTS:
            raise SettingsError(f"unknown scheme {parts.scheme!r} in the broker's URL", suggestion=wanted)
        if not parts.hostname or parts.query or parts.fragment:
            raise SettingsError("the broker's URL lacks a host, or has parts after it", suggestion=wanted)
        return cls(
            parts.scheme,
            parts.hostname,
            port or _PORTS[parts.scheme],
            None if parts.username is None else unquote(parts.username),
            None if parts.password is None else unquote(parts.password),
            parts.path or "/",
        )

    @property
    def secure(self) -> bool:
        """Tell whether the connection is encrypted."""
        return self.scheme in ("mqtts", "wss")

    @property
    def transport(self) -> Literal["tcp", "websockets"]:
        """Return paho's word for the transport."""
        return "websockets" if self.scheme in ("ws", "wss") else "tcp"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"
