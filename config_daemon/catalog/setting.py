"""What shipped models are written with: a strict model, a described field, a rule between fields.

Laws:
- every field says what it is for, who needs it (simple, advanced) and what it may hold; text and
  secrets are at most 5 000 characters unless the field says otherwise; numbers are finite;
- a rule is told beside the errors of other fields, so a person sees all at once;
- a secret is a `SecretStr`, so that no repr, dump or log of a model shows it.

A program at the edge uses a model directly: `STTWorkerConfig.model_validate(values)`.
Source: seed 004 "Service-Specific Configuration Models"; seed 002 "Validation Hierarchy".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError, PydanticUndefined

from config_daemon.catalog.definition import MISSING
from config_daemon.catalog.reading import MAX_TEXT
from config_daemon.catalog.shape import INVALID_VALUE

RULES_BROKEN: Final = "rules_broken"

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Secret = Annotated[SecretStr, Field(max_length=MAX_TEXT)]


@dataclass(frozen=True, slots=True)
class Rule:
    """A law that one field's type cannot express.

    `broken` gets the values of `fields` in this order and returns what is wrong, as the end of a
    sentence that begins with the first field's name, or None. It is not asked when one of the fields
    is wrong by itself, an absent secret, or in a section that is null. `code` is `MISSING_FIELD` where
    the first field is needed because of the others.
    """

    fields: tuple[str, ...]
    says: str
    broken: Callable[..., str | None]
    suggestion: str
    code: str = INVALID_VALUE


class StrictModel(BaseModel):
    """Values exactly as typed: no unknown members, no conversions, no values in errors."""

    model_config = ConfigDict(
        extra="forbid", strict=True, hide_input_in_errors=True, frozen=True, allow_inf_nan=False
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        broken = []
        for rule in self.rules:
            values = [_value(self, key) for key in rule.fields]
            if MISSING not in values and (what := rule.broken(*values)):
                broken.append(f"{rule.fields[0]} {what}")
        if broken:
            raise PydanticCustomError(RULES_BROKEN, "{problems}", {"problems": "; ".join(broken)})
        return self


class ServiceModel(StrictModel):
    """A service's whole config; the docstring of a model is its description.

    `service` is its name, `title` a short name for people, `depends_on` the services it needs,
    `example` a complete config that is valid.
    """

    service: ClassVar[str]
    title: ClassVar[str] = ""
    depends_on: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[dict[str, Any]] = {}


def setting(
    default: Any = PydanticUndefined,
    *,
    description: str,
    help_text: str = "",
    complexity: str = "simple",
    aliases: Sequence[str] = (),
    secret: bool = False,
    path: bool = False,
    **limits: Any,
) -> Any:
    """Return a described field; without a default it is required.

    `aliases` are further names in `.env`. `limits` are Pydantic's: `ge`, `le`, `gt`, `lt`,
    `min_length`, `max_length`, `pattern`.
    """
    marks: dict[str, Any] = {"x-complexity": complexity}
    if help_text:
        marks["x-help"] = help_text
    if aliases:
        marks["x-env"] = list(aliases)
    if secret:
        marks["x-secret"] = True
    if path:
        marks["format"] = "path"
    return Field(default, description=description, json_schema_extra=marks, **limits)


def _value(model: BaseModel, key: str) -> Any:
    value: Any = model
    for name in key.split("."):
        if value is None:
            return MISSING
        value = getattr(value, name)
    return value.get_secret_value() if isinstance(value, SecretStr) else value
