"""The entry point: parse, dispatch, turn errors into exit codes.

Laws: commands are imported when they are called, so that `get` stays quick; an error of ours prints
what, why and how to mend it; whatever else escapes is a bug and shows its traceback.
"""

from __future__ import annotations

import difflib
import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from config_daemon import __version__
from config_daemon.cli.session import Session, print_error, standard
from config_daemon.errors import ConfigDaemonError

# command -> (module below config_daemon.cli, one line of help); imported only when called
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Make a data folder: keys, .env, store."),
    "run": ("run", "Run the daemon in the foreground."),
    "dev": ("dev", "Run everything on this machine, to try it out."),
    "get": ("get", "Show a service's config."),
    "set": ("set", "Change values of a service."),
    "watch": ("watch", "Show verified messages as they arrive."),
    "verify": ("verify", "Check one message as a worker would."),
    "status": ("status", "Tell how the daemon is."),
}


class Lazy(click.Group):
    """A group whose commands live in modules of their own."""

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

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Add a did-you-mean to an unknown command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            if near:
                error.message += f" Did you mean {near[0]!r}?"
            raise


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
    session = Session()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(args=words, prog_name="config-daemon", obj=session, standalone_mode=False)
    except ConfigDaemonError as error:
        print_error(error, session.as_json)
        code = error.exit_code
    except click.ClickException as error:
        if session.as_json or "--json" in words:
            click.echo(
                json.dumps({"error": "USAGE", "message": error.format_message(), "exit_code": 2}), err=True
            )
        else:
            error.show()
        code = 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
