"""The files that a private broker reads at its start, and the command line that makes it read them.

Laws: every file is mode 0600 and made new in each run; a password is hashed before mosquitto starts
and never an argument; nothing here runs a broker.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from config_daemon.errors import BrokerUnavailable

HOST = "127.0.0.1"
MAX_PACKET_BYTES = 1_052_672
# A login shell of Debian has no sbin on PATH, and Homebrew keeps mosquitto in one.
MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/opt/homebrew/sbin", "/opt/homebrew/bin")

# What every mosquitto of ours has, in `dev`, in the tests and in production. Without the autosave lines
# it forgets half an hour of retained messages when it is killed; set_tcp_nodelay is worth 30 ms at p99.
COMMON_CONF = f"""\
per_listener_settings false
persistence true
autosave_on_changes true
autosave_interval 1
set_tcp_nodelay true
max_queued_messages 100000
max_inflight_messages 0
max_packet_size {MAX_PACKET_BYTES}
check_retain_source true
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
"""

# One user per role with literal topics: a `pattern` would hold for the reader too, who must write nothing.
MOSQUITTO_ACL = """\
user daemon
topic read {prefix}/#
topic write {prefix}/config/+
topic write {prefix}/health/+
topic write {prefix}/trust/keyring
topic write {prefix}/trust/keyring/+
topic write {prefix}/trust/beacon
topic write {prefix}/trust/beacon/+
topic write {prefix}/convergence/+
topic write {prefix}/dry-run/+
topic write {prefix}/enroll/+/answer

user worker
topic read {prefix}/config/{service}
topic read {prefix}/config/global
topic read {prefix}/health/+
topic read {prefix}/trust/#
topic read {prefix}/dry-run/{service}
topic read {prefix}/dry-run/global
{of_workers}
user reader
topic read {prefix}/#

user enroll
topic write {prefix}/enroll/+
topic read {prefix}/enroll/+/answer
"""

MOSQUITTO_ACL_OF_A_WORKER = """\
topic read {prefix}/enroll/{worker}/answer
topic write {prefix}/status/{service}/{worker}
topic write {prefix}/status/global/{worker}
topic write {prefix}/presence/{worker}
topic write {prefix}/evidence/{service}/{worker}
topic write {prefix}/evidence/global/{worker}
topic write {prefix}/evidence/keyring/{worker}
topic write {prefix}/dry-run/{service}/{worker}
topic write {prefix}/dry-run/global/{worker}
topic write {prefix}/enroll/{worker}
"""

# No [v4] section: rumqttd has one listener per MQTT version, and `dev` needs one port and MQTT 5.
IOTCORE_CONF = """\
id = 0

[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "dev"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = {max_packet_bytes}
max_inflight_count = 200
dynamic_filters = true

[v5.1.connections.auth]
{passwords}
"""


def mosquitto_acl(prefix: str, service: str, workers: Sequence[str]) -> str:
    """Return who may read and write what; all workers share a user, and speak for themselves only."""
    lines = (
        MOSQUITTO_ACL_OF_A_WORKER.format(prefix=prefix, service=service, worker=worker) for worker in workers
    )
    return MOSQUITTO_ACL.format(prefix=prefix, service=service, of_workers="".join(lines))


def mosquitto_programs() -> tuple[str, str] | None:
    """Return the paths of `mosquitto` and `mosquitto_passwd`, or None when one is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *MORE_FOLDERS))
    broker, hasher = shutil.which("mosquitto", path=path), shutil.which("mosquitto_passwd", path=path)
    return (broker, hasher) if broker and hasher else None


def write_private(path: Path, text: str) -> None:
    """Replace `path` by a new file of mode 0600 that holds `text`."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="utf-8")


def prepare_mosquitto(
    folder: Path, port: int, passwords: Mapping[str, str], acl: str, programs: tuple[str, str]
) -> list[str]:
    """Write conf, ACL and password file into `folder`, and return how to start mosquitto with them.

    `passwords` is user → password in plain text, `programs` what `mosquitto_programs` found.
    Raises BrokerUnavailable when the passwords could not be hashed.
    """
    broker, hasher = programs
    # Started by root it would become the user `mosquitto`, who cannot read this folder.
    user_line = f"user {pwd.getpwuid(0).pw_name}\n" if os.geteuid() == 0 else ""
    write_private(folder / "acl", acl)
    _write_hashed(folder / "passwords", passwords, hasher)
    conf = folder / "mosquitto.conf"
    write_private(
        conf,
        f"listener {port} {HOST}\nallow_anonymous false\npassword_file {folder}/passwords\n"
        f"acl_file {folder}/acl\npersistence_location {folder}/\n{user_line}{COMMON_CONF}",
    )
    return [broker, "-c", str(conf)]


def _write_hashed(path: Path, passwords: Mapping[str, str], hasher: str) -> None:
    write_private(path, "".join(f"{user}:{password}\n" for user, password in passwords.items()))
    done = subprocess.run([hasher, "-U", str(path)], capture_output=True, text=True, check=False)
    if done.returncode != 0 or any(password in path.read_text() for password in passwords.values()):
        path.unlink()
        raise BrokerUnavailable(f"mosquitto_passwd did not hash the passwords: {done.stderr.strip()}")


def prepare_iotcore(folder: Path, port: int, passwords: Mapping[str, str]) -> list[str]:
    """Write iotcore's conf with `passwords` into `folder`, and return how to start it."""
    lines = "\n".join(f'{user} = "{password}"' for user, password in passwords.items())
    conf = folder / "iotcore.toml"
    write_private(
        conf, IOTCORE_CONF.format(host=HOST, port=port, max_packet_bytes=MAX_PACKET_BYTES, passwords=lines)
    )
    # -P: a folder named `iotcore` where the user stands must not shadow the package. CRITICAL: rumqttd
    # calls every packet an error.
    return [sys.executable, "-P", "-m", "iotcore", "--config", str(conf), "--log-level", "CRITICAL"]
