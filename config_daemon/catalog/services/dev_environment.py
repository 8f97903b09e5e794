"""The service model `dev-environment`: what a development set-up consists of.

Source: seed 003, ConfigurationProfile; the document gives defaults for four fields, the other plain
ones are required and the API keys optional. `redis_password` is ours: the URL is readable by all, so
a password in it is refused. `environment = cloud` is the production of this model: others can reach
it, so placeholders are refused there as secrets and as hosts.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from config_daemon.catalog.checks import bad_url, is_placeholder
from config_daemon.catalog.setting import Rule, Secret, ServiceModel, Text, setting

_SECRETS = ("youtube_api_key", "openai_api_key", "redis_password")
_URLS = ("redis_url", "backend_url", "frontend_url", "websocket_url")


def _redis(url: str) -> str | None:
    return bad_url(url, "redis", "rediss", "unix")


def _web(url: str) -> str | None:
    return bad_url(url, "http", "https")


def _socket(url: str) -> str | None:
    return bad_url(url, "ws", "wss", "http", "https")


def _placeholder(secret: str | None, environment: str) -> str | None:
    if secret is None or environment != "cloud" or not is_placeholder(secret):
        return None
    return "is still the placeholder of a template, which cloud refuses"


def _placeholder_host(url: str, environment: str) -> str | None:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None  # told by the rule about the URL itself
    if environment != "cloud" or not any(part and is_placeholder(part) for part in host.split(".")[:1]):
        return None
    return "still names the host of a template, which cloud refuses"


class DevEnvironmentConfig(ServiceModel):
    """A development set-up: the addresses of its parts and the keys it works with."""

    service: ClassVar[str] = "dev-environment"
    title: ClassVar[str] = "Development environment"
    example: ClassVar[dict[str, Any]] = {
        "environment": "docker",
        "redis_url": "redis://redis:6379",
        "redis_password": "made-up for this page",
        "redis_session_db": 1,
        "redis_task_db": 2,
        "youtube_api_key": "example-not-a-real-key",
        "openai_api_key": "example-not-a-real-key",
        "backend_url": "http://backend:8000",
        "frontend_url": "http://localhost:3000",
        "websocket_url": "ws://backend:8000/ws",
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("redis_url",),
            "redis_url is a redis://, rediss:// or unix:// URL without a password",
            _redis,
            "Write for example redis://localhost:6379; the password belongs into redis_password.",
        ),
        Rule(
            ("backend_url",), "backend_url is an HTTP URL", _web, "Write for example http://localhost:8000."
        ),
        Rule(
            ("frontend_url",), "frontend_url is an HTTP URL", _web, "Write for example http://localhost:3000."
        ),
        Rule(
            ("websocket_url",),
            "websocket_url is a WebSocket or HTTP URL",
            _socket,
            "Write for example ws://localhost:8000/ws.",
        ),
        *(
            Rule(
                (name, "environment"),
                f"{name} is no placeholder in the cloud",
                _placeholder,
                "Set the real one.",
            )
            for name in _SECRETS
        ),
        *(
            Rule(
                (name, "environment"),
                f"{name} names no placeholder host in the cloud",
                _placeholder_host,
                "Write the host's real name.",
            )
            for name in _URLS
        ),
    )

    environment: Literal["local", "docker", "cloud"] = setting(
        description="Where the set-up runs.",
        help_text="In the cloud placeholders such as CHANGEME are refused.",
    )
    redis_url: Text = setting(
        description="Redis server.", help_text="Such as redis://localhost:6379, without a password."
    )
    redis_password: Secret | None = setting(
        None, secret=True, min_length=1, description="Password of the Redis server.", complexity="advanced"
    )
    redis_session_db: int = setting(
        1, ge=0, le=15, description="Redis database for sessions.", complexity="advanced"
    )
    redis_task_db: int = setting(
        2, ge=0, le=15, description="Redis database for the task queue.", complexity="advanced"
    )
    youtube_api_key: Secret | None = setting(
        None, secret=True, min_length=1, description="Key for the YouTube Data API, version 3."
    )
    openai_api_key: Secret | None = setting(
        None, secret=True, min_length=1, description="Key for the OpenAI API, for making content."
    )
    backend_url: Text = setting("http://localhost:8000", description="Where the backend answers.")
    frontend_url: Text = setting("http://localhost:3000", description="Where the frontend's server answers.")
    websocket_url: Text = setting(
        description="Where the WebSocket answers.", help_text="Such as ws://localhost:8000/ws."
    )
