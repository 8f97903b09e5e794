"""`ConfigClient`: a program's configs, verified, kept, typed, and said back how it went.

Laws: one thread does all that the client does, and the program's callbacks come one after the other; what was
kept is handed over before any broker is asked; a callback that fails keeps the config before and is told.

Source: docs/worker.md.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel

from config_daemon import __version__
from config_daemon.errors import KeyUnavailable, RejectedUpdate, UsageError
from config_daemon.wire.address import BrokerAddress
from config_daemon.wire.keyring import Keyring, installed_keyring, of_key
from config_daemon.wire.keys import public_key_from_text
from config_daemon.wire.topics import Topics
from config_daemon.worker.alone import Alone
from config_daemon.worker.applying import Applying
from config_daemon.worker.change import Change, Update, changed_keys
from config_daemon.worker.client import Link, Protocol, Subscriber
from config_daemon.worker.follow import FirstUse, Follower, OnRevoked
from config_daemon.worker.identity import next_boot, own_keys
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout, unix_ms
from config_daemon.worker.program import Handed, Validate
from config_daemon.worker.report import Report
from config_daemon.worker.statuses import LEAST_SECONDS, Statuses
from config_daemon.worker.trust import Outcome, Trust
from config_daemon.worker.typed import validator

AGENT = f"config-daemon-worker/{__version__}"
APPLY_SECONDS = 30.0
TOLD_SECONDS = 1.0  # a callback that takes longer is told of meanwhile, as `pending`
Model = type[BaseModel] | Validate | None
Ended = Literal["stopped", "restart"]
_talk = logging.getLogger("config_daemon.worker")


class ConfigClient:
    """Follows services for a program.

    `services` is one name, several, or a mapping of names to Pydantic classes; `model` is the class of the only
    one. In a class's place there may be a function of the plain values that returns what the program wants, or
    raises `InvalidConfig`. `apply` gets a `Change` and returns when its values are in force; it may raise
    anything (the config before stays), `RolledBack` or `RestartNeeded`. `report` gets every verdict, `note`
    what happens to the connection, in words.

    Raises: UsageError, SettingsError (KeyUnavailable for keys).
    """

    def __init__(
        self,
        services: str | Sequence[str] | Mapping[str, Model],
        *,
        worker: str,
        broker: str | BrokerAddress,
        state: str | Path,
        public_key: str | None = None,
        keyring_file: str | Path | None = None,
        apply: Callable[[Change], object] | None = None,
        on_deleted: Callable[[str], object] | None = None,
        model: Model = None,
        topic_prefix: str = "system",
        first_use: FirstUse = "wait",
        on_revoked: OnRevoked = "keep",
        apply_seconds: float | None = APPLY_SECONDS,
        ca_file: str | Path | None = None,
        certificate_file: str | Path | None = None,
        key_file: str | Path | None = None,
        protocol: Protocol = "5",
        agent: str = AGENT,
        report: Callable[[Report], object] | None = None,
        note: Callable[[str], None] = _talk.warning,
    ) -> None:
        models = _models(services, model)
        self._apply, self._on_deleted, self._report = apply, on_deleted, report
        note = partial(_noted, note)
        self._names, topics, folder = tuple(models), Topics(topic_prefix), Path(state)
        trust = Trust(_anchor(public_key, keyring_file), self._names, topics)
        keys, self._alone = own_keys(folder, worker), Alone(folder)
        self.public_keys = keys.public
        self._lookout = Lookout(trust, self._names, topics, worker, lambda *what: self._link.publish(*what))
        self._applying = Applying(apply_seconds, self._idle)
        self._follower = Follower(
            trust, Keep(folder, trust.anchor), self._names, topics, self._hand_over, self._say, self._lookout,
            {name: _check(one, name) for name, one in models.items() if one is not None},
            first_use, on_revoked, self._withdraw, lambda: self._is_busy(),
        )  # fmt: skip
        self._statuses = Statuses(
            keys, lambda: next_boot(folder, unix_ms()), self._names, topics, self._follower.standing,
            lambda: self._lookout.beacon, agent, note=note,
        )  # fmt: skip
        link = Link(
            BrokerAddress.parse(broker) if isinstance(broker, str) else broker, worker,
            _path(ca_file), _path(certificate_file), _path(key_file),
            protocol, topics.presence(worker),
        )  # fmt: skip
        self._link = Subscriber(
            link, [*self._lookout.filters, *map(topics.config, self._names)], self._receive,
            note, self._tick, self._statuses.connected, lambda: self._tell(0.0),
        )  # fmt: skip
        self._plain: dict[str, Mapping[str, Any]] = {}
        self._values: dict[str, Any] = {}
        self._again: set[str] = set()  # the program asked to be handed these over anew
        self._moved = threading.Condition()
        self._thread: threading.Thread | None = None
        self._death: BaseException | None = None
        self.ended: Ended | None = None  # how `run` ended, where it did

    def run(self) -> Ended:
        """Follow until `stop` is called (`stopped`), or the program asked to be started anew (`restart`).

        Raises: SettingsError when another process uses the state folder.
        """
        self._alone.begin()
        return self._run()

    def start(self) -> Self:
        """Follow in a thread of its own, until `stop`.

        Raises: as `run`.
        """
        if self._thread is not None:
            raise RuntimeError("this client was started before; make another one")
        self._alone.begin()
        self._thread = threading.Thread(target=self._run_aside, name="config-client", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Have `run` end, and wait for a thread that `start` began, unless a callback asks.

        Raises: what ended that thread, if something did.
        """
        self._link.stop()
        is_ours = self._applying.is_here or self._thread is threading.current_thread()
        if self._thread is not None and not is_ours:
            self._thread.join()
            self._raise_death()

    def values(self, service: str | None = None) -> Any:
        """Return the config that runs, as it was last handed over; None before the first.

        Raises: UsageError when the service is not followed.
        """
        return self._values.get(self._name(service))

    def newest(self, service: str | None = None) -> Outcome | None:
        """Return how the newest config of a service ended, None before a fresh beacon says that it is the newest."""
        return self._follower.newest(self._name(service))

    def wait_for(self, service: str | None = None, timeout: float | None = None) -> Any:
        """Wait until a service has a config, at most `timeout` seconds, and return it.

        Raises: TimeoutError; RuntimeError when the client has ended; what ended its own thread otherwise.
        """
        name = self._name(service)
        with self._moved:
            self._moved.wait_for(lambda: name in self._values or self._is_over(), timeout)
        self._raise_death()
        if name not in self._values:
            if self.ended is not None:
                raise RuntimeError(f"the client has ended ({self.ended}) before it had a config of {name}")
            raise TimeoutError(f"no config of {name} yet: is the broker there, and the key right?")
        return self._values[name]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _run(self) -> Ended:
        try:
            self._follower.start()
            if not self._follower.wants_restart:
                self._link.run()
        finally:
            self._alone.end()
        self.ended = "restart" if self._follower.wants_restart else "stopped"
        return self.ended

    def _run_aside(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - told to whoever stops or waits
            self._death = error
        with self._moved:
            self._moved.notify_all()

    def _is_over(self) -> bool:
        return self.ended is not None or self._death is not None

    def _raise_death(self) -> None:
        if self._death is not None:
            raise self._death

    def _name(self, service: str | None) -> str:
        if service is None and len(self._names) == 1:
            return self._names[0]
        if service not in self._names:
            raise UsageError(
                f"{service!r} is not followed", suggestion=f"Name one of: {', '.join(self._names)}."
            )
        return service

    def _is_busy(self) -> bool:
        """Tell whether the program can take nothing now."""
        return self._applying.is_busy

    def _begin_anew(self) -> None:
        """Have what runs handed over once more, as to a program that has nothing; from any thread."""
        self._again = set(self._names)

    def _repeat(self) -> None:
        for service in self._names if self._again and not self._is_busy() else ():
            if service in self._again:
                self._follower.again(service)
                self._again.discard(service)

    def _receive(self, topic: str, raw: bytes) -> bool:
        is_taken = self._follower.receive(topic, raw)
        self._end_for_restart()
        return is_taken

    def _tick(self) -> None:
        self._repeat()
        self._follower.tick()
        self._tell()
        self._end_for_restart()

    def _end_for_restart(self) -> None:
        if self._follower.wants_restart:
            self._link.stop()

    def _idle(self, took_seconds: float) -> None:
        """Keep the connection alive while a callback of the program runs."""
        self._link.serve()
        if took_seconds > TOLD_SECONDS:
            self._tell()

    def _tell(self, patience_seconds: float = LEAST_SECONDS) -> None:
        if self._link.is_connected:
            for topic, raw in self._statuses.due(patience_seconds):
                self._link.publish(topic, raw, retain=True)

    def _hand_over(self, handed: Handed) -> None:
        service, plain = handed.service, handed.update.config
        # the program may change what it is given; what differs next time is told by what was sent
        new = copy.deepcopy(handed.values) if handed.values is plain else handed.values
        update = handed.update
        if service in self._again:
            self._plain.pop(service, None)
        old = self._values.get(service) if service in self._plain else None
        change = Change(
            service, old, new, changed_keys(self._plain.get(service), plain),
            Update(update.generation, update.sequence, update.config_version, handed.source),
        )  # fmt: skip
        if self._apply is not None:
            self._applying.run(partial(self._apply, change))
        with self._moved:
            self._plain[service], self._values[service] = plain, new
            self._moved.notify_all()

    def _withdraw(self, service: str) -> None:
        if self._on_deleted is not None:
            self._applying.run(partial(self._on_deleted, service))

    def _say(self, report: Report) -> None:
        if self._report is not None:
            try:
                self._report(report)
            except Exception:  # noqa: BLE001 - the program's own telling ends nothing
                _talk.exception("`report` failed; the verdict on %s stands", report.service)


def _noted(note: Callable[[str], None], text: str) -> None:
    try:
        note(text)
    except Exception:  # noqa: BLE001 - the program's own telling ends nothing
        _talk.exception("`note` failed on: %s", text)


def _check(model: type[BaseModel] | Validate, service: str) -> Validate:
    return validator(model, service) if isinstance(model, type) else model


def _models(services: str | Sequence[str] | Mapping[str, Model], model: Model) -> dict[str, Model]:
    if isinstance(services, Mapping):
        models = dict(services)
    else:
        models = dict.fromkeys([services] if isinstance(services, str) else services)
    if not models:
        raise UsageError("a client follows at least one service", suggestion="Name one.")
    if model is not None and len(models) > 1:
        raise UsageError(
            "`model` is the class of one service, and several are followed",
            suggestion="Give `services` as a mapping of names to classes.",
        )
    return {name: model or one for name, one in models.items()}


def _anchor(public_key: str | None, keyring_file: str | Path | None) -> Keyring:
    """Return what a person installed: one public key, or a keyring's file."""
    if (public_key is None) == (keyring_file is None):
        raise KeyUnavailable(
            "a worker is installed with a public key or a keyring's file: one of them",
            suggestion="Give `public_key` what `config-daemon keys public` prints.",
        )
    if keyring_file is not None:
        try:
            return installed_keyring(Path(keyring_file).read_bytes().rstrip(b"\n"))
        except (OSError, RejectedUpdate) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise KeyUnavailable(
                f"{keyring_file} is no keyring to begin with: {why}",
                suggestion="Write what `config-daemon keys public --keyring` prints to that file.",
            ) from error
    assert public_key is not None
    return of_key(public_key_from_text(public_key))


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
