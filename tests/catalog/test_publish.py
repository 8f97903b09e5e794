from __future__ import annotations

import json

from jsonschema import Draft202012Validator

from config_daemon.catalog import publish
from tests.catalog.conftest import SERVICES, definition


def test_the_published_schemas_are_fresh():
    """Mend with: python -m config_daemon.catalog.publish"""
    assert publish.stale(publish.FOLDER) == []


def test_the_published_schemas_are_json_schema_with_valid_examples():
    for service in SERVICES:
        schema = json.loads((publish.FOLDER / f"{service}.schema.json").read_text("utf-8"))
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema)
        assert all(validator.is_valid(definition(service).effective(it)) for it in schema["examples"])


def test_check_tells_what_is_stale_and_writes_nothing(tmp_path, capsys):
    arguments = ["--folder", str(tmp_path)]
    assert publish.main([*arguments, "--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert "stale: router.schema.json" in capsys.readouterr().err
    assert publish.main(arguments) == 0
    assert publish.main([*arguments, "--check"]) == 0
    (tmp_path / "router.schema.json").write_text("{}")
    (tmp_path / "gone.schema.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    assert publish.main([*arguments, "--check"]) == 1
    assert publish.main(arguments) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["notes.txt", *(f"{service}.schema.json" for service in SERVICES)]
    )
