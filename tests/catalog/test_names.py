"""Names in `.env`, and models of other packages: one name means one key, one service has one definition."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from config_daemon.catalog.catalog import Catalog
from config_daemon.catalog.setting import ServiceModel, setting
from config_daemon.errors import SettingsError
from tests.catalog.conftest import SERVICES, number, settle


def alias(name, **more):
    return number(**{"x-env": name}, **more)


def test_every_env_name_leads_to_one_key(tmp_path, drop):
    drop("my-sensor", alias("SENSOR_AMOUNT"))
    catalog = Catalog.load(tmp_path)
    names = catalog.env_names()
    assert names["STT_WORKER__VAD_THRESHOLD"] == ("stt-worker", "vad_threshold")
    assert names["BACKEND_API__DATABASE_HOST"] == names["DB_HOST"] == ("backend-api", "database.host")
    assert names["MY_SENSOR__AMOUNT"] == names["SENSOR_AMOUNT"] == ("my-sensor", "amount")
    for unknown in (
        "ENVIRONMENT",
        "stt_worker__vad_threshold",
        "STT-WORKER__VAD_THRESHOLD",
        "STT_WORKER__",
        "__X",
        "",
        "X",
    ):
        assert unknown not in names
    everything = dict(names.items())
    assert len(everything) == len(names)
    assert everything["LLM_WORKER__API_KEY"] == ("llm-worker", "api_key")
    (tmp_path / "my-sensor.schema.json").unlink()
    catalog.refresh()
    assert "SENSOR_AMOUNT" not in names
    assert "MY_SENSOR__AMOUNT" not in names


def test_the_documents_variable_names_are_aliases_of_the_backend():
    names = Catalog.load().env_names()
    for name, key in {
        "DB_HOST": "database.host", "DB_PORT": "database.port", "DB_USERNAME": "database.username",
        "DB_PASSWORD": "database.password", "DB_DATABASE": "database.database", "DB_DRIVER": "database.driver",
        "CORS_ORIGINS": "cors_origins", "CORS_ALLOW_CREDENTIALS": "cors_allow_credentials",
        "CORS_ALLOW_METHODS": "cors_allow_methods", "CORS_ALLOW_HEADERS": "cors_allow_headers",
        "SECRET_KEY": "secret_key", "LOG_LEVEL": "log_level", "FEATURE_FLAGS": "feature_flags",
        "DATABASE_URL": "database_url", "BACKEND_API__ENVIRONMENT": "environment",
    }.items():  # fmt: skip
        assert names[name] == ("backend-api", key)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"a": alias("SAME"), "b": alias("SAME")}, "SAME"),
        ({"a": alias("DB_HOST")}, "DB_HOST"),
        ({"a": alias("STT_WORKER__CHANNELS")}, "STT_WORKER__CHANNELS"),
        ({"a": alias("B__AMOUNT"), "b": number()}, "B__AMOUNT"),
        ({"a": number(), "b": alias("A__AMOUNT")}, "A__AMOUNT"),
        (
            {"a": {"type": "object", "properties": {"b__amount": {"type": "integer"}}}, "a--b": number()},
            "A__B__AMOUNT",
        ),
    ],
)
def test_a_name_with_two_meanings_stops_the_start_and_keeps_a_later_file_out(tmp_path, drop, files, named):
    (last, schema), *others = reversed(files.items())
    for service, earlier in others:
        drop(service, earlier)
    if others:
        running = Catalog.load(tmp_path)
        drop(last, schema)
        settle(tmp_path)
        assert running.refresh() == set()
        assert named in running.problems[0].message
        assert running.get(last) is None
        assert running.get(others[0][0]) is not None
        (tmp_path / f"{others[0][0]}.schema.json").unlink()
        running.refresh()
        running.refresh(full=True)
        assert running.get(last) is not None
        assert running.problems == ()
        drop(*others[0])
    else:
        drop(last, schema)
    with pytest.raises(SettingsError, match=named) as caught:
        Catalog.load(tmp_path)
    assert caught.value.contexts[0].suggestion


def test_a_running_file_that_takes_a_used_name_keeps_its_old_definition(tmp_path, drop):
    drop("a", alias("FIRST"))
    drop("b", alias("SECOND"))
    catalog = Catalog.load(tmp_path)
    drop("b", alias("FIRST", default=5))
    assert catalog.refresh(full=True) == set()
    assert catalog.get("b").effective({}) == {"amount": 1}
    assert catalog.env_names()["SECOND"] == ("b", "amount")
    drop("a", alias("SECOND"))
    drop("b", alias("FIRST"))
    catalog.refresh(full=True)
    catalog.refresh(full=True)
    assert catalog.env_names()["FIRST"] == ("b", "amount")
    assert catalog.env_names()["SECOND"] == ("a", "amount")
    assert catalog.problems == ()


class Lamp(ServiceModel):
    """Shines."""

    service = "lamp"
    title = "Lamp"
    brightness: int = setting(50, ge=0, le=100, aliases=["BRIGHTNESS"], description="In percent.")


class Thief(ServiceModel):
    """Claims a service that is shipped."""

    service = "stt-worker"
    brightness: int = setting(50, description="In percent.")


class Clasher(ServiceModel):
    """Claims a name that is taken."""

    service = "clasher"
    host: int = setting(50, aliases=["DB_HOST"], description="Taken.")


class Nameless(ServiceModel):
    """Has no service."""


def register(monkeypatch, *values):
    points = [
        EntryPoint(f"p{n}", f"{__name__}:{value}", "config_daemon.services") for n, value in enumerate(values)
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda *, group: [p for p in points if p.group == group]
    )


def test_models_of_other_packages_are_services_too(monkeypatch, tmp_path, drop):
    register(monkeypatch, "Lamp")
    drop("lamp", number())
    catalog = Catalog.load(tmp_path)
    assert catalog.get("lamp").effective({}) == {"brightness": 50}
    assert catalog.env_names()["BRIGHTNESS"] == ("lamp", "brightness")
    assert [told.failed_field for told in catalog.problems] == ["lamp.schema.json"]


@pytest.mark.parametrize("value", ["Nameless", "Thief", "missing", "number"])
def test_a_registered_model_that_cannot_be_used_is_told_and_stops_nothing(monkeypatch, value):
    register(monkeypatch, value, "Lamp")
    catalog = Catalog.load()
    assert catalog.names() == sorted([*SERVICES, "lamp"])
    (told,) = catalog.problems
    assert told.suggestion
    assert "whisper_model" in catalog.get("stt-worker").fields


def test_a_registered_model_that_takes_a_used_name_stops_the_start(monkeypatch):
    register(monkeypatch, "Clasher")
    with pytest.raises(SettingsError, match="DB_HOST"):
        Catalog.load()
