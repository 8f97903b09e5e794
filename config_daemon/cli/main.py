"""The entry point: parse, dispatch, turn errors into exit codes.

Laws: commands are imported when they are called, so that `get` stays quick; an error of ours prints
what, why and how to mend it, as JSON too when that was asked for anywhere; whatever else escapes is a
bug and shows its traceback.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from config_daemon import __version__
from config_daemon.cli.printing import prepare_streams, print_error, visible
from config_daemon.cli.session import Session, standard
from config_daemon.cli.words import meant
from config_daemon.errors import ConfigDaemonError, UsageError

INTERRUPTED = 130
READER_GONE = 141  # what a shell says of a program that SIGPIPE ended, as of any other in a pipeline

# command -> (module below config_daemon.cli, one line of help); imported only when called
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Make a data folder: keys, .env, store."),
    "run": ("run", "Run the daemon in the foreground."),
    "dev": ("dev", "Run everything on this machine, to try it out."),
    "status": ("status", "Tell how the daemon is."),
    "services": ("services", "List the services that have a config."),
    "get": ("get", "Show a service's config."),
    "set": ("set", "Change values of a service."),
    "unset": ("unset", "Take values of a service away."),
    "edit": ("edit", "Change a service's values in an editor."),
    "apply": ("apply", "Make services be what files say."),
    "diff": ("diff", "Show what changed, or what a file would change."),
    "search": ("search", "Find keys by what they are for."),
    "history": ("history", "Show what changed, when, by whom and why."),
    "rollback": ("rollback", "Make a service be what it was."),
    "delete": ("delete", "Withdraw a service's config."),
    "export": ("export", "Write the set values of services."),
    "import": ("import_", "Read back what export wrote."),
    "purge": ("purge", "Clear the topic of a deleted service, or of an orphan."),
    "adopt": ("adopt", "Look at a row that was edited by hand, and seal it."),
    "restore": ("restore", "Put the store back from the cache or from a copy."),
    "rebuild": ("rebuild", "Make a lost database anew from whatever there is."),
    "audit": ("audit", "Check that history and access log are as they were written."),
    "lkg": ("lkg", "Look at the last-known-good cache."),
    "watch": ("watch", "Show verified messages as they arrive."),
    "verify": ("verify", "Check one message as a worker would."),
    "worker": ("worker", "Say which workers are expected, and see what they run."),
    "wait": ("wait", "Wait until every worker applied a version."),
    "top": ("top", "Show health, services and workers, live."),
    "keys": ("keys", "Show, back up, rotate and revoke the keys."),
    "settings": ("settings", "Show the settings of config-daemon itself."),
    "completion": ("completion", "Print a shell's completion script."),
}


class _ReaderGone(Exception):
    """A closed pipe, in a form that click does not make an exit 1 of."""


@contextlib.contextmanager
def _past_click() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGone from error


class Lazy(click.Group):
    """A group whose commands live in modules of their own."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Parse the command line; `--help` prints within."""
        with _past_click():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _past_click():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"config_daemon.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Offer commands without importing them, and the options."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return (
            found if found and incomplete[:1] != "-" else click.Command.shell_complete(self, ctx, incomplete)
        )

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Add a did-you-mean to an unknown command."""
        if args and args[0] not in COMMANDS and args[0][:1] != "-" and not ctx.resilient_parsing:
            near = meant(args[0], COMMANDS)
            hint = f" Did you mean '{near}'?" if near else ""
            raise click.UsageError(f"No such command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="config-daemon")
@standard
@click.pass_context
def cli(context: click.Context) -> None:
    """Signed configuration broadcast for edge fleets over MQTT.

    \b
    Try it:   config-daemon dev
              config-daemon set stt-worker vad_threshold=0.6
              config-daemon get stt-worker --source
    """
    context.ensure_object(Session)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; ends in `sys.exit`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    try:
        code = run(words)
        code = code if _all_printed() else code or ConfigDaemonError.exit_code
    except (_ReaderGone, BrokenPipeError):  # whoever read our output has seen enough
        code = READER_GONE
        _drop_output()
    sys.exit(code)


def run(words: list[str]) -> int:
    """Run one command line and return its exit code; errors are printed."""
    session = Session()
    try:
        code = cli.main(args=words, prog_name="config-daemon", obj=session, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except ConfigDaemonError as error:
        print_error(error, _wants_json(session, words))
        return error.exit_code
    except click.ClickException as error:
        return _tell_usage(error, _wants_json(session, words))
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED


def _wants_json(session: Session, words: list[str]) -> bool:
    """Tell whether JSON was asked for, also where parsing ended before it got there."""
    return session.as_json or "--json" in words[: words.index("--") if "--" in words else None]


def _tell_usage(error: click.ClickException, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "config-daemon"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        if not as_json:
            error.show()
            return UsageError.exit_code
        message = "a command is missing"
    else:
        message = visible(error.format_message()[:500])
    print_error(UsageError(message, suggestion=f"See `{path} --help`."), as_json)
    return UsageError.exit_code


def _all_printed() -> bool:
    """Print what is buffered; False when it is not taken.

    Raises: BrokenPipeError when its reader is gone.
    """
    if sys.stdout is None:
        return True
    try:
        sys.stdout.flush()
        return True
    except BrokenPipeError:
        raise
    except (OSError, ValueError):
        _drop_output()
        return False


def _drop_output() -> None:
    """Drop what nobody takes, or Python would complain about it at its end."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
            continue
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
