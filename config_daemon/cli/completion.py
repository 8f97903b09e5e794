"""`completion`: let the shell complete commands, services and keys."""

from __future__ import annotations

import click

from config_daemon.cli.session import Session, standard

VARIABLE = "_CONFIG_DAEMON_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@standard
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    config-daemon completion bash > ~/.local/share/bash-completion/completions/config-daemon
    config-daemon completion zsh > "${fpath[1]}/_config-daemon"
    config-daemon completion fish > ~/.config/fish/completions/config-daemon.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    script = found(context.find_root().command, {}, "config-daemon", VARIABLE)
    text = script.source_template % script.source_vars()  # source() would run bash to look at its version
    session: Session = context.obj
    session.show({"shell": shell, "script": text}, lambda: text.strip("\n"))
