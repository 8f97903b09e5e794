"""The agent: whatever config a worker accepts is put into force; what becomes of it is logged.

Laws: a set of files that an earlier life left half done is put back before anything else; ready means that every
service has a config in force; a withdrawn config leaves all files as they are.
"""

from __future__ import annotations

import threading
import time

from config_daemon.agent.apply import Applier
from config_daemon.agent.client import Client
from config_daemon.agent.render import Config
from config_daemon.agent.settings import Settings
from config_daemon.errors import ConfigDaemonError
from config_daemon.logs import logger
from config_daemon.notify import Notifier
from config_daemon.worker.report import Report

OK, FAILED, UNAVAILABLE = 0, 1, 69

_log = logger("agent")


class Agent:
    """Follows services and puts their configs into force, until it is stopped."""

    def __init__(self, settings: Settings, notifier: Notifier) -> None:
        self._settings, self._notifier = settings, notifier
        self._stopping = threading.Event()
        self._appliers = {
            name: Applier(service.plan, settings.state, self._stopping)
            for name, service in settings.services.items()
        }
        self._in_force: set[str] = set()
        self._withdrawn: set[str] = set()
        self._refused = False
        self._trouble = ""
        self._until: float | None = None
        self._client = Client(settings, self._apply, self._on_deleted, self._report, self._note, self._tick)

    def run(self) -> int:
        """Follow until `stop`, or until every service was withdrawn that is to stop then; return the exit code."""
        self._begin()
        self._client.run()
        self._notifier.send("STOPPING=1")
        _log.info("agent_stopped")
        return OK

    def run_once(self, seconds: float) -> int:
        """Put the newest configs into force and end; return the exit code.

        0: all are in force; 1: one was refused, did not work or was withdrawn; 69: none came in time.
        """
        self._until = time.monotonic() + seconds
        self._begin()
        self._client.run()
        outcomes = {self._client.newest(service) for service in self._settings.services}
        if outcomes <= {"applied"}:
            return OK
        return FAILED if self._refused or outcomes - {"applied", None} else UNAVAILABLE

    def stop(self) -> None:
        """Have `run` return soon; may be called from a signal handler."""
        self._stopping.set()
        self._client.stop()

    def _begin(self) -> None:
        _log.info(
            "agent_started", worker=self._settings.worker, broker=str(self._settings.broker),
            services=sorted(self._settings.services),
        )  # fmt: skip
        for service, applier in self._appliers.items():
            applier.sweep()
            try:
                if applier.settle():
                    _log.warning("files_put_back", service=service)
            except ConfigDaemonError as error:
                _log.warning("files_not_put_back", service=service, error=error.message)

    def _apply(self, config: Config) -> None:
        is_changed = self._appliers[config.service].apply(config)
        if is_changed:
            _log.info("files_changed", service=config.service, config_version=config.version)
        self._withdrawn.discard(config.service)
        self._in_force.add(config.service)
        if self._in_force == set(self._appliers):
            self._notifier.send("READY=1")

    def _on_deleted(self, service: str) -> None:
        settings = self._settings.services[service]
        if settings.on_delete == "keep":
            return
        self._withdrawn.add(service)
        if settings.stop:
            settings.stop.run({"CONFIG_SERVICE": service, "CONFIG_VERSION": ""})
        if self._withdrawn == set(self._appliers):
            self.stop()

    def _report(self, report: Report) -> None:
        facts = {
            "service": report.service, "sequence": report.sequence, "config_version": report.config_version,
            "flags": report.flags,
        }  # fmt: skip
        if report.state == "applied":
            _log.info("config_applied", **facts)
        elif report.state == "deleted":
            _log.warning("config_withdrawn", **facts)
        elif report.state == "held":
            _log.debug("config_held", **facts)
        else:
            self._refused = True
            errors = [f"{one.message} {one.suggestion}" for one in report.errors]
            _log.warning("config_refused", **facts, state=report.state, reason=report.reason, errors=errors)

    def _note(self, text: str) -> None:
        if text != self._trouble:
            _log.warning("broker_trouble", reason=text)
        self._trouble = text

    def _tick(self) -> None:
        if self._until is None:
            return
        is_known = all(self._client.newest(service) for service in self._settings.services)
        if is_known or time.monotonic() > self._until:
            self.stop()
