"""Every topic name, spelled once.

Laws: a name is built here or nowhere; what cannot be a segment is refused, so that no service or
worker name can reach into another's topic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from config_daemon.errors import UsageError

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,63}$"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
RESERVED_NAMES = frozenset({"keyring"})
_NAMES = "Names are lower-case letters, digits and hyphens, begin with a letter, and have at most 64."


def is_name(text: str) -> bool:
    """Tell whether `text` may name a worker or a daemon."""
    return _NAME.fullmatch(text) is not None


def is_service(text: str) -> bool:
    """Tell whether `text` may name a service: a name, and not a reserved word."""
    return is_name(text) and text not in RESERVED_NAMES


@dataclass(frozen=True, slots=True)
class Topics:
    """The topic tree below one prefix (setting `topic_prefix`, default `system`)."""

    prefix: str = "system"

    def config(self, service: str) -> str:
        """Return where a service's config is retained.

        Raises: UsageError when `service` cannot name one.
        """
        if not is_service(service):
            raise UsageError(f"{service!r} is no service name", suggestion=_NAMES)
        return f"{self.prefix}/config/{service}"

    @property
    def every_config(self) -> str:
        """Return the filter that matches every service's config."""
        return f"{self.prefix}/config/+"

    def health(self, daemon: str) -> str:
        """Return where a daemon's health and its will are retained.

        Raises: UsageError when `daemon` cannot name one.
        """
        if not is_name(daemon):
            raise UsageError(f"{daemon!r} is no name of a daemon", suggestion=_NAMES)
        return f"{self.prefix}/health/{daemon}"

    @property
    def every_health(self) -> str:
        """Return the filter that matches every daemon's health."""
        return f"{self.prefix}/health/+"

    @property
    def keyring(self) -> str:
        """Return where the newest keyring is retained."""
        return f"{self.prefix}/trust/keyring"

    def keyring_number(self, number: int) -> str:
        """Return where a keyring that changed a root is retained for those who slept."""
        return f"{self.keyring}/{number}"

    @property
    def every_keyring_number(self) -> str:
        """Return the filter that matches all of these."""
        return f"{self.keyring}/+"

    def is_keyring(self, topic: str) -> bool:
        """Tell whether a keyring belongs on this topic, the newest or an earlier one."""
        return topic == self.keyring or topic.rpartition("/")[0] == self.keyring

    def keyring_evidence(self, worker: str) -> str:
        """Return where a worker shows the keyring that it holds; never retained.

        Raises: UsageError when `worker` cannot name one.
        """
        if not is_name(worker):
            raise UsageError(f"{worker!r} is no name", suggestion=_NAMES)
        return f"{self.prefix}/evidence/keyring/{worker}"

    def is_keyring_evidence(self, topic: str) -> bool:
        """Tell whether a worker shows its keyring on this topic."""
        head, _, worker = topic.rpartition("/")
        return head == f"{self.prefix}/evidence/keyring" and is_name(worker)

    @property
    def beacon(self) -> str:
        """Return where the beacon is retained."""
        return f"{self.prefix}/trust/beacon"

    def beacon_shard(self, shard: str) -> str:
        """Return where one of the beacon's shards is retained: two hex digits."""
        return f"{self.beacon}/{shard}"

    @property
    def every_beacon_shard(self) -> str:
        """Return the filter that matches all shards."""
        return f"{self.beacon}/+"

    def is_beacon(self, topic: str) -> bool:
        """Tell whether this is the beacon's topic or one of its shards'."""
        return topic == self.beacon or topic.rpartition("/")[0] == self.beacon

    def evidence(self, service: str, worker: str) -> str:
        """Return where a worker shows what it holds; never retained.

        Raises: UsageError when a name cannot be one.
        """
        if not is_service(service) or not is_name(worker):
            raise UsageError(f"{service!r} or {worker!r} is no name", suggestion=_NAMES)
        return f"{self.prefix}/evidence/{service}/{worker}"

    @property
    def every_evidence(self) -> str:
        """Return the filter that matches all workers' evidence, about configs and keyrings."""
        return f"{self.prefix}/evidence/+/+"

    def evidence_about(self, topic: str) -> str | None:
        """Return the service that a worker shows evidence about on this topic, None for any other topic."""
        head, _, worker = topic.rpartition("/")
        root, _, service = head.rpartition("/")
        fits = root == f"{self.prefix}/evidence" and is_service(service) and is_name(worker)
        return service if fits else None

    def status(self, service: str, worker: str) -> str:
        """Return where a worker's status about a service is retained.

        Raises: UsageError when a name cannot be one.
        """
        if not is_service(service) or not is_name(worker):
            raise UsageError(f"{service!r} or {worker!r} is no name", suggestion=_NAMES)
        return f"{self.prefix}/status/{service}/{worker}"

    @property
    def every_status(self) -> str:
        """Return the filter that matches all workers' statuses."""
        return f"{self.prefix}/status/+/+"

    def status_about(self, topic: str) -> tuple[str, str] | None:
        """Return the service and the worker whose status belongs on this topic, None for any other topic."""
        head, _, worker = topic.rpartition("/")
        root, _, service = head.rpartition("/")
        fits = root == f"{self.prefix}/status" and is_service(service) and is_name(worker)
        return (service, worker) if fits else None

    def presence(self, worker: str) -> str:
        """Return where it is retained whether a worker is connected: a hint, unsigned.

        Raises: UsageError when `worker` cannot name one.
        """
        if not is_name(worker):
            raise UsageError(f"{worker!r} is no name", suggestion=_NAMES)
        return f"{self.prefix}/presence/{worker}"

    @property
    def every_presence(self) -> str:
        """Return the filter that matches all workers' presence."""
        return f"{self.prefix}/presence/+"

    def presence_of(self, topic: str) -> str | None:
        """Return the worker whose presence belongs on this topic, None for any other topic."""
        head, _, worker = topic.rpartition("/")
        return worker if head == f"{self.prefix}/presence" and is_name(worker) else None

    def convergence(self, service: str) -> str:
        """Return where it is retained how far a service's message got.

        Raises: UsageError when `service` cannot name one.
        """
        if not is_service(service):
            raise UsageError(f"{service!r} is no service name", suggestion=_NAMES)
        return f"{self.prefix}/convergence/{service}"

    @property
    def every_convergence(self) -> str:
        """Return the filter that matches all services' convergence."""
        return f"{self.prefix}/convergence/+"

    def convergence_of(self, topic: str) -> str | None:
        """Return the service whose convergence belongs on this topic, None for any other topic."""
        head, _, service = topic.rpartition("/")
        return service if head == f"{self.prefix}/convergence" and is_service(service) else None

    def service_of(self, topic: str) -> str | None:
        """Return the service whose config topic this is, or None for any other topic."""
        head, _, service = topic.rpartition("/")
        return service if head == f"{self.prefix}/config" and is_service(service) else None
