"""Open one MQTT connection in a thread of its own, so that a black hole cannot stall the loop.

Laws: every connection gets a fresh client (paho re-sends what an old one had in flight, and could
put an older retained value back); the thread ends in one `inbox.put` and touches no state; a secure
scheme never falls back to plain text.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from config_daemon.daemon.batching import BatchingClient
from config_daemon.daemon.events import Dialed
from config_daemon.daemon.link import Link
from config_daemon.wire.address import BrokerAddress

CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """How the daemon proves who it is to the broker, and whom it believes."""

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    password: str | None = field(default=None, repr=False)


def dial(
    address: BrokerAddress,
    credentials: Credentials,
    client_id: str,
    keepalive_seconds: int,
    will: tuple[str, bytes] | None,
    put: Callable[[Dialed], None],
    largest_packet_bytes: int | None = None,
) -> None:
    """Start connecting; ends in `put(Dialed(...))` once the CONNECT is sent or the attempt has failed.

    The broker keeps to itself what is longer than `largest_packet_bytes`.
    """

    def work() -> None:
        try:
            client = make_client(address, credentials, client_id)
            if will is not None:
                client.will_set(*will, qos=1, retain=True)
            link = Link(client)
            wishes: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            if largest_packet_bytes is not None:
                wishes.MaximumPacketSize = largest_packet_bytes
            client.connect(address.host, address.port, keepalive=keepalive_seconds, properties=wishes)
            _no_delay(client)
        except Exception as error:  # noqa: BLE001 - a thread that died in silence would never be dialed again
            put(Dialed(None, explain(error, address)))
        else:
            put(Dialed(link, None))

    threading.Thread(target=work, name="dial", daemon=True).start()


def make_client(address: BrokerAddress, credentials: Credentials, client_id: str) -> BatchingClient:
    """Return a client for the address, not connected yet.

    Raises: OSError, ValueError when a certificate cannot be read.
    """
    client = BatchingClient(
        CallbackAPIVersion.VERSION2,
        client_id,
        protocol=MQTTProtocolVersion.MQTTv5,
        transport=address.transport,
    )
    client.connect_timeout = CONNECT_SECONDS
    client.max_inflight_messages_set(0)
    client.max_queued_messages_set(0)
    if address.username is not None:
        client.username_pw_set(address.username, credentials.password or address.password)
    if address.secure:
        client.tls_set_context(_tls_context(credentials))
    if address.transport == "websockets":
        client.ws_set_options(path=address.path)
    return client


def explain(error: Exception, address: BrokerAddress) -> str:
    """Say in a person's words why no connection came about; names no credential."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"broker-tls: {address} shows a certificate that is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"broker-tls: no TLS with {address}: {error.reason or error}"
    if isinstance(error, ConnectionRefusedError):
        return f"broker-down: nothing listens at {address}"
    if address.secure and isinstance(error, ConnectionError):
        return (
            f"broker-tls: {address} ended the connection during the TLS handshake; does it speak TLS there?"
        )
    return f"broker-down: {address}: {error}"


def _no_delay(client: Client) -> None:
    """Send small messages at once: without this the slowest of a hundred waits 30 ms for an ACK."""
    connection: Any = client.socket()
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tls_context(credentials: Credentials) -> ssl.SSLContext:
    context: Any = ssl.create_default_context(cafile=credentials.ca_file and str(credentials.ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if credentials.certificate_file:
        context.load_cert_chain(credentials.certificate_file, credentials.key_file)
    result: ssl.SSLContext = context
    return result
