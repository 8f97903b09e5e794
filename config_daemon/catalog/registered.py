"""The models that come with the program or with other installed packages.

Laws: a shipped model is imported when somebody asks for it; a registered model that cannot be used
is a problem to be told and never stops the program.

Source: packaging.python.org, "Entry points specification" (group `config_daemon.services`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Final

from config_daemon.catalog.definition import is_service_name
from config_daemon.catalog.services import SHIPPED
from config_daemon.catalog.shape import SchemaError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from config_daemon.catalog.service import ServiceDefinition

GROUP: Final = "config_daemon.services"


def shipped(service: str) -> ServiceDefinition:
    """Return the definition of a service that this program ships."""
    from config_daemon.catalog.model import definition_of

    module, _, name = SHIPPED[service].partition(":")
    return definition_of(getattr(import_module(f"config_daemon.catalog.services.{module}"), name))


def registered() -> Iterator[tuple[str, ServiceDefinition | SchemaError]]:
    """Yield, by the name of its entry point, each model of other packages or why it cannot be used."""
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        try:
            yield point.name, _load(point)
        except SchemaError as problem:
            yield point.name, problem


def _load(point: EntryPoint) -> ServiceDefinition:
    from config_daemon.catalog.model import definition_of
    from config_daemon.catalog.setting import ServiceModel

    try:
        model = point.load()
        if not (inspect.isclass(model) and issubclass(model, ServiceModel)):
            raise SchemaError(
                f"{point.value} is no service model",
                f"Derive it from {ServiceModel.__module__}.ServiceModel.",
            )
        if not is_service_name(getattr(model, "service", None)):
            raise SchemaError(
                f"{point.value} names no service",
                'Give the class an attribute such as service = "my-worker".',
            )
        return definition_of(model)
    except SchemaError:
        raise
    except Exception as error:
        raise SchemaError(
            f"{point.value} cannot be loaded: {type(error).__name__}", "Reinstall or remove the package."
        ) from error
