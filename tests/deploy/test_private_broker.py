"""The broker that `dev` brings along: private, guarded, gone with its owner, plain about its failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config_daemon.cli import private_broker
from config_daemon.cli.private_broker import PrivateBroker
from config_daemon.errors import BrokerUnavailable, SettingsError
from tests.broker_fixtures import ClientFactory
from tests.deploy.permissions import (
    FROM_DAEMON,
    NOT_AUTHORISED,
    REQUESTS,
    SERVICE,
    TO_WORKER,
    WORKER,
    from_worker,
    readable,
    writable,
)
from tests.deploy.test_broker_fixtures import ended
from tests.raw_client import RawClient, Refused

FROM_DEMO = from_worker(SERVICE, WORKER)
MAY_WRITE = {"daemon": FROM_DAEMON, "worker": FROM_DEMO, "reader": set[str](), "enroll": REQUESTS}
EVERYBODYS = FROM_DAEMON | FROM_DEMO | REQUESTS
MAY_READ = {
    "daemon": (EVERYBODYS, "trust/beacon"),
    "worker": (TO_WORKER, "trust/beacon"),
    "reader": (EVERYBODYS, "trust/beacon"),
    "enroll": ({"enroll/demo/answer", "enroll/box-2/answer"}, "enroll/demo/answer"),
}


@pytest.fixture
def private(tmp_path: Path) -> Iterator[PrivateBroker]:
    with private_broker.start(tmp_path / "a broker", service=SERVICE, workers=[WORKER]) as broker:
        yield broker


def without_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_broker, "mosquitto_programs", lambda: None)


def pid_of(broker: PrivateBroker) -> int:
    assert broker._process is not None
    return broker._process.pid


@pytest.mark.parametrize("role", MAY_WRITE)
def test_each_role_writes_what_it_may_and_nothing_else(
    private: PrivateBroker, raw_client: ClientFactory, role: str
) -> None:
    assert writable(raw_client(private.url(role))) == MAY_WRITE[role]


@pytest.mark.parametrize("role", MAY_READ)
def test_each_role_reads_what_it_may_and_nothing_else(
    private: PrivateBroker, raw_client: ClientFactory, role: str
) -> None:
    daemon, worker, enroll = (raw_client(private.url(name)) for name in ("daemon", "worker", "enroll"))
    writers = dict.fromkeys(FROM_DAEMON, daemon) | dict.fromkeys(FROM_DEMO, worker)
    expected, last = MAY_READ[role]
    got = readable(raw_client(private.url(role)), writers | dict.fromkeys(REQUESTS, enroll), last)
    assert got == expected


def test_another_prefix_service_and_worker_are_honoured(tmp_path: Path, raw_client: ClientFactory) -> None:
    with private_broker.start(tmp_path, "edge/7", service="router", workers=["cam", "door"]) as broker:
        worker = raw_client(broker.url("worker"))
        for name in ("cam", "door"):
            assert worker.publish(f"edge/7/status/router/{name}", b"x") < 0x80
        assert worker.publish("edge/7/status/router/demo", b"x") == NOT_AUTHORISED
        assert worker.publish("system/status/router/cam", b"x") == NOT_AUTHORISED


def test_nobody_gets_in_without_the_password(private: PrivateBroker, raw_client: ClientFactory) -> None:
    assert (private.kind, private.warning) == ("mosquitto", None)
    for user in ("", "daemon@", "daemon:wrong@", f"stranger:{'x' * 32}@"):
        with pytest.raises(Refused) as refused:
            raw_client(f"mqtt://{user}127.0.0.1:{private.port}")
        assert refused.value.code == NOT_AUTHORISED


def test_it_listens_on_loopback_only_and_not_on_the_standard_port(private: PrivateBroker) -> None:
    rows = [
        row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    addresses = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{private.port:04X}")}
    assert addresses == {f"0100007F:{private.port:04X}"}
    assert private.port != 1883


def test_passwords_are_new_in_every_run_and_stand_nowhere_in_the_open(tmp_path: Path) -> None:
    with private_broker.start(tmp_path / "b") as first:
        urls = {role: first.url(role) for role in private_broker.ROLES}
        secrets = [url.split("@")[0].rsplit(":", 1)[1] for url in urls.values()]
        assert len(set(secrets)) == 4 and min(map(len, secrets)) >= 32
        process = Path(f"/proc/{pid_of(first)}")
        seen = process.joinpath("cmdline").read_text() + process.joinpath("environ").read_text() + repr(first)
        for file in (tmp_path / "b").iterdir():
            assert file.stat().st_mode & 0o777 in (0o600, 0o644 if file.name == "broker.lock" else 0o600), (
                file
            )
            seen += file.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in seen]
        assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700
    with private_broker.start(tmp_path / "b") as second:
        assert not {second.url(role) for role in private_broker.ROLES} & set(urls.values())


def test_an_unknown_role_is_named(private: PrivateBroker) -> None:
    with pytest.raises(ValueError, match=r"'admin'.*daemon, worker, reader, enroll"):
        private.url("admin")


def test_stopping_ends_it_and_the_next_one_has_its_retained_messages(
    tmp_path: Path, raw_client: ClientFactory
) -> None:
    with private_broker.start(tmp_path) as first:
        raw_client(first.url("daemon")).publish("system/config/global", b"kept", retain=True)
        assert first.alive()
    assert not first.alive()
    first.stop()
    with private_broker.start(tmp_path) as second:
        reader = raw_client(second.url("reader"))
        reader.subscribe("system/#")
        assert reader.wait_for_topic("system/config/global").payload == b"kept"


def test_ctrl_c_in_the_terminal_is_not_for_the_broker(private: PrivateBroker) -> None:
    assert os.getsid(pid_of(private)) != os.getsid(0)


def test_a_broker_that_died_is_not_alive(private: PrivateBroker) -> None:
    pid = pid_of(private)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    assert not private.alive()


@pytest.mark.parametrize("kind", ["mosquitto", "iotcore"])
def test_kill_9_of_its_owner_leaves_no_broker_and_a_free_folder(tmp_path: Path, kind: str) -> None:
    program = (
        "import sys, pathlib; from config_daemon.cli import private_broker as p;"
        "p.mosquitto_programs = p.mosquitto_programs if sys.argv[2] == 'mosquitto' else lambda: None;"
        "b = p.start(pathlib.Path(sys.argv[1])); assert b.kind == sys.argv[2];"
        "print(b._process.pid, flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdin is not None and owner.stdout is not None
    with owner.stdin, owner.stdout:
        pid = int(owner.stdout.readline())
        owner.kill()
        owner.wait()
    with private_broker.start(tmp_path) as next_one:  # at once: it waits for the old one to be gone
        assert ended(pid, 0.0)
        assert next_one.alive()


def test_a_second_one_in_the_same_folder_is_refused_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw_client: ClientFactory
) -> None:
    monkeypatch.setattr(private_broker, "LOCK_SECONDS", 0.0)
    with private_broker.start(tmp_path) as first:
        with pytest.raises(BrokerUnavailable, match="another process runs its broker"):
            private_broker.start(tmp_path)
        assert raw_client(first.url("daemon")).publish("system/config/global", b"x") < 0x80


def test_a_wrong_start_tells_what_mosquitto_said(tmp_path: Path) -> None:
    with pytest.raises(
        BrokerUnavailable, match=r"ended at its start \(exit \d+\)(.|\n)*Invalid ACL topic"
    ) as failed:
        private_broker.start(tmp_path, "no#prefix")
    assert "Invalid ACL topic" in failed.value.contexts[0].message
    assert str(tmp_path / "broker.log") in failed.value.suggestion


def test_a_broker_that_never_listens_is_given_up_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    spawn = private_broker._spawn

    def spawn_deaf(_argv: list[str], log: Path, lock: int) -> subprocess.Popen[bytes]:
        started.append(spawn(["sleep", "600"], log, lock))
        return started[0]

    monkeypatch.setattr(private_broker, "_spawn", spawn_deaf)
    monkeypatch.setattr(private_broker, "START_SECONDS", 0.05)
    with pytest.raises(BrokerUnavailable, match=r"did not listen within 0\.05 s"):
        private_broker.start(tmp_path)
    assert started[0].poll() is not None


def test_without_any_broker_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_mosquitto(monkeypatch)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BrokerUnavailable) as failed:
        private_broker.start(tmp_path)
    assert "apt-get install mosquitto" in failed.value.suggestion
    assert "config-daemon[dev-broker]" in failed.value.suggestion
    assert failed.value.exit_code == 69


def test_iotcore_stands_in_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw_client: ClientFactory
) -> None:
    without_mosquitto(monkeypatch)
    with private_broker.start(tmp_path) as broker:
        assert broker.kind == "iotcore" and broker.alive()
        assert broker.warning is not None and "\n" not in broker.warning and "mosquitto" in broker.warning
        daemon = raw_client(broker.url("daemon"))
        assert daemon.publish("system/config/stt-worker", b"x" * 1_040_000, retain=True) == 0
        with RawClient(broker.url("worker")) as worker:
            worker.subscribe("system/config/stt-worker")
            message = worker.wait_for_topic("system/config/stt-worker")
            assert message.retain and len(message.payload) == 1_040_000
        with pytest.raises(Refused):
            raw_client(f"mqtt://daemon:wrong@127.0.0.1:{broker.port}")
        assert (tmp_path / "iotcore.toml").stat().st_mode & 0o777 == 0o600
    assert not broker.alive()


def test_somebody_elses_broker_has_one_url_and_is_never_stopped(private: PrivateBroker) -> None:
    other = private_broker.external(private.url("reader"))
    assert (other.kind, other.port, other.warning) == ("external", private.port, None)
    assert {other.url(role) for role in private_broker.ROLES} == {private.url("reader")}
    other.stop()
    assert private.alive() and other.alive()
    private.stop()
    assert not other.alive()
    with pytest.raises(SettingsError):
        private_broker.external("http://127.0.0.1:1")
