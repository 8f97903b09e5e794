"""What the catalog's tests share: the shipped definitions, and schema files made on the spot."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config_daemon.catalog.registered import shipped
from config_daemon.catalog.schema_file import compile_schema
from config_daemon.catalog.service import ServiceDefinition
from config_daemon.catalog.services import SHIPPED

SERVICES = sorted(SHIPPED)
_DEFINITIONS: dict[str, ServiceDefinition] = {}


def definition(service: str) -> ServiceDefinition:
    if service not in _DEFINITIONS:
        _DEFINITIONS[service] = shipped(service)
    return _DEFINITIONS[service]


def example(service: str) -> dict[str, Any]:
    return definition(service).schema()["examples"][0]


def from_schema(schema: dict[str, Any], service: str = "sensor") -> ServiceDefinition:
    return ServiceDefinition(service, compile_schema(json.dumps(schema).encode()))


def of_properties(properties: dict[str, Any], **more: Any) -> ServiceDefinition:
    return from_schema({"type": "object", "properties": properties, "additionalProperties": False, **more})


def codes(problems: tuple[Any, ...]) -> dict[str, str]:
    return {problem.failed_field: problem.error_code for problem in problems}


@pytest.fixture
def drop(tmp_path: Path) -> Callable[..., Path]:
    """Drop a schema file for a service into the folder; text is taken as it is."""

    def put(service: str, schema: dict[str, Any] | str) -> Path:
        path = tmp_path / f"{service}.schema.json"
        path.write_text(schema if isinstance(schema, str) else json.dumps(schema))
        return path

    return put


def settle(folder: Path, *, at_ns: int = 1_700_000_000_000_000_000) -> None:
    """Give a folder and its files an age, so that their times prove that nothing changed."""
    for path in (*folder.iterdir(), folder):
        os.utime(path, ns=(at_ns, at_ns))


def number(default: int = 1, **more: Any) -> dict[str, Any]:
    """A schema with one integer, for tests that only need some definition."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {"amount": {"type": "integer", "default": default, **more}},
    }
