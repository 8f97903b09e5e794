"""The agent: whatever config a worker accepts is put into force; what becomes of it is logged.

Laws: a set of files that an earlier life left half done is put back before anything else, also one of a service
that is not configured any more; ready means that every
service has a config in force; a withdrawn config leaves all files as they are.
"""

from __future__ import annotations

import threading
import time

from config_daemon import __version__
from config_daemon.agent.apply import Applier, Plan
from config_daemon.agent.check import problems
from config_daemon.agent.journal import left_over
from config_daemon.agent.refusals import Refusals
from config_daemon.agent.render import Config
from config_daemon.agent.settings import Settings, refusal
from config_daemon.errors import ConfigDaemonError
from config_daemon.logs import logger
from config_daemon.notify import Notifier
from config_daemon.worker.change import Change
from config_daemon.worker.report import Report
from config_daemon.worker.sdk import ConfigClient
from config_daemon.worker.trust import Outcome

OK, FAILED, UNAVAILABLE = 0, 1, 69

AGENT = f"config-agent/{__version__}"
_LOOK_SECONDS = 0.05
_Outcomes = dict[str, Outcome | None]
_OPEN: frozenset[Outcome | None] = frozenset({None, "pending"})
_log = logger("agent")


class NothingCame(ConfigDaemonError):
    """No config came in time that a fresh beacon knows to be the newest."""

    exit_code = UNAVAILABLE
    code = "NOTHING_CAME"
    suggestion = (
        "Look whether the daemon runs (`config-daemon status`) and the service has a config. "
        "A beacon comes every 30 s: a longer --timeout waits for it."
    )


class Agent:
    """Follows services and puts their configs into force, until it is stopped."""

    def __init__(self, settings: Settings, notifier: Notifier) -> None:
        self._settings, self._notifier = settings, notifier
        self._stopping = threading.Event()
        self._appliers = {
            name: Applier(service.plan, settings.state, self._stopping)
            for name, service in settings.services.items()
        }
        self._left = {
            name: Applier(Plan(name, ()), settings.state, self._stopping)
            for name in left_over(settings.state)
            if name not in settings.services
        }
        self._in_force: set[str] = set()
        self._withdrawn: set[str] = set()
        self._flags: dict[str, tuple[str, ...]] = {}
        self._held: set[str] = set()
        self._refused, self._refusals = False, Refusals()
        self._trouble = ""
        table = settings.table
        self._client = ConfigClient(
            list(settings.services), worker=settings.worker, broker=settings.broker, state=settings.state,
            public_key=settings.public_key, keyring_file=settings.keyring_file, apply=self._apply,
            on_deleted=self._on_deleted, topic_prefix=table.topic_prefix, first_use=table.first_use,
            on_revoked=table.on_revoked, apply_seconds=settings.apply_seconds, ca_file=table.ca_file,
            certificate_file=table.certificate_file, key_file=table.key_file, agent=AGENT, report=self._report,
            note=self._note,
        )  # fmt: skip

    def run(self) -> int:
        """Follow until `stop`, or until every service was withdrawn that is to stop then; return the exit code."""
        self._begin()
        self._client.run()
        self._notifier.send("STOPPING=1")
        _log.info("agent_stopped")
        return OK

    def run_once(self, seconds: float) -> int:
        """Put the newest configs into force and end; return the exit code.

        0: all are in force; 1: one was refused, did not work or was withdrawn.

        Raises: NothingCame when one did not come in time; SettingsError.
        """
        self._begin()
        threading.Thread(target=self._stop_when_known, args=[seconds], daemon=True).start()
        self._client.run()
        outcomes = self._outcomes()
        if set(outcomes.values()) <= {"applied"}:
            return OK
        if self._refused or set(outcomes.values()) - {"applied", *_OPEN}:
            return FAILED
        raise NothingCame(f"nothing came within {seconds:g} s: {self._why_nothing(outcomes)}")

    def stop(self) -> None:
        """Have `run` return soon; may be called from a signal handler."""
        self._stopping.set()
        self._client.stop()

    def _begin(self) -> None:
        self._settle()
        # what an earlier life left half done is put back even where the settings are wrong by now
        if found := problems(self._settings):
            raise refusal(found)
        _log.info(
            "agent_started", worker=self._settings.worker, broker=str(self._settings.broker),
            services=sorted(self._settings.services),
        )  # fmt: skip

    def _settle(self) -> None:
        for service, applier in {**self._left, **self._appliers}.items():
            applier.sweep()
            try:
                if settled := applier.settle():
                    is_told = settled == "told" and service in self._appliers
                    _log.warning("files_put_back", service=service, is_program_told=is_told)
            except ConfigDaemonError as error:
                _log.warning("files_not_put_back", service=service, error=error.message)

    def _apply(self, change: Change) -> None:
        config = Config(change.service, change.update.config_version, change.new)
        is_kept = change.update.source == "cache"
        is_changed = self._appliers[config.service].apply(config, is_kept=is_kept)
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
        if settings.stop:
            settings.stop.run({"CONFIG_SERVICE": service, "CONFIG_VERSION": ""})
        self._withdrawn.add(service)
        if self._withdrawn == set(self._appliers):
            self.stop()

    def _report(self, report: Report) -> None:
        self._tell_flags(report)
        service, sequence, version = report.service, report.sequence, report.config_version
        if report.state == "applied":
            _log.info("config_applied", service=service, sequence=sequence, config_version=version)
        elif report.state == "deleted":
            _log.warning("config_withdrawn", service=service, sequence=sequence, config_version=version)
        elif report.state == "held":
            if sequence is not None:
                self._held.add(service)
        else:
            self._tell_refused(report)

    def _tell_refused(self, report: Report) -> None:
        # without a number it was not verified: anybody may have sent it
        is_verified = report.sequence is not None and report.service in self._appliers
        self._refused |= is_verified
        if count := 1 if is_verified else self._refusals.count((report.service, report.reason)):
            errors = [f"{one.message.rstrip('.')}. {one.suggestion}" for one in report.errors]
            _log.warning(
                "config_refused", service=report.service, sequence=report.sequence,
                config_version=report.config_version, state=report.state, reason=report.reason, count=count,
                errors=errors,
            )  # fmt: skip

    def _tell_flags(self, report: Report) -> None:
        if report.flags != self._flags.get(report.service, ()):
            _log.warning("flags_changed", service=report.service, flags=report.flags)
        self._flags[report.service] = report.flags

    def _note(self, text: str) -> None:
        if text != self._trouble:
            _log.warning("broker_trouble", reason=text)
        self._trouble = text

    def _stop_when_known(self, seconds: float) -> None:
        """Stop once nothing is open any more, or the time is over."""
        until = time.monotonic() + seconds
        while _OPEN & set(self._outcomes().values()) and time.monotonic() < until:
            if self._stopping.wait(_LOOK_SECONDS):
                return
        self.stop()

    def _outcomes(self) -> _Outcomes:
        return {service: self._client.newest(service) for service in self._settings.services}

    def _why_nothing(self, outcomes: _Outcomes) -> str:
        missing = [service for service, outcome in outcomes.items() if outcome in _OPEN]
        held = [service for service in missing if service in self._held]
        if held:
            return f"there is a config of {', '.join(held)}, and no fresh beacon that lists it as the newest"
        return self._trouble or f"the broker has no config of {', '.join(missing)}"
