"""The service model `llm-worker`: the language model."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from config_daemon.catalog.checks import bad_url
from config_daemon.catalog.setting import Rule, Secret, ServiceModel, Text, setting
from config_daemon.catalog.shape import MISSING_FIELD


def _url(base_url: str | None) -> str | None:
    return bad_url(base_url, "http", "https")


def _needed(base_url: str | None, provider: str) -> str | None:
    return "has no value, and the provider custom needs it" if provider == "custom" and not base_url else None


def _too_many(max_tokens: int, context_tokens: int) -> str | None:
    return (
        f"is {max_tokens}, more than context_tokens ({context_tokens})"
        if max_tokens > context_tokens
        else None
    )


class LLMWorkerConfig(ServiceModel):
    """Answers with a language model, here or at a provider."""

    service: ClassVar[str] = "llm-worker"
    title: ClassVar[str] = "Language model"
    example: ClassVar[dict[str, Any]] = {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "base_url": None,
        "api_key": "example-not-a-real-key",
        "temperature": 0.4,
        "top_p": 0.95,
        "max_tokens": 512,
        "context_tokens": 16384,
        "request_timeout_sec": 30.0,
        "stream": True,
        "system_prompt": "You are a friendly assistant. Answer in two sentences.",
        "stop": ["User:"],
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("base_url",), "base_url is an HTTP URL", _url, "Write for example http://localhost:11434/v1."),
        Rule(
            ("base_url", "provider"),
            "the provider custom needs base_url",
            _needed,
            "Set base_url, or choose another provider.",
            code=MISSING_FIELD,
        ),
        Rule(
            ("max_tokens", "context_tokens"),
            "max_tokens is at most context_tokens",
            _too_many,
            "Lower max_tokens, or raise context_tokens if the model can take it.",
        ),
    )

    provider: Literal["ollama", "llama-cpp", "openai", "anthropic", "custom"] = setting(
        "ollama",
        description="Who runs the model.",
        help_text="ollama and llama-cpp run on your own machine; custom is any server with OpenAI's API.",
    )
    model: Text = setting(
        "llama3.2:3b", min_length=1, description="Name of the model, as its provider spells it."
    )
    base_url: Text | None = setting(
        None,
        description="Where the API answers; null is the provider's own address.",
        help_text="Begins with http:// or https://. Put the key into api_key, never into this URL.",
        complexity="advanced",
    )
    api_key: Secret | None = setting(
        None,
        secret=True,
        min_length=1,
        description="Key for the provider's API.",
        help_text="Models on your own machine usually need none.",
    )
    temperature: float = setting(
        0.7,
        ge=0.0,
        le=2.0,
        description="How freely the model answers, from 0 (always the same) to 2.",
    )
    top_p: float = setting(
        1.0,
        ge=0.0,
        le=1.0,
        description="Share of likely words that are considered.",
        help_text="Change this or temperature, not both.",
        complexity="advanced",
    )
    max_tokens: int = setting(1024, ge=1, le=131072, description="Longest answer, in tokens.")
    context_tokens: int = setting(
        8192,
        ge=256,
        le=2097152,
        description="How much the model can read at once, in tokens.",
        complexity="advanced",
    )
    request_timeout_sec: float = setting(
        60.0,
        ge=1.0,
        le=600.0,
        description="How long to wait for an answer, in seconds.",
        complexity="advanced",
    )
    stream: bool = setting(True, description="Pass words on as they are written.")
    system_prompt: str = setting(
        "",
        max_length=20000,
        description="What the model is told before every conversation.",
    )
    stop: list[Text] = setting(
        [],
        max_length=16,
        description="Texts at which the model stops writing.",
        complexity="advanced",
    )
