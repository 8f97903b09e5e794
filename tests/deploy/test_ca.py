"""The CA script: makes what is missing, never overwrites, keeps keys private."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.deploy.shipped import make


def names(certificate: Path) -> list[str]:
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in extension.value]


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_server_certificate_covers_every_host_by_its_kind(tmp_path: Path) -> None:
    assert make(tmp_path, "server", "broker.example", "10.0.0.5", "::1", "*.fleet.example").returncode == 0
    assert names(tmp_path / "server.crt") == ["broker.example", "10.0.0.5", "::1", "*.fleet.example"]
    leaf = x509.load_pem_x509_certificate((tmp_path / "server.crt").read_bytes())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes()))
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_private_keys_are_private_and_nothing_else_is_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    make(folder, "server", "a.example")
    make(folder, "client", "cam-1")
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in folder.iterdir()}
    assert modes == {
        "ca.key": "0o600",
        "ca.crt": "0o644",
        "server.key": "0o600",
        "server.crt": "0o644",
        "client-cam-1.key": "0o600",
        "client-cam-1.crt": "0o644",
    }


def test_running_it_again_changes_nothing(tmp_path: Path) -> None:
    make(tmp_path, "server", "a.example", "10.0.0.1")
    before = contents(tmp_path)
    for arguments in (("ca",), ("server", "a.example"), ("server", "10.0.0.1", "a.example")):
        done = make(tmp_path, *arguments)
        assert done.returncode == 0 and "kept" in done.stderr
    assert contents(tmp_path) == before


def test_a_name_that_the_certificate_lacks_is_told_and_nothing_is_replaced(tmp_path: Path) -> None:
    make(tmp_path, "server", "a.example")
    before = contents(tmp_path)
    done = make(tmp_path, "server", "a.example", "10.0.0.9")
    assert done.returncode == 1
    assert "does not cover 10.0.0.9; move it away" in done.stderr
    assert contents(tmp_path) == before


def test_an_interrupted_run_is_finished_with_the_keys_that_are_there(tmp_path: Path) -> None:
    make(tmp_path, "server", "a.example")
    keys = {name: text for name, text in contents(tmp_path).items() if name.endswith(".key")}
    (tmp_path / "server.crt").unlink()
    assert make(tmp_path, "server", "b.example").returncode == 0
    assert names(tmp_path / "server.crt") == ["b.example"]
    assert {name: text for name, text in contents(tmp_path).items() if name.endswith(".key")} == keys


@pytest.mark.parametrize("lost", ["ca.key", "server.key"])
def test_a_certificate_without_its_key_is_never_given_another(tmp_path: Path, lost: str) -> None:
    make(tmp_path, "server", "a.example")
    (tmp_path / lost).unlink()
    before = contents(tmp_path)
    done = make(tmp_path, "server", "a.example")
    assert done.returncode == 1 and f"without its key {tmp_path / lost}" in done.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("lifetime", "warned"), [("10", True), ("60", False)], ids=["ends soon", "ends later"]
)
def test_a_certificate_that_ends_soon_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lifetime: str, warned: bool
) -> None:
    monkeypatch.setenv("CERT_DAYS", lifetime)
    make(tmp_path, "server", "a.example")
    assert ("server.crt ends within 30 days" in make(tmp_path, "server", "a.example").stderr) is warned


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("server",), 2),
        (("client",), 2),
        (("client", "a", "b"), 2),
        (("ca", "x"), 2),
        (("server", "a,DNS:evil.example"), 1),
        (("server", "a\nkeyUsage = critical, keyCertSign"), 1),
        (("server", ""), 1),
        (("client", "../../etc/x"), 1),
        (("client", "a b"), 1),
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    assert make(tmp_path, *arguments).returncode == code
    assert not list(tmp_path.glob("server*")) and not list(tmp_path.glob("client*"))


def test_it_is_a_plain_posix_script() -> None:
    script = Path(__file__).parents[2] / "mosquitto" / "ca.sh"
    assert script.read_text().startswith("#!/bin/sh\n") and script.stat().st_mode & 0o111
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
