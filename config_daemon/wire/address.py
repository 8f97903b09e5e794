"""Where a broker is: an `mqtt://`, `mqtts://`, `ws://` or `wss://` URL, taken apart.

Laws: printing an address never shows its password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from config_daemon.errors import SettingsError

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_WANTED = (
    "an MQTT URL looks like mqtt://user:password@host:1883 (or mqtts, ws, wss);"
    " write / ? # @ in a password as %2F %3F %23 %40"
)


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
        try:
            parts, port = urlsplit(url), urlsplit(url).port
        except ValueError:
            parts, port = None, None
        # what the parser says quotes the URL, password included: its error is not even kept as a cause
        if parts is None:
            raise SettingsError("the broker's URL has a malformed host or port", suggestion=_WANTED)
        if parts.scheme not in _PORTS:
            raise SettingsError("the broker's URL has an unknown scheme, or none", suggestion=_WANTED)
        if not parts.hostname or parts.query or parts.fragment or "@" in parts.path:
            raise SettingsError("the broker's URL lacks a host, or has parts after it", suggestion=_WANTED)
        return cls(
            parts.scheme,
            parts.hostname,
            _PORTS[parts.scheme] if port is None else port,
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
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"
