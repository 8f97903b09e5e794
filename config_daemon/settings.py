"""Every knob of the daemon: one name, one type, one default, wherever it is set.

Laws: flags beat the process's environment, that beats `.env`, that beats `config-daemon.toml`, that
beats the default; nothing is read at import; all problems are told at once; a name that looks like
ours and is not is a problem too.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

from config_daemon.errors import ErrorContext, SettingsError
from config_daemon.wire.address import BrokerAddress
from config_daemon.wire.topics import is_name

Environment = Literal["development", "staging", "production"]
ENVIRONMENTS = ("development", "staging", "production")
LEVELS = ("debug", "info", "warning", "error")

# what belongs to us and is no setting: keys and passwords, read by store/keyfiles.py
SECRET_NAMES = frozenset(
    {
        "CONFIG_MASTER_KEY_BASE64", "CONFIG_MASTER_KEY_ID", "LKG_HMAC_KEY_BASE64", "LKG_HMAC_KEY_ID",
        "CONFIG_SIGNATURE_PRIVATE_KEY", "CONFIG_SIGNATURE_PUBLIC_KEY", "CONFIG_DAEMON_BROKER_PASSWORD",
    }
)  # fmt: skip
# the same, of a rotation under way: these come and go
ROTATING_NAMES = frozenset(
    {
        "CONFIG_SIGNATURE_NEXT_PRIVATE_KEY", "LKG_HMAC_KEY_OLD_BASE64", "LKG_HMAC_KEY_OLD_ID",
        "CONFIG_MASTER_KEY_OLD_BASE64", "CONFIG_MASTER_KEY_OLD_ID",
    }
)  # fmt: skip
_SECRETS = SECRET_NAMES | ROTATING_NAMES
_OUR_PREFIXES = ("CONFIG_", "LKG_")
_NOT_SETTINGS = frozenset({"CONFIG_DAEMON_DATA", "CONFIG_DAEMON_FAILPOINT"})


def _text(text: str) -> str:
    return text


def _path(text: str) -> Path:
    return Path(text)


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError("lower-case letters, digits and hyphens, beginning with a letter, at most 64")
    return text


def _prefix(text: str) -> str:
    if not text or text.startswith(("$", "/")) or text.endswith("/") or set(text) & set("+#\0"):
        raise ValueError("a topic without wildcards, not beginning or ending with a slash")
    return text


def _url(text: str) -> BrokerAddress:
    try:
        return BrokerAddress.parse(text)
    except SettingsError as error:
        raise ValueError(f"{error.message}; {error.suggestion}") from error


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("1 or 0")
    return text == "1"


def _between(low: float, high: float, kind: Callable[[str], Any] = int) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        number = kind(text)
        if not low <= number <= high:
            raise ValueError(f"a number from {low} to {high}")
        return number

    return read


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return text

    return read


def knob(env: str, read: Callable[[str], Any], default: Any, doc: str, unit: str = "") -> Any:
    """Declare a setting: its name in the environment, how its text is read, its default, its meaning."""
    return field(default=default, metadata={"env": env, "read": read, "doc": doc, "unit": unit})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The daemon's settings, all valid."""

    mqtt_url: BrokerAddress = knob(
        "MQTT_URL", _url, BrokerAddress("mqtt", "127.0.0.1", 1883), "where the broker is"
    )
    name: str = knob("CONFIG_DAEMON_NAME", _name, "config-daemon", "this daemon's name in its health topic")
    topic_prefix: str = knob("CONFIG_DAEMON_TOPIC_PREFIX", _prefix, "system", "the root of all topics")
    environment: Environment = cast(
        Environment, knob("ENVIRONMENT", _one_of(*ENVIRONMENTS), "development", "how strict to be")
    )
    db_path: Path | None = knob(
        "CONFIG_DB_PATH", _path, None, "the database (default: config.db in the data folder)"
    )
    lkg_path: Path | None = knob("CONFIG_LKG_CACHE_PATH", _path, None, "the LKG (default: config.lkg.json)")
    epoch_path: Path | None = knob(
        "CONFIG_EPOCH_PATH", _path, None, "epoch and last health (default: health+epoch.json)"
    )
    schema_folder: Path | None = knob(
        "CONFIG_DAEMON_SCHEMA_FOLDER", _path, None, "JSON Schema files (default: schemas)"
    )
    max_message_bytes: int = knob(
        "CONFIG_DAEMON_MAX_MESSAGE_BYTES",
        _between(1024, (1 << 20) - 1),
        256 * 1024,
        "largest message",
        "bytes",
    )
    poll_seconds: float = knob(
        "CONFIG_DAEMON_POLL_SECONDS", _between(0.05, 5, float), 0.25, "how often to look unhinted", "seconds"
    )
    key_grace_seconds: float = knob(
        "CONFIG_DAEMON_KEY_GRACE_SECONDS",
        _between(300, 30 * 86400, float),
        3600.0,
        "how long workers have to learn a new signing key before it is used",
        "seconds",
    )
    health_seconds: float = knob(
        "CONFIG_DAEMON_HEALTH_SECONDS",
        _between(1, 60, float),
        30.0,
        "longest silence of the health topic",
        "seconds",
    )
    keepalive_seconds: int = knob(
        "CONFIG_DAEMON_KEEPALIVE_SECONDS", _between(2, 120), 15, "MQTT keepalive", "seconds"
    )
    auto_rebuild: bool = knob(
        "ALLOW_AUTO_REBUILD", _switch, False, "rebuild a lost database without a person's word"
    )
    mqtt_ca_file: Path | None = knob(
        "CONFIG_DAEMON_MQTT_CA_FILE", _path, None, "CA that signed the broker's certificate"
    )
    mqtt_certificate_file: Path | None = knob(
        "CONFIG_DAEMON_MQTT_CERTIFICATE_FILE", _path, None, "client certificate"
    )
    mqtt_key_file: Path | None = knob("CONFIG_DAEMON_MQTT_KEY_FILE", _path, None, "client certificate's key")
    watch_url: BrokerAddress | None = knob(
        "CONFIG_DAEMON_WATCH_URL", _url, None, "the broker as a read-only user, for `watch`"
    )
    log_level: str = knob("CONFIG_DAEMON_LOG_LEVEL", _one_of(*LEVELS), "info", "least level to log")
    sources: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, layers: Mapping[str, Mapping[str, str]]) -> Settings:
        """Build the settings from named layers of `NAME: text`, strongest first.

        Raises: SettingsError with every problem; values are not repeated, since a URL holds a password.
        """
        problems: list[ErrorContext] = []
        chosen: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for knob_field in fields(cls):
            env = str(knob_field.metadata.get("env", ""))
            for layer, texts in layers.items():
                if env in texts:
                    try:
                        chosen[knob_field.name] = knob_field.metadata["read"](texts[env])
                    except ValueError as error:
                        problems.append(_unreadable(env, layer, str(error)))
                    sources[knob_field.name] = layer
                    break
        for layer, texts in layers.items():
            problems.extend(_unknown(name, layer) for name in texts if _looks_like_ours(name))
        problems.extend(_production_problems(chosen))
        if problems:
            headline = problems[0].message if len(problems) == 1 else f"{len(problems)} settings are wrong"
            raise SettingsError(headline, contexts=problems, suggestion=problems[0].suggestion)
        return cls(**chosen, sources=sources)


def names() -> dict[str, str]:
    """Return every setting's name in the environment, with its meaning."""
    return {f.metadata["env"]: f.metadata["doc"] for f in fields(Settings) if "env" in f.metadata}


def _looks_like_ours(name: str) -> bool:
    if "__" in name or name in _SECRETS or name in _NOT_SETTINGS:
        return False
    if name.removesuffix("_FILE") in _SECRETS or name.startswith("CONFIG_DAEMON_TEST_"):
        return False
    return name.startswith(_OUR_PREFIXES) and name not in names()


def _unknown(name: str, layer: str) -> ErrorContext:
    near = difflib.get_close_matches(name, [*names(), *_SECRETS], 1)
    return ErrorContext(
        "invalid_config", "UNKNOWN_SETTING", f"{name} in {layer} is no setting of config-daemon",
        f"Did you mean {near[0]}?" if near else "Remove it, or see `config-daemon settings show`.", failed_field=name,
    )  # fmt: skip


def _unreadable(env: str, layer: str, why: str) -> ErrorContext:
    return ErrorContext(
        "invalid_config", "INVALID_SETTING", f"{env} in {layer} is not valid: {why}",
        f"Mend {env} in {layer}, or remove it to use the default.", failed_field=env, expected_type=why,
    )  # fmt: skip


def _production_problems(chosen: Mapping[str, Any]) -> list[ErrorContext]:
    if chosen.get("environment") != "production":
        return []
    url = chosen.get("mqtt_url")
    if url is not None and url.secure:
        return []
    return [
        ErrorContext(
            "invalid_config", "TLS_REQUIRED", "ENVIRONMENT=production demands an encrypted broker connection",
            "Set MQTT_URL to mqtts://… (or wss://…), and CONFIG_DAEMON_MQTT_CA_FILE when the CA is private.",
            failed_field="MQTT_URL",
        )
    ]  # fmt: skip
