"""The shipped models hold what the documents promise."""

from __future__ import annotations

import importlib
import statistics
import time

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from config_daemon.catalog.definition import MISSING
from config_daemon.catalog.services import SHIPPED
from tests.catalog.conftest import SERVICES, codes, definition, example

# key: (type, default, least, greatest), as in the document (seed 004)
STT = {
    "whisper_model": ("string", "base.en", None, None),
    "stt_backend": ("enum", "whisper", None, None),
    "ws_url": ("string", None, None, None),
    "streaming_partials": ("boolean", False, None, None),
    "vad_threshold": ("float", 0.5, 0.0, 1.0),
    "vad_speech_pad_ms": ("integer", 300, 0, 1000),
    "vad_silence_duration_ms": ("integer", 500, 0, 2000),
    "sample_rate": ("integer", 16000, 1, None),
    "channels": ("integer", 1, 1, 2),
}
TTS = {
    "piper_voice": ("string", "en_US-lessac-medium", None, None),
    "tts_streaming": ("boolean", False, None, None),
    "tts_pipeline": ("boolean", True, None, None),
    "tts_aggregate_by_utt": ("boolean", True, None, None),
    "tts_aggregate_timeout_sec": ("float", 2.0, 0.0, 10.0),
    "volume_percent": ("integer", 100, 0, 200),
}
ROUTER = {
    "router_llm_tts_stream": ("boolean", True, None, None),
    "router_stream_min_chars": ("integer", 30, 1, None),
    "router_stream_max_chars": ("integer", 200, 1, None),
    "router_stream_boundary_only": ("boolean", True, None, None),
    "router_stream_boundary_regex": ("string", r"[.!?…]+[\"')\\]]?\\s", None, None),
}


@pytest.mark.parametrize(
    ("service", "promised"), [("stt-worker", STT), ("tts-worker", TTS), ("router", ROUTER)]
)
def test_fields_defaults_and_limits_are_those_of_the_document(service, promised):
    fields = definition(service).fields
    assert {k: (f.type, f.default, f.minimum, f.maximum) for k, f in fields.items()} == promised
    assert list(fields) == list(promised)


def test_worker_options_have_the_documents_eleven_fields_and_four_sections():
    fields = definition("agent-worker").fields
    top = [key for key in fields if "." not in key]
    assert top == [
        "worker_pool_size", "timeout", "entry_point", "agent_name", "server_url", "api_key", "api_secret",
        "max_concurrent_jobs", "health_check_port", "load_threshold", "graceful_shutdown_timeout",
        "default_worker_options", "tool_registry", "media", "session",
    ]  # fmt: skip
    assert fields["worker_pool_size"].required
    assert (fields["health_check_port"].minimum, fields["health_check_port"].maximum) == (1, 65535)
    for section in top[-4:]:
        assert (fields[section].type, fields[section].nullable, fields[section].default) == (
            "object",
            True,
            None,
        )


@pytest.mark.parametrize("service", SERVICES)
def test_every_field_tells_a_person_what_it_is(service):
    for field in definition(service).fields.values():
        assert field.description.endswith("."), field.key
        assert field.complexity in {"simple", "advanced"}
        assert (field.type == "secret") == field.is_secret
        assert (field.default is MISSING) == field.required, field.key


@pytest.mark.parametrize("service", SERVICES)
def test_the_example_is_valid_for_the_catalog_and_for_the_model_itself(service):
    values = definition(service).effective(example(service))
    assert definition(service).check(values) == ()
    module, _, name = SHIPPED[service].partition(":")
    model = getattr(importlib.import_module(f"config_daemon.catalog.services.{module}"), name)
    made = model.model_validate(values)
    assert model.service == service
    for key, field in definition(service).fields.items():
        if field.is_secret and "." not in key:
            secret = getattr(made, key)
            assert isinstance(secret, SecretStr | None)
            if secret is not None:
                assert secret.get_secret_value() not in repr(made)


@pytest.mark.parametrize("service", SERVICES)
def test_defaults_are_valid_apart_from_required_fields(service):
    it = definition(service)
    missing = {key for key, field in it.fields.items() if field.required and not field.is_secret}
    assert codes(it.check(it.effective({}))) == dict.fromkeys(missing, "MISSING_FIELD")


@pytest.mark.parametrize("service", ["llm-worker", "memory-worker"])
def test_our_own_workers_have_six_fields_a_secret_an_enum_and_a_bounded_float(service):
    fields = definition(service).fields.values()
    assert len(fields) >= 6
    assert any(field.is_secret for field in fields)
    assert any(field.type == "enum" and len(field.allowed) > 1 for field in fields)
    assert any(field.type == "float" and None not in (field.minimum, field.maximum) for field in fields)


@pytest.mark.parametrize("service", SERVICES)
def test_every_text_has_a_length_in_the_published_schema(service):
    def texts(node):
        if isinstance(node, dict):
            if node.get("type") == "string" and not {"enum", "const"} & node.keys():
                yield node
            for keyword, inner in node.items():
                if keyword != "examples":
                    yield from texts(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from texts(inner)

    found = list(texts(definition(service).schema()))
    assert all("maxLength" in text for text in found)


@pytest.mark.parametrize(
    ("service", "key", "accepted", "refused"),
    [
        ("stt-worker", "vad_threshold", [0, 0.0, 1, 1.0, 0.5], [-0.1, 1.1, True, "0.5", None]),
        ("stt-worker", "vad_speech_pad_ms", [0, 1000], [-1, 1001, 10.0, False]),
        ("stt-worker", "sample_rate", [1, 16000], [0, -1, 16000.0]),
        ("stt-worker", "channels", [1, 2], [0, 3]),
        ("stt-worker", "stt_backend", ["whisper"], ["Whisper", "", None, 1]),
        ("stt-worker", "whisper_model", ["", "x" * 5000], ["x" * 5001, None, 3]),
        ("stt-worker", "ws_url", [None, "ws://h:1/p", "wss://h"], ["http://h", "ws://", "h:1", "ws://u:p@h"]),
        ("tts-worker", "tts_aggregate_timeout_sec", [0, 10], [10.5, -1]),
        ("tts-worker", "volume_percent", [0, 200], [201]),
        ("router", "router_stream_boundary_regex", ["", r"\.\s"], ["(", "[", "*a", "x" * 5001]),
        ("agent-worker", "load_threshold", [0.0, 1.0], [1.01]),
        ("agent-worker", "health_check_port", [1, 65535], [0, 65536]),
        ("agent-worker", "worker_pool_size", [1], [0, -1]),
        ("agent-worker", "entry_point", [None, "a", "a.b_c.D9"], ["", "a.", "a b", "1a", "a..b"]),
        ("agent-worker", "server_url", ["ws://h", "wss://h:443/x"], ["https://h", "", None]),
        ("agent-worker", "media", [None, {}, {"a": {"b": [1]}}], ["", [], 1]),
        ("dev-environment", "redis_session_db", [0, 15], [-1, 16]),
        ("dev-environment", "backend_url", ["http://h", "https://h:8443/x"], ["ftp://h", "h", "http://h:99999"]),
        ("dev-environment", "redis_url", ["redis://h:6379/0", "rediss://h", "unix:///run/redis"], ["h:6379", "redis://"]),
        ("backend-api", "log_level", ["DEBUG", "CRITICAL"], ["debug", "TRACE"]),
        ("backend-api", "feature_flags", [{}, {"a": True}], [{"a": 1}, {"": True}, {"a": None}, []]),
        ("backend-api", "cors_origins", [[], ["*"], ["https://*.a.b:1"]], [["a"], ["https://a/x"], [1], "*"]),
        ("global", "timezone", ["UTC", "Europe/Berlin"], ["", "Europe/", "a b"]),
    ],
)  # fmt: skip
def test_limits(service, key, accepted, refused):
    it = definition(service)
    calm = {"backend-api": {"environment": "development"}, "stt-worker": {"stt_backend": "whisper"}}
    values = {**example(service), **calm.get(service, {})}
    for value in accepted:
        assert it.check({**values, key: value}) == (), value
    for value in refused:
        assert {p.failed_field for p in it.check({**values, key: value})} == {key}, value


def test_nested_limits_of_the_database():
    it = definition("backend-api")
    for key, value in [
        ("host", "a b"),
        ("host", ""),
        ("port", 0),
        ("port", "5432"),
        ("driver", "mongodb"),
        ("username", ""),
    ]:
        values = example("backend-api")
        values["database"][key] = value
        assert codes(it.check(values)).keys() == {f"database.{key}"}, (key, value)
    for host in ("localhost", "10.0.0.1", "::1", "db_1.internal."):
        values = example("backend-api")
        values["database"]["host"] = host
        assert it.check(values) == ()


@pytest.mark.parametrize("service", SERVICES)
def test_effective_and_check_take_less_than_a_millisecond(service):
    it, values = definition(service), example(service)
    taken = []
    for _ in range(50):
        start = time.perf_counter()
        it.check(it.effective(values))
        taken.append(time.perf_counter() - start)
    assert statistics.median(taken) < 0.001


def test_a_model_refuses_what_the_catalog_refuses_also_when_used_alone():
    from config_daemon.catalog.services.router import RouterConfig

    with pytest.raises(ValidationError) as caught:
        RouterConfig.model_validate({"router_stream_min_chars": 9, "router_stream_max_chars": 3})
    assert "below router_stream_min_chars" in str(caught.value)
    with pytest.raises(ValidationError):
        RouterConfig.model_validate({"router_stream_mix_chars": 9})
    model: BaseModel = RouterConfig()
    with pytest.raises(ValidationError):
        model.router_stream_min_chars = 5
