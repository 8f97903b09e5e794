"""The service model `agent-worker`: a LiveKit agent's worker pool.

Source: seed 000, WorkerOptions (the eleven fields) and Application Configuration (the four sections).
The document gives no defaults but requires `worker_pool_size`; the others are LiveKit's usual ones.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from config_daemon.catalog.checks import bad_url
from config_daemon.catalog.setting import Rule, Secret, ServiceModel, StrictModel, Text, setting

_DOTTED_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
_MAX_MILLISECONDS: Final = 86_400_000


def _url(server_url: str | None) -> str | None:
    return bad_url(server_url, "ws", "wss")


_SERVER_URL: Final = Rule(
    ("server_url",),
    "server_url is a ws:// or wss:// URL",
    _url,
    "Write for example wss://livekit.example.com.",
)


class WorkerOverrides(StrictModel):
    """Worker options that take the place of those of the service; null leaves the service's own."""

    rules: ClassVar[tuple[Rule, ...]] = (_SERVER_URL,)

    worker_pool_size: int | None = setting(None, gt=0, description="Worker processes.")
    timeout: int | None = setting(
        None, gt=0, le=_MAX_MILLISECONDS, description="Longest run of a job, in milliseconds."
    )
    entry_point: Text | None = setting(
        None, pattern=_DOTTED_NAME, description="Function that takes the jobs, as a dotted name."
    )
    agent_name: Text | None = setting(None, min_length=1, description="Name of the agent.")
    server_url: Text | None = setting(None, description="LiveKit server.")
    api_key: Secret | None = setting(None, secret=True, min_length=1, description="LiveKit API key.")
    api_secret: Secret | None = setting(None, secret=True, min_length=1, description="LiveKit API secret.")
    max_concurrent_jobs: int | None = setting(None, gt=0, description="Jobs at the same time.")
    health_check_port: int | None = setting(
        None, ge=1, le=65535, description="Port that answers health checks."
    )
    load_threshold: float | None = setting(
        None, ge=0.0, le=1.0, description="Load above which no more jobs are taken, from 0 to 1."
    )
    graceful_shutdown_timeout: int | None = setting(
        None, gt=0, le=_MAX_MILLISECONDS, description="Time for jobs to end at shutdown, in milliseconds."
    )


class AgentWorkerConfig(ServiceModel):
    """Runs agents that take part in LiveKit rooms."""

    service: ClassVar[str] = "agent-worker"
    title: ClassVar[str] = "Agent worker"
    example: ClassVar[dict[str, Any]] = {
        "worker_pool_size": 4,
        "timeout": 120000,
        "entry_point": "phoenix_agent.jobs.handle",
        "agent_name": "phoenix",
        "server_url": "wss://livekit.example.com",
        "api_key": "example-not-a-real-key",
        "api_secret": "example-not-a-real-secret",
        "max_concurrent_jobs": 2,
        "health_check_port": 8081,
        "load_threshold": 0.8,
        "graceful_shutdown_timeout": 15000,
        "default_worker_options": {"max_concurrent_jobs": 1, "load_threshold": 0.5},
        "tool_registry": {"modules": ["phoenix_agent.tools"], "reload": False},
        "media": {"audio": {"sample_rate": 48000}},
        "session": None,
    }
    rules: ClassVar[tuple[Rule, ...]] = (_SERVER_URL,)

    worker_pool_size: int = setting(
        gt=0,
        description="Worker processes.",
        help_text="One for each processor core is a good start.",
    )
    timeout: int = setting(
        300_000, gt=0, le=_MAX_MILLISECONDS, description="Longest run of a job, in milliseconds."
    )
    entry_point: Text | None = setting(
        None,
        pattern=_DOTTED_NAME,
        description="Function that takes the jobs, as a dotted name; null is the program's own.",
        complexity="advanced",
    )
    agent_name: Text = setting("agent", min_length=1, description="Name of the agent.")
    server_url: Text = setting(
        "ws://localhost:7880",
        description="LiveKit server.",
        help_text="Begins with ws:// or wss://. Key and secret have fields of their own.",
    )
    api_key: Secret | None = setting(None, secret=True, min_length=1, description="LiveKit API key.")
    api_secret: Secret | None = setting(None, secret=True, min_length=1, description="LiveKit API secret.")
    max_concurrent_jobs: int = setting(1, gt=0, description="Jobs at the same time.")
    health_check_port: int = setting(
        8081, ge=1, le=65535, description="Port that answers health checks.", complexity="advanced"
    )
    load_threshold: float = setting(
        0.75,
        ge=0.0,
        le=1.0,
        description="Load above which no more jobs are taken, from 0 to 1.",
        complexity="advanced",
    )
    graceful_shutdown_timeout: int = setting(
        30_000,
        gt=0,
        le=_MAX_MILLISECONDS,
        description="Time for jobs to end at shutdown, in milliseconds.",
        complexity="advanced",
    )
    default_worker_options: WorkerOverrides | None = setting(
        None,
        description="Options for the workers that the program starts itself.",
        help_text="Null, or some of the options above; those that are not given stay as they are above.",
        complexity="advanced",
    )
    tool_registry: dict[str, Any] | None = setting(
        None,
        description="How tools are found and managed: null or an object of the program's own.",
        help_text="Everybody who may read the config can read this: no secrets here.",
        complexity="advanced",
    )
    media: dict[str, Any] | None = setting(
        None,
        description="Defaults for audio and video: null or an object of the program's own.",
        complexity="advanced",
    )
    session: dict[str, Any] | None = setting(
        None,
        description="Defaults for sessions: null or an object of the program's own.",
        complexity="advanced",
    )
