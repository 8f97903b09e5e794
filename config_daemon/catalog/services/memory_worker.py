"""The service model `memory-worker`: what is remembered between conversations."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from config_daemon.catalog.checks import bad_url
from config_daemon.catalog.setting import Rule, Secret, ServiceModel, Text, setting
from config_daemon.catalog.shape import MISSING_FIELD


def _url(store_url: str | None) -> str | None:
    return bad_url(store_url, "http", "https", "redis", "rediss")


def _needed(store_url: str | None, store: str) -> str | None:
    return f"has no value, and the store {store} needs it" if store != "local" and not store_url else None


def _too_wide(overlap: int, length: int) -> str | None:
    return f"is {overlap}, not below chunk_chars ({length})" if overlap >= length else None


class MemoryWorkerConfig(ServiceModel):
    """Remembers what was said, and finds it again."""

    service: ClassVar[str] = "memory-worker"
    title: ClassVar[str] = "Memory"
    example: ClassVar[dict[str, Any]] = {
        "store": "qdrant",
        "store_path": "/var/lib/memory-worker",
        "store_url": "http://qdrant.local:6333",
        "store_api_key": "example-not-a-real-key",
        "embedding_model": "all-MiniLM-L6-v2",
        "similarity_threshold": 0.75,
        "max_results": 5,
        "retention_days": 365,
        "chunk_chars": 1200,
        "chunk_overlap_chars": 120,
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("store_url",),
            "store_url is an HTTP or Redis URL",
            _url,
            "Write for example http://localhost:6333; the key belongs into store_api_key.",
        ),
        Rule(
            ("store_url", "store"),
            "a store that is not local needs store_url",
            _needed,
            "Set store_url, or set store to local.",
            code=MISSING_FIELD,
        ),
        Rule(
            ("chunk_overlap_chars", "chunk_chars"),
            "chunk_overlap_chars is below chunk_chars",
            _too_wide,
            "Lower chunk_overlap_chars, or raise chunk_chars.",
        ),
    )

    store: Literal["local", "qdrant", "redis"] = setting(
        "local",
        description="Where memories are kept.",
        help_text="local keeps them in files at store_path; the others are servers at store_url.",
    )
    store_path: Text = setting(
        "/var/lib/memory-worker",
        path=True,
        min_length=1,
        description="Folder of the local store.",
        complexity="advanced",
    )
    store_url: Text | None = setting(
        None,
        description="Address of the store's server.",
        complexity="advanced",
    )
    store_api_key: Secret | None = setting(
        None, secret=True, min_length=1, description="Key or password for the store's server."
    )
    embedding_model: Text = setting(
        "all-MiniLM-L6-v2",
        min_length=1,
        description="Model that compares meanings.",
        help_text="Memories made with one model cannot be found with another.",
        complexity="advanced",
    )
    similarity_threshold: float = setting(
        0.7,
        ge=0.0,
        le=1.0,
        description="How alike a memory must be to be found, from 0 to 1.",
    )
    max_results: int = setting(5, ge=1, le=100, description="Memories that one question finds at most.")
    retention_days: int | None = setting(
        None, ge=1, le=36500, description="Days after which a memory is forgotten; null keeps it for ever."
    )
    chunk_chars: int = setting(
        1000,
        ge=100,
        le=20000,
        description="Characters in one memory at most.",
        complexity="advanced",
    )
    chunk_overlap_chars: int = setting(
        100,
        ge=0,
        le=10000,
        description="Characters that neighbouring memories share.",
        complexity="advanced",
    )
