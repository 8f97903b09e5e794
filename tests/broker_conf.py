"""The mosquitto.conf of a test's broker: as ours is, but for what the test wants.

Laws: the settings come from the product's own text, so that tests run what users run.
"""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config_daemon.cli.private_broker_files import COMMON_CONF, HOST


@dataclass(frozen=True)
class Tls:
    """The files of a TLS listener; with `require_certificate` the clients need one too."""

    ca: Path
    certificate: Path
    key: Path
    require_certificate: bool = False


@dataclass(frozen=True)
class Conf:
    """What a broker of a test shall be like; `text` (with `{port}` and `{folder}`) replaces all else."""

    extra_conf: str = ""
    acl: str | None = None
    users: Mapping[str, str] | None = None
    tls: Tls | None = None
    text: str | None = None


def password_line(user: str, password: str) -> str:
    """Return mosquitto's `$7$` line (PBKDF2-SHA512), as `mosquitto_passwd` would write it."""
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"{user}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def user_line() -> str:
    """Return the line without which a mosquitto that root started could not read our files."""
    return f"user {pwd.getpwuid(0).pw_name}\n" if os.geteuid() == 0 else ""


def conf_text(folder: Path, port: int, conf: Conf) -> str:
    """Return the whole text for a broker that keeps its files in `folder`."""
    if conf.text is not None:
        return conf.text.replace("{port}", str(port)).replace("{folder}", str(folder))
    listener = f"listener {port} {HOST}\n"
    if conf.tls is not None:
        listener += f"cafile {conf.tls.ca}\ncertfile {conf.tls.certificate}\nkeyfile {conf.tls.key}\n"
        listener += f"require_certificate {str(conf.tls.require_certificate).lower()}\n"
    ours = f"persistence_location {folder}/\n{user_line()}{COMMON_CONF}"
    if conf.users is None:
        ours += "allow_anonymous true\n"
    else:
        (folder / "passwords").write_text("".join(password_line(*user) for user in conf.users.items()))
        ours += f"allow_anonymous false\npassword_file {folder}/passwords\n"
    if conf.acl is not None:
        (folder / "acl").write_text(conf.acl)
        ours += f"acl_file {folder}/acl\n"
    # mosquitto refuses a setting that is there twice: what the test wants takes our line's place.
    wanted = {line.split()[0] for line in conf.extra_conf.splitlines() if line.strip()}
    kept = [line for line in ours.splitlines() if line.split()[0] not in wanted]
    return listener + "\n".join([*kept, conf.extra_conf]) + "\n"
