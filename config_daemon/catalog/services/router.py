"""The service model `router`: between language model and speech. Source: seed 004, RouterConfig."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from config_daemon.catalog.checks import bad_pattern
from config_daemon.catalog.setting import Rule, ServiceModel, Text, setting

# Character for character the document's default: its raw string keeps the backslashes before the
# quote, the bracket and the s.
_BOUNDARY: Final = r"[.!?…]+[\"')\\]]?\\s"


def _fewer_than_least(most: int, least: int) -> str | None:
    return f"is {most}, below router_stream_min_chars ({least})" if most < least else None


class RouterConfig(ServiceModel):
    """Passes what the language model writes on to speech, piece by piece."""

    service: ClassVar[str] = "router"
    title: ClassVar[str] = "Router"
    depends_on: ClassVar[tuple[str, ...]] = ("llm-worker", "tts-worker")
    example: ClassVar[dict[str, Any]] = {
        "router_llm_tts_stream": True,
        "router_stream_min_chars": 40,
        "router_stream_max_chars": 240,
        "router_stream_boundary_only": True,
        "router_stream_boundary_regex": r"[.!?]+\s",
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("router_stream_max_chars", "router_stream_min_chars"),
            "router_stream_max_chars is at least router_stream_min_chars",
            _fewer_than_least,
            "Raise router_stream_max_chars, or lower router_stream_min_chars.",
        ),
        Rule(
            ("router_stream_boundary_regex",),
            "router_stream_boundary_regex is a regular expression",
            bad_pattern,
            r"Write a regular expression such as [.!?]+\s.",
        ),
    )

    router_llm_tts_stream: bool = setting(
        True,
        description="Speak while the language model is still writing.",
        help_text="Off: speech begins when the whole answer is there.",
    )
    router_stream_min_chars: int = setting(
        30,
        ge=1,
        description="Characters that a piece has at least.",
        help_text="Shorter pieces are spoken sooner and sound more chopped.",
        complexity="advanced",
    )
    router_stream_max_chars: int = setting(
        200,
        ge=1,
        description="Characters after which a piece is sent even without a boundary.",
        complexity="advanced",
    )
    router_stream_boundary_only: bool = setting(
        True,
        description="Cut only where a sentence ends.",
        complexity="advanced",
    )
    router_stream_boundary_regex: Text = setting(
        _BOUNDARY,
        description="Regular expression that finds the end of a sentence.",
        complexity="advanced",
    )
