"""The service model `backend-api`: a web backend with its database.

Source: seed 002, DatabaseConfig and EnvironmentSettings, with the document's variable names as
aliases. `environment` has no alias: `ENVIRONMENT` in `.env` is the daemon's own.

Which secrets are good enough depends on `environment`; a secret is judged where it is present.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import quote, unquote, urlsplit

from pydantic import Field

from config_daemon.catalog.checks import bad_host, bad_origin, is_placeholder
from config_daemon.catalog.setting import Rule, Secret, ServiceModel, StrictModel, Text, setting

_DRIVERS: Final = r"^(postgresql|mysql|mariadb|mssql|oracle|sqlite)(\+[a-z][a-z0-9_]*)?$"
_KEY_CHARACTERS: Final = {"development": 1, "staging": 16, "production": 32}
_PASSWORD_CHARACTERS: Final = {"development": 1, "staging": 8, "production": 12}
_Flag = Annotated[str, Field(min_length=1, max_length=64)]


class DatabaseConfig(StrictModel):
    """How the backend reaches its database."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("host",), "host is a host name or an IP address", bad_host, "Write for example db.example.com."
        ),
    )

    host: Text = setting(min_length=1, aliases=["DB_HOST"], description="Host name or IP address.")
    port: int = setting(5432, ge=1, le=65535, aliases=["DB_PORT"], description="Port of the database server.")
    username: Text = setting(min_length=1, aliases=["DB_USERNAME"], description="User that the backend is.")
    password: Secret = setting(
        secret=True, min_length=1, aliases=["DB_PASSWORD"], description="Password of that user."
    )
    database: Text = setting(min_length=1, aliases=["DB_DATABASE"], description="Name of the database.")
    driver: Text = setting(
        "postgresql+asyncpg",
        pattern=_DRIVERS,
        aliases=["DB_DRIVER"],
        description="SQLAlchemy dialect and driver.",
        complexity="advanced",
    )

    def url(self) -> str:
        """Return the URL for SQLAlchemy, percent-encoded; it holds the password, so never log it."""
        user = quote(self.username, safe="")
        password = quote(self.password.get_secret_value(), safe="")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.driver}://{user}:{password}@{host}:{self.port}/{quote(self.database, safe='')}"

    def connection_info(self) -> dict[str, Any]:
        """Return what may be logged about the connection."""
        return {"host": self.host, "port": self.port, "database": self.database, "driver": self.driver}


def _weak(text: str, environment: str, characters: dict[str, int]) -> str | None:
    least = characters[environment]
    if len(text) < least:
        return f"is shorter than the {least} characters that {environment} needs"
    if environment != "development" and is_placeholder(text):
        return f"is still the placeholder of a template, which {environment} refuses"
    return None


def _weak_key(secret_key: str, environment: str) -> str | None:
    return _weak(secret_key, environment, _KEY_CHARACTERS)


def _weak_password(password: str, environment: str) -> str | None:
    return _weak(password, environment, _PASSWORD_CHARACTERS)


def _bad_origins(origins: list[str]) -> str | None:
    for place, origin in enumerate(origins):
        if wrong := bad_origin(origin):
            return f"[{place}] {wrong}"
    return None


def _unsafe_origins(origins: list[str], environment: str, credentials: bool) -> str | None:
    if environment == "development":
        return None
    if "*" in origins and (credentials or environment == "production"):
        return f"allows every origin (*), which {environment} refuses" + (
            "" if environment == "production" else " together with credentials"
        )
    if environment == "production" and any(not origin.startswith("https://") for origin in origins):
        return "holds an origin without https://, which production refuses"
    return None


def _debugging(log_level: str, environment: str) -> str | None:
    return (
        "is DEBUG, which production refuses" if (log_level, environment) == ("DEBUG", "production") else None
    )


def _unmet_flags(requires: dict[str, list[str]], flags: dict[str, bool]) -> str | None:
    for flag, needed in requires.items():
        missing = [other for other in needed if not flags.get(other, False)]
        if flags.get(flag, False) and missing:
            return f"says that {flag} needs {', '.join(missing)}, which is off"
    return None


def _differs(url: str | None, host: str, port: int, username: str, database: str) -> str | None:
    """Say whether the old single variable leads elsewhere than the single fields."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        there = (parts.hostname, parts.port or port, unquote(parts.username or ""), unquote(parts.path[1:]))
    except ValueError:
        return "is no URL"
    if there != (host.lower().strip("[]"), port, username, database):
        return "and database.* lead to different databases"
    return None


class BackendApiConfig(ServiceModel):
    """A web backend: its database, who may call it, and which features are on."""

    service: ClassVar[str] = "backend-api"
    title: ClassVar[str] = "Backend API"
    example: ClassVar[dict[str, Any]] = {
        "environment": "production",
        "database": {
            "host": "db.example.com",
            "port": 5432,
            "username": "backend",
            "password": "example only: never real",
            "database": "backend",
            "driver": "postgresql+asyncpg",
        },
        "database_url": None,
        "cors_origins": ["https://app.example.com", "https://*.example.com"],
        "cors_allow_credentials": True,
        "cors_allow_methods": ["GET", "POST"],
        "cors_allow_headers": ["Authorization", "Content-Type"],
        "secret_key": "an example of 32 characters or more",
        "log_level": "INFO",
        "feature_flags": {"search": True, "search_suggestions": True},
        "feature_flag_requires": {"search_suggestions": ["search"]},
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("secret_key", "environment"),
            "secret_key is at least 32 characters in production and 16 in staging, and no placeholder",
            _weak_key,
            "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'.",
        ),
        Rule(
            ("database.password", "environment"),
            "database.password is at least 12 characters in production and 8 in staging, and no placeholder",
            _weak_password,
            "Give the database user a longer password of its own.",
        ),
        Rule(
            ("cors_origins",),
            "cors_origins holds origins such as https://app.example.com, or *",
            _bad_origins,
            "Write scheme and host only, for example https://app.example.com.",
        ),
        Rule(
            ("cors_origins", "environment", "cors_allow_credentials"),
            "cors_origins: https:// only and no * in production; no * with credentials in staging",
            _unsafe_origins,
            "Name each origin, for example https://app.example.com.",
        ),
        Rule(
            ("log_level", "environment"),
            "log_level is not DEBUG in production",
            _debugging,
            "Set log_level to INFO or above.",
        ),
        Rule(
            ("feature_flag_requires", "feature_flags"),
            "a flag that is on has the flags it needs on",
            _unmet_flags,
            "Switch the needed flag on, or the other one off.",
        ),
        Rule(
            ("database_url", "database.host", "database.port", "database.username", "database.database"),
            "database_url and database.* lead to the same database",
            _differs,
            "Remove DATABASE_URL and keep DB_HOST, DB_PORT, DB_USERNAME, DB_PASSWORD and DB_DATABASE.",
        ),
    )

    environment: Literal["development", "staging", "production"] = setting(
        "development",
        description="Where the backend runs.",
        help_text="production and staging refuse weak secrets and open CORS origins. In .env only the"
        " prefixed name works.",
    )
    database: DatabaseConfig = setting(description="How the backend reaches its database.")
    database_url: Secret | None = setting(
        None,
        secret=True,
        min_length=1,
        aliases=["DATABASE_URL"],
        description="Old form of the database settings, as one URL.",
        help_text="Kept for old installations: use the fields of database instead.",
        complexity="advanced",
    )
    cors_origins: list[Text] = setting(
        ["http://localhost:3000"],
        aliases=["CORS_ORIGINS"],
        description="Web origins that may call the backend.",
        help_text="Such as https://app.example.com or https://*.example.com; * allows all. In .env"
        " separated by commas, or as a JSON list.",
    )
    cors_allow_credentials: bool = setting(
        True,
        aliases=["CORS_ALLOW_CREDENTIALS"],
        description="Allow cookies and logins across origins.",
        complexity="advanced",
    )
    cors_allow_methods: list[Text] = setting(
        ["*"],
        aliases=["CORS_ALLOW_METHODS"],
        description="HTTP methods allowed across origins; * allows all.",
        complexity="advanced",
    )
    cors_allow_headers: list[Text] = setting(
        ["*"],
        aliases=["CORS_ALLOW_HEADERS"],
        description="HTTP headers allowed across origins; * allows all.",
        complexity="advanced",
    )
    secret_key: Secret = setting(
        secret=True,
        min_length=1,
        aliases=["SECRET_KEY"],
        description="Key that signs sessions.",
        help_text="Long and random: at least 32 characters in production, 16 in staging.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = setting(
        "INFO", aliases=["LOG_LEVEL"], description="What the backend writes to its log, at least."
    )
    feature_flags: dict[_Flag, bool] = setting(
        {}, aliases=["FEATURE_FLAGS"], description="Features that are on or off, by name."
    )
    feature_flag_requires: dict[_Flag, list[_Flag]] = setting(
        {},
        aliases=["FEATURE_FLAG_REQUIRES"],
        description="For a feature, the features that must be on with it.",
        complexity="advanced",
    )
