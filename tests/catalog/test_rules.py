"""Rules between fields, and rules that depend on the environment."""

from __future__ import annotations

import pytest

from config_daemon.catalog.checks import bad_host, bad_url, is_placeholder
from tests.catalog.conftest import codes, definition, example


def problems(service, **changes):
    return definition(service).check(definition(service).effective({**example(service), **changes}))


def test_router_needs_room_between_least_and_most():
    (told,) = problems("router", router_stream_min_chars=50, router_stream_max_chars=49)
    assert (told.failed_field, told.error_code) == ("router_stream_max_chars", "INVALID_VALUE")
    assert "50" in told.message
    assert problems("router", router_stream_min_chars=50, router_stream_max_chars=50) == ()


def test_a_rule_is_told_beside_the_errors_of_other_fields():
    told = codes(
        problems(
            "router", router_stream_min_chars=50, router_stream_max_chars=49, router_stream_boundary_regex=3
        )
    )
    assert told == {"router_stream_max_chars": "INVALID_VALUE", "router_stream_boundary_regex": "WRONG_TYPE"}


def test_a_rule_is_silent_while_one_of_its_fields_is_wrong_by_itself():
    told = codes(problems("router", router_stream_min_chars="x", router_stream_max_chars=1))
    assert told == {"router_stream_min_chars": "WRONG_TYPE"}


def test_a_backend_without_its_address_is_incomplete_not_wrong():
    (told,) = problems("stt-worker", stt_backend="ws", ws_url=None)
    assert (told.failed_field, told.error_code) == ("ws_url", "MISSING_FIELD")
    assert codes(problems("llm-worker", provider="custom", base_url=None)) == {"base_url": "MISSING_FIELD"}
    assert codes(problems("memory-worker", store="redis", store_url=None)) == {"store_url": "MISSING_FIELD"}


def test_memory_pieces_overlap_less_than_their_length():
    told = codes(problems("memory-worker", chunk_chars=100, chunk_overlap_chars=100))
    assert told == {"chunk_overlap_chars": "INVALID_VALUE"}


def test_an_answer_fits_into_the_context():
    assert codes(problems("llm-worker", max_tokens=9000, context_tokens=8192)) == {
        "max_tokens": "INVALID_VALUE"
    }


@pytest.mark.parametrize(
    ("environment", "changes", "wrong"),
    [
        ("development", {"secret_key": "x", "cors_origins": ["*"], "log_level": "DEBUG"}, set()),
        ("staging", {"secret_key": "x" * 15}, {"secret_key"}),
        ("staging", {"secret_key": "changeme-changeme-changeme"}, {"secret_key"}),
        ("staging", {"cors_origins": ["*"]}, {"cors_origins"}),
        ("staging", {"cors_origins": ["*"], "cors_allow_credentials": False}, set()),
        ("production", {"secret_key": "too short for production"}, {"secret_key"}),
        ("production", {"cors_origins": ["*"], "cors_allow_credentials": False}, {"cors_origins"}),
        ("production", {"cors_origins": ["http://app.example.com"]}, {"cors_origins"}),
        ("production", {"log_level": "DEBUG"}, {"log_level"}),
    ],
)
def test_backend_is_stricter_the_nearer_it_is_to_users(environment, changes, wrong):
    assert codes(problems("backend-api", environment=environment, **changes)).keys() == wrong


def test_one_complaint_about_a_field_at_a_time():
    assert [p.failed_field for p in problems("backend-api", cors_origins=["app.example.com"])] == [
        "cors_origins"
    ]


def test_backend_password_is_judged_by_environment_and_never_shown():
    values = example("backend-api")
    values["database"]["password"] = "hunter2"
    (told,) = definition("backend-api").check(values)
    assert told.failed_field == "database.password"
    assert "hunter2" not in repr(told)
    assert definition("backend-api").check({**values, "environment": "development"}) == ()


def test_a_flag_needs_the_flags_it_builds_on():
    requires = {"b": ["a", "c"]}
    (told,) = problems("backend-api", feature_flags={"b": True, "a": True}, feature_flag_requires=requires)
    assert told.failed_field == "feature_flag_requires"
    assert "b needs c" in told.message
    assert problems("backend-api", feature_flags={"b": False}, feature_flag_requires=requires) == ()


def test_both_forms_of_the_database_must_agree():
    same = "postgresql://backend:other@DB.example.com/backend"
    assert problems("backend-api", database_url=same) == ()
    (told,) = problems("backend-api", database_url=same.replace("/backend", "/elsewhere"))
    assert told.failed_field == "database_url"
    assert "database.*" in told.message
    assert "other" not in repr(told)


def test_the_database_url_is_made_by_a_method_and_percent_encoded():
    from config_daemon.catalog.services.backend_api import DatabaseConfig

    config = DatabaseConfig.model_validate(
        {"host": "::1", "username": "a@b", "password": "p/w:%", "database": "my db"}
    )
    assert config.url() == "postgresql+asyncpg://a%40b:p%2Fw%3A%25@[::1]:5432/my%20db"
    assert config.connection_info() == {
        "host": "::1", "port": 5432, "database": "my db", "driver": "postgresql+asyncpg",
    }  # fmt: skip
    for shown in (repr(config), str(config.model_dump()), config.model_dump_json()):
        assert "p/w:%" not in shown
        assert "://" not in shown


@pytest.mark.parametrize("environment", ["local", "docker"])
def test_placeholders_are_fine_while_nobody_else_can_reach_the_set_up(environment):
    assert problems("dev-environment", environment=environment, openai_api_key="CHANGEME") == ()


def test_placeholders_are_refused_in_the_cloud():
    told = codes(
        problems("dev-environment", environment="cloud", openai_api_key="CHANGEME", backend_url="https://changeme.example")
    )  # fmt: skip
    assert told == {"openai_api_key": "INVALID_VALUE", "backend_url": "INVALID_VALUE"}


def test_a_password_in_a_url_is_refused_and_hidden():
    (told,) = problems("dev-environment", redis_url="redis://:s3cr3t@redis:6379")
    assert told.failed_field == "redis_url"
    assert "redis_password" in told.suggestion
    assert "s3cr3t" not in repr(told)


@pytest.mark.parametrize(
    "text", ["CHANGEME", "change-me", "<your-api-key-here>", "xxxx", "****", "Placeholder", "todo"]
)
def test_placeholders_are_recognised(text):
    assert is_placeholder(text)


@pytest.mark.parametrize(
    "text", ["sk-4f9a8b7c6d5e", "пароль-надёжный", "correct horse battery staple", "!?§$%"]
)
def test_real_secrets_are_not_taken_for_placeholders(text):
    assert not is_placeholder(text)


@pytest.mark.parametrize(
    "text", ["", "http", "http:/h", "http://", "http://h:0", "http://h:x", "http://[::1", "http://a b", "http://h\n", "http://ä"]
)  # fmt: skip
def test_broken_urls(text):
    assert bad_url(text, "http")


@pytest.mark.parametrize("text", ["a", "a.b", "1.2.3.4", "::1", "fe80::1", "xn--nxasmq6b", "a" * 63])
def test_hosts(text):
    assert bad_host(text) is None


@pytest.mark.parametrize(
    "text", ["", "a..b", "-a", "a" * 64, "1.2.3", "300.1.1.1", "h:1", "http://h", "a.b" * 90]
)
def test_what_is_no_host(text):
    assert bad_host(text)
