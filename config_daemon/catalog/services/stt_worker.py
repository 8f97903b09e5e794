"""The service model `stt-worker`: speech to text. Source: seed 004, STTWorkerConfig."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from config_daemon.catalog.checks import bad_url
from config_daemon.catalog.setting import Rule, ServiceModel, Text, setting
from config_daemon.catalog.shape import MISSING_FIELD


def _url(ws_url: str | None) -> str | None:
    return bad_url(ws_url, "ws", "wss")


def _needed(ws_url: str | None, backend: str) -> str | None:
    return "has no value, and the backend ws needs it" if backend == "ws" and ws_url is None else None


class STTWorkerConfig(ServiceModel):
    """Turns speech into text."""

    service: ClassVar[str] = "stt-worker"
    title: ClassVar[str] = "Speech to text"
    example: ClassVar[dict[str, Any]] = {
        "whisper_model": "small.en",
        "stt_backend": "ws",
        "ws_url": "ws://stt.local:9090/listen",
        "streaming_partials": True,
        "vad_threshold": 0.6,
        "vad_speech_pad_ms": 200,
        "vad_silence_duration_ms": 700,
        "sample_rate": 16000,
        "channels": 1,
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("ws_url",), "ws_url is a ws:// or wss:// URL", _url, "Write for example ws://stt.local:9090."),
        Rule(
            ("ws_url", "stt_backend"),
            "the backend ws needs ws_url",
            _needed,
            "Set ws_url, or set stt_backend to whisper.",
            code=MISSING_FIELD,
        ),
    )

    whisper_model: Text = setting(
        "base.en",
        description="Whisper model that transcribes.",
        help_text="Larger models hear better and need more memory and time: tiny, base, small, medium,"
        " large; those that end in .en know only English.",
    )
    stt_backend: Literal["whisper", "ws"] = setting(
        "whisper",
        description="Where speech is transcribed.",
        help_text="whisper runs on this machine; ws sends audio to the server at ws_url.",
    )
    ws_url: Text | None = setting(
        None,
        description="WebSocket server that transcribes, for the backend ws.",
        help_text="Begins with ws:// or wss://. A password does not belong into it: everybody could read it.",
        complexity="advanced",
    )
    streaming_partials: bool = setting(
        False,
        description="Send text while a person is still speaking.",
        help_text="Partial text comes sooner and may still change.",
    )
    vad_threshold: float = setting(
        0.5,
        ge=0.0,
        le=1.0,
        description="How sure the voice detector must be, from 0 to 1.",
        help_text="Higher ignores more noise and may miss quiet speech.",
    )
    vad_speech_pad_ms: int = setting(
        300,
        ge=0,
        le=1000,
        description="Audio kept before and after speech, in milliseconds.",
        complexity="advanced",
    )
    vad_silence_duration_ms: int = setting(
        500,
        ge=0,
        le=2000,
        description="Silence that ends an utterance, in milliseconds.",
        help_text="Longer waits through pauses and answers later.",
        complexity="advanced",
    )
    sample_rate: int = setting(
        16000,
        gt=0,
        description="Samples per second of the audio, in Hz.",
        help_text="Whisper was trained at 16000 Hz.",
        complexity="advanced",
    )
    channels: int = setting(
        1,
        ge=1,
        le=2,
        description="Audio channels: 1 mono, 2 stereo.",
        complexity="advanced",
    )
