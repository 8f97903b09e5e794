"""The entry point of `config-agent`: arguments, signals, exit codes.

Laws: an error of ours prints what, why and how to mend it; data goes to stdout, everything else to stderr; one
agent at a time uses a state folder.

Exit codes: 0 ok, 1 a config was refused (`--once`), 2 usage, 69 nothing came in time or another agent runs,
78 a setting is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import fcntl
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from config_daemon import __version__, failpoints
from config_daemon.agent.agent import UNAVAILABLE, Agent
from config_daemon.agent.check import left_behind, problems, renderings
from config_daemon.agent.settings import FILE, Settings, identity, load, read, refusal
from config_daemon.errors import ConfigDaemonError, ErrorContext, SettingsError, UsageError
from config_daemon.notify import Notifier
from config_daemon.worker.identity import known_keys, own_keys

_EXAMPLES = f"""
examples:
  config-agent --service stt-worker --render env:/etc/stt/stt.env --reload 'systemctl restart stt'
  config-agent --service web --render site.conf.j2:/etc/web/site.conf \\
      --check 'web -t -c {{}}' --reload 'systemctl reload web' --verify 'curl -fsS http://127.0.0.1/health'
  config-agent check                    look at everything in {FILE}
  config-agent keys --worker box-7 > box-7.json
                                        for `config-daemon worker add box-7 --service web --keys box-7.json`
"""


class Busy(ConfigDaemonError):
    """Another agent uses this state folder."""

    exit_code = UNAVAILABLE
    code = "AGENT_RUNS"


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the agent; return the exit code."""
    failpoints.arm(environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    try:
        options = _parser().parse_args(arguments)
        if options.action == "keys":
            return _keys(*identity(_flags(options), environ, options.config))
        if options.action == "check":
            return _check(*read(_flags(options), environ, options.config, tuple(options.service)))
        settings = load(_flags(options), environ, options.config, tuple(options.service))
        with _alone(settings.state):
            return _run(settings, options.timeout if options.once else None, environ)
    except ConfigDaemonError as error:
        _tell(error)
        return error.exit_code


def _run(settings: Settings, once_seconds: float | None, environ: Mapping[str, str]) -> int:
    agent = Agent(settings, Notifier(environ))
    # a reload may look for its program by a word that is in our command line too; no SIG_IGN, which commands inherit
    signal.signal(signal.SIGHUP, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    return agent.run() if once_seconds is None else agent.run_once(once_seconds)


def _keys(worker: str, state: Path) -> int:
    keys = known_keys(state, worker)
    if keys is None:
        with _alone(state):
            keys = own_keys(state, worker).public
        print(f"made new keys of {worker} in {state}", file=sys.stderr)
    sys.stdout.write(keys.to_text())
    return 0


def _check(settings: Settings, wrong: list[ErrorContext]) -> int:
    refused, unseen = renderings(settings)
    if found := list(dict.fromkeys([*wrong, *problems(settings), *left_behind(settings), *refused])):
        raise refusal(found)
    files = sum(len(service.plan.targets) for service in settings.services.values())
    print(f"services: {len(settings.services)}, files: {files}; nothing is wrong")
    for service in unseen:
        print(
            f"{service}: no config is kept yet, so that no template was held against its keys",
            file=sys.stderr,
        )
    return 0


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        mend = "Make it as the agent's user, or set `state` to a folder of that user."
        raise SettingsError(
            f"the state folder {state} cannot be used: {error.strerror}", suggestion=mend
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        mend = "Stop it, or give this one a state folder of its own with --state."
        raise Busy(f"another config-agent uses {state}", suggestion=mend) from error
    finally:
        os.close(lock)


def _tell(error: ConfigDaemonError) -> None:
    print(f"error: {error.message}", file=sys.stderr)
    for context in error.contexts:
        if len(error.contexts) > 1:
            print(f"  {context.message}", file=sys.stderr)
        print(f"  → {context.suggestion}", file=sys.stderr)


def _flags(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was given, under the names that it has in the file."""
    names = (
        "worker", "broker", "state", "public_key_file", "keyring_file", "password_file", "ca_file", "certificate_file",
        "key_file", "topic_prefix", "first_use", "check", "reload", "verify", "stop", "on_delete", "mode", "owner",
    )  # fmt: skip
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.render:
        given["render"] = [_render(text) for text in options.render]
    return given


def _render(text: str) -> dict[str, str]:
    template, _, destination = text.partition(":")
    if not template or not destination or ":" in destination:
        raise UsageError(
            f"--render {text} is no TEMPLATE:DESTINATION",
            suggestion="Write for example env:/etc/app/app.env; paths with a colon go into config-agent.toml.",
        )
    return {"template": template, "destination": destination}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments as every other error is said."""

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError with a word for what was meant."""
        choices = [str(one) for action in self._actions for one in action.choices or ()]
        known = [*self._option_string_actions, *choices]
        words = re.findall(r"(?<=invalid choice: ')[^']+|(?<!\S)--[\w-]+", message)
        near = [
            one for word in words if word not in known for one in difflib.get_close_matches(word, known, 1)
        ]
        mend = f"Did you mean {near[0]}?" if near else "`config-agent --help` says what there is."
        raise UsageError(message, suggestion=mend)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="config-agent",
        description="Follow services, render their verified configs into files, and have a program take them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "action",
        nargs="?",
        choices=["check", "keys"],
        help="check: look at all settings; keys: print public keys",
    )
    add("--version", action="version", version=f"config-agent {__version__}")
    add("--config", type=Path, metavar="FILE", help=f"the settings (default: {FILE}, if it is there)")
    add("--service", action="append", default=[], metavar="NAME", help="follow this service; may be repeated")
    one = parser.add_argument_group("for one service")
    one.add_argument(
        "--render", action="append", metavar="TEMPLATE:DEST", help="env, json, yaml, toml, or a template"
    )
    one.add_argument("--check", metavar="CMD", help="looks at each new file ({}) before it counts")
    one.add_argument("--reload", metavar="CMD", help="has the program take the files")
    one.add_argument("--verify", metavar="CMD", help="asks whether the program runs with them")
    one.add_argument("--stop", metavar="CMD", help="with --on-delete stop: stops the program")
    one.add_argument(
        "--on-delete", choices=["keep", "stop"], help="when the config is withdrawn (default: keep)"
    )
    one.add_argument("--mode", help="of the files, octal (default: as they are, 0600 for new ones)")
    one.add_argument("--owner", metavar="USER:GROUP", help="of the files (default: as they are)")
    edge = parser.add_argument_group("the worker")
    edge.add_argument("--worker", metavar="NAME", help="this worker's name (default: the host's)")
    edge.add_argument("--broker", metavar="URL", help="where the broker is, without a password ($MQTT_URL)")
    edge.add_argument("--password-file", metavar="FILE", help="the broker's password")
    edge.add_argument("--public-key", dest="public_key_file", metavar="FILE", help="whom to believe")
    edge.add_argument("--keyring", dest="keyring_file", metavar="FILE", help="whom to believe, as a keyring")
    edge.add_argument("--state", metavar="FOLDER", help="where accepted configs are kept ($STATE_DIRECTORY)")
    edge.add_argument("--ca-file", metavar="FILE", help="the CA of the broker's certificate")
    edge.add_argument("--certificate-file", metavar="FILE", help="client certificate")
    edge.add_argument("--key-file", metavar="FILE", help="its key")
    edge.add_argument("--topic-prefix", metavar="TOPIC", help="the root of all topics (default: system)")
    edge.add_argument(
        "--first-use", choices=["wait", "run"], help="whether a first config waits for a beacon"
    )
    once = parser.add_argument_group("once")
    once.add_argument("--once", action="store_true", help="put the newest config into force and end")
    once.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="for --once (default: 60)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
