"""What commands take: services and keys with completion, and the options of every write.

Laws: a name that can be no service is refused here, before a database is asked for it; completion
never fails and never asks the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from config_daemon.cli.printing import quoted
from config_daemon.cli.session import Session
from config_daemon.cli.words import meant
from config_daemon.errors import ConfigDaemonError, ErrorContext, InvalidConfig, NotFound

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from config_daemon.catalog.definition import Definition
    from config_daemon.store.reports import Past

    _Text = click.ParamType[str, Any]
else:
    _Text = click.ParamType  # generic since click 8.4, and 8.2 is enough for us

Command = TypeVar("Command", bound=Callable[..., Any])
NAMED = 20


class Service(_Text):
    """A service's name."""

    name = "service"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name if it can be one."""
        from config_daemon.catalog.definition import is_service_name

        if is_service_name(value):
            return value
        session = ctx.find_object(Session) if ctx else None
        raise unknown_service(session, value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the services that have a definition."""
        return _offer(ctx, incomplete, lambda session: dict.fromkeys(session.catalog.names(), ""))


class Key(_Text):
    """A dotted key of the service before it; `ending` is what completion adds to it."""

    name = "key"

    def __init__(self, ending: str = "") -> None:
        self._ending = ending

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the keys of the service."""

        def keys(session: Session) -> Mapping[str, str]:
            definition = session.catalog.get(ctx.params.get("service") or "")
            fields = definition.fields.values() if definition else ()
            return {field.key + self._ending: field.description for field in fields if not field.is_secret}

        return _offer(ctx, incomplete, keys)


def _offer(
    ctx: click.Context, incomplete: str, words: Callable[[Session], Mapping[str, str]]
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    try:
        found = words(ctx.find_object(Session) or Session())
    except (ConfigDaemonError, OSError):
        return []
    return [CompletionItem(word, help=text) for word, text in found.items() if word.startswith(incomplete)]


service_argument = click.argument("service", type=Service())
expect_version_option = click.option(
    "--expect-version",
    type=click.IntRange(min=0),
    metavar="N",
    help="Refuse unless the service is at N (0: new).",
)
reason_option = click.option("--reason", metavar="TEXT", help="Why, for the history.")
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Check everything and show the change, but store nothing."
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def write_options(command: Command) -> Command:
    """Give a command the options that every write of one service has."""
    for option in (expect_version_option, reason_option, dry_run_option):
        command = option(command)
    return command


def unknown_service(session: Session | None, service: str) -> NotFound:
    """Return the error for a name that no service has, with the one that was probably meant."""
    names: list[str] = []
    try:
        if session is not None and service:
            names = session.catalog.names()
    except ConfigDaemonError:
        pass  # the folder is another problem, and told when somebody gets as far as needing it
    suggestion = None
    if near := meant(service, names):
        suggestion = f"Did you mean '{near}'?"
    elif names:
        more = ", …" if len(names) > NAMED else ""
        suggestion = f"Defined are: {', '.join(names[:NAMED])}{more}; see `config-daemon services --all`."
    return NotFound(f"there is no service {quoted(service)}", suggestion=suggestion)


def no_config(session: Session, service: str) -> NotFound:
    """Return the error for a service that has no config, or that is none."""
    if session.catalog.get(service) is None:
        return unknown_service(session, service)
    return NotFound(
        f"{service} has no config yet", suggestion=f"Give it one: `config-daemon set {service} KEY=VALUE`."
    )


def past_of(session: Session, service: str, version: int | None = None) -> Past:
    """Return a service's set values at a version, the present ones for None.

    Raises: NotFound, StoreError.
    """
    if session.reports.row(service) is None:
        raise no_config(session, service)
    return session.reports.at_version(service, version)


def definition_of(session: Session, service: str) -> Definition:
    """Return a service's definition.

    Raises: NotFound with the name that was probably meant.
    """
    definition = session.catalog.get(service)
    if definition is None:
        raise unknown_service(session, service)
    return definition


def has_key(definition: Definition, key: str) -> bool:
    """Tell whether a key is one of the service's, leads to one, or lies where members are free."""
    known = definition.fields
    if key in known or any(name.startswith(f"{key}.") for name in known):
        return True
    try:
        definition.coerce(key, "null")
    except InvalidConfig as error:
        return error.contexts[0].error_code != "UNKNOWN_KEY"
    return True


def check_keys(definition: Definition, keys: Iterable[str]) -> None:
    """Refuse keys that the service does not have, all of them at once.

    Raises: NotFound with the keys that were probably meant.
    """
    unknown = [_unknown_key(definition, key) for key in keys if not has_key(definition, key)]
    if not unknown:
        return
    headline = (
        unknown[0].message
        if len(unknown) == 1
        else f"{definition.service} lacks {len(unknown)} of these keys"
    )
    raise NotFound(headline, suggestion=unknown[0].suggestion, contexts=unknown)


def _unknown_key(definition: Definition, key: str) -> ErrorContext:
    from config_daemon.catalog.complaints import printable

    keys = list(definition.fields)
    hint = f"Its keys: {', '.join(keys[:NAMED])}."
    if near := meant(key, keys):
        hint = f"Did you mean '{near}'?"
    elif len(keys) > NAMED:
        every = f"config-daemon search '' --service {definition.service} --advanced"
        hint = f"Its keys: {', '.join(keys[:NAMED])}, …; see all with `{every}`."
    message = f"{definition.service} has no key {quoted(key)}"
    return ErrorContext("not_found", "UNKNOWN_KEY", message, hint, failed_field=printable(key[:200]))
