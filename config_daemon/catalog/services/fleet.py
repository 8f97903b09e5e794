"""The service model `global`: what a whole fleet has in common.

Any worker may follow it beside its own service; nothing is merged into other services. (`global` is
a word of Python, so the module is called after what it describes.)
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from config_daemon.catalog.setting import ServiceModel, Text, setting


class GlobalConfig(ServiceModel):
    """What every machine of the fleet may want to know."""

    service: ClassVar[str] = "global"
    title: ClassVar[str] = "Fleet-wide settings"
    example: ClassVar[dict[str, Any]] = {
        "site_name": "Shop 12, Hamburg",
        "timezone": "Europe/Berlin",
        "locale": "de_DE",
        "log_level": "INFO",
        "telemetry_enabled": False,
        "maintenance": True,
        "maintenance_message": "We are back at noon.",
    }

    site_name: Text = setting("", description="Name of this installation, for displays and reports.")
    timezone: Text = setting(
        "UTC",
        pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$",
        description="Time zone as the IANA list names it.",
        help_text="For example Europe/Berlin or America/New_York.",
    )
    locale: Text = setting(
        "en_US",
        pattern=r"^[a-z]{2,3}([_-][A-Z]{2})?$",
        description="Language and country for texts and formats.",
        help_text="For example en_US or de_DE.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = setting(
        "INFO",
        description="What programs write to their logs, at least.",
        help_text="A service's own log level, where it has one, comes before this.",
    )
    telemetry_enabled: bool = setting(
        False,
        description="Allow programs to send usage figures.",
        help_text="Off unless somebody decides otherwise.",
        complexity="advanced",
    )
    maintenance: bool = setting(False, description="Tell users that the installation is being worked on.")
    maintenance_message: Text = setting("", description="What users read during maintenance.")
