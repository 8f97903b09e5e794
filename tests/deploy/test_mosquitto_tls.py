"""The shipped broker speaks TLS only, and shows and asks for certificates as its README says."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.broker_conf import password_line
from tests.deploy.permissions import NOT_AUTHORISED, SERVICE, WORKER
from tests.deploy.shipped import Fleet, make
from tests.raw_client import RawClient, Refused


def eventually(action: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Ask again and again; each question is a round trip with the broker, so nothing spins."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if action():
            return True
    return False


def test_plain_text_gets_no_answer(fleet: Fleet) -> None:
    plain = fleet.broker.url_for("config-daemon", "secret of config-daemon").replace("mqtts:", "mqtt:")
    with pytest.raises(Refused) as refused:
        RawClient(plain)
    assert refused.value.code is None


def test_only_a_certificate_of_this_ca_and_for_this_host_is_believed(fleet: Fleet, tmp_path: Path) -> None:
    url = fleet.broker.url_for("reader", "secret of reader")
    RawClient(url.replace("127.0.0.1", "localhost"), ca=fleet.ca).close()
    assert make(tmp_path / "stranger", "ca").returncode == 0
    for ca in (None, tmp_path / "stranger" / "ca.crt"):
        with pytest.raises(ssl.SSLCertVerificationError):
            RawClient(url, ca=ca)
    strict = ssl.create_default_context(cafile=fleet.ca)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 asks for by default
    for name, believed in (("127.0.0.1", True), ("broker.example", False)):
        with socket.create_connection(("127.0.0.1", fleet.broker.port), timeout=5) as connection:
            if believed:
                strict.wrap_socket(connection, server_hostname=name).close()
            else:
                with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'broker\.example'"):
                    strict.wrap_socket(connection, server_hostname=name)


def test_with_required_certificates_a_password_is_not_enough(deploy: Callable[..., Fleet]) -> None:
    fleet = deploy(require_certificate=True)
    own = (fleet.folder / f"client-{WORKER}.crt", fleet.folder / f"client-{WORKER}.key")
    assert fleet.connect("worker", certificate=own).publish("system/presence/demo", b"online") < 0x80
    with pytest.raises((Refused, OSError)):
        fleet.connect("worker")
    with pytest.raises(Refused) as refused:
        RawClient(fleet.broker.url_for(SERVICE, "wrong"), ca=fleet.ca, certificate=own)
    assert refused.value.code == NOT_AUTHORISED


def test_a_reload_takes_new_users_and_a_new_certificate_without_ending_connections(fleet: Fleet) -> None:
    daemon = fleet.connect("daemon")
    with (fleet.folder / "passwords").open("a") as passwords:
        passwords.write(password_line("router", "fresh"))
    before = (fleet.folder / "server.crt").read_bytes()
    for name in ("server.key", "server.crt"):
        (fleet.folder / name).unlink()
    assert make(fleet.folder, "server", "127.0.0.1").returncode == 0
    os.kill(fleet.broker.pid, signal.SIGHUP)

    def new_user_gets_in() -> bool:
        try:
            RawClient(fleet.broker.url_for("router", "fresh"), ca=fleet.ca).close()
        except Refused:
            return False
        return True

    def new_certificate_is_shown() -> bool:
        context = ssl.create_default_context(cafile=fleet.ca)
        with (
            socket.create_connection(("127.0.0.1", fleet.broker.port), timeout=5) as connection,
            context.wrap_socket(connection, server_hostname="127.0.0.1") as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
        return shown is not None and shown != ssl.PEM_cert_to_DER_cert(before.decode())

    assert eventually(new_user_gets_in)
    assert eventually(new_certificate_is_shown)
    assert daemon.publish("system/health/config-daemon", b"x") < 0x80
