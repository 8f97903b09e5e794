"""The service model `tts-worker`: text to speech. Source: seed 004, TTSWorkerConfig."""

from __future__ import annotations

from typing import Any, ClassVar

from config_daemon.catalog.setting import ServiceModel, Text, setting


class TTSWorkerConfig(ServiceModel):
    """Turns text into speech."""

    service: ClassVar[str] = "tts-worker"
    title: ClassVar[str] = "Text to speech"
    example: ClassVar[dict[str, Any]] = {
        "piper_voice": "de_DE-thorsten-medium",
        "tts_streaming": True,
        "tts_pipeline": True,
        "tts_aggregate_by_utt": False,
        "tts_aggregate_timeout_sec": 1.5,
        "volume_percent": 80,
    }

    piper_voice: Text = setting(
        "en_US-lessac-medium",
        description="Piper voice that speaks.",
        help_text="Language, speaker and quality; the voice must be installed on the worker.",
    )
    tts_streaming: bool = setting(
        False,
        description="Play audio while the rest is still being made.",
    )
    tts_pipeline: bool = setting(
        True,
        description="Make the next sentence while one is playing.",
        complexity="advanced",
    )
    tts_aggregate_by_utt: bool = setting(
        True,
        description="Gather the pieces of one utterance before speaking.",
        complexity="advanced",
    )
    tts_aggregate_timeout_sec: float = setting(
        2.0,
        ge=0.0,
        le=10.0,
        description="How long to wait for more pieces of an utterance, in seconds.",
        complexity="advanced",
    )
    volume_percent: int = setting(
        100,
        ge=0,
        le=200,
        description="Loudness in percent; 100 is as recorded.",
        help_text="Above 100 the sound may be distorted.",
    )
