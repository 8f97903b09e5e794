"""What the installed commands call: they say which extra is missing where only a worker's needs were installed."""

from __future__ import annotations

import sys
from importlib import import_module

UNAVAILABLE = 69


def config_daemon() -> int:
    """Run `config-daemon`; return its exit code."""
    return _run("config_daemon.cli.main", "daemon")


def config_agent() -> int:
    """Run `config-agent`; return its exit code."""
    return _run("config_daemon.agent.main", "agent")


def _run(module: str, extra: str) -> int:
    try:
        main = import_module(module).main
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "config_daemon":
            raise
        print(
            f"error: {error.name} is missing: what is installed is all that a worker needs", file=sys.stderr
        )
        print(f"  Run pip install 'config-daemon[{extra}]'.", file=sys.stderr)
        return UNAVAILABLE
    code: int = main()
    return code
