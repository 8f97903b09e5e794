"""The worker under the agent: follows the services over MQTT, and hands their configs over.

Laws: nothing of how a message is verified, kept or ordered is decided here; whoever stops the agent waits for
the command that runs, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from config_daemon.agent.render import Config
from config_daemon.agent.settings import Settings
from config_daemon.wire.topics import Topics
from config_daemon.worker.client import Link, Subscriber
from config_daemon.worker.follow import Follower
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.program import Handed
from config_daemon.worker.report import Report
from config_daemon.worker.trust import Outcome, Trust


class Client:
    """Follows all services of the settings; `apply` takes one config, `report` hears of every verdict."""

    def __init__(
        self,
        settings: Settings,
        apply: Callable[[Config], None],
        on_deleted: Callable[[str], None],
        report: Callable[[Report], None],
        note: Callable[[str], None],
        tick: Callable[[], None],
    ) -> None:
        services, table = list(settings.services), settings.table
        self._topics = Topics(table.topic_prefix)
        trust = Trust(settings.anchor, services, self._topics)
        lookout = Lookout(trust, services, self._topics, settings.worker, self._publish)
        self._heard: set[str] = set()
        self._tick = tick
        self._follower = Follower(
            trust, Keep(settings.state, trust.anchor), services, self._topics,
            apply=lambda handed: apply(_config(handed)), report=report, lookout=lookout,
            first_use=table.first_use, on_revoked=table.on_revoked, on_deleted=on_deleted,
        )  # fmt: skip
        self._subscriber = Subscriber(
            Link(
                settings.broker, settings.worker, settings.file(table.ca_file),
                settings.file(table.certificate_file), settings.file(table.key_file),
            ),
            [*lookout.filters, *map(self._topics.config, services)], self._receive, note, self._turn,
        )  # fmt: skip

    def run(self) -> None:
        """Hand over what was kept, then follow the broker until `stop`."""
        self._follower.start()
        self._subscriber.run()

    def stop(self) -> None:
        """Have `run` return; may be called from a signal handler."""
        self._subscriber.stop()

    def newest(self, service: str) -> Outcome | None:
        """Return how the newest config of a service ended, None before it is known to be the newest.

        It must have come in this life, since what failed in an earlier one is tried again.
        """
        return self._follower.newest(service) if service in self._heard else None

    def _receive(self, topic: str, raw: bytes) -> bool:
        is_taken = self._follower.receive(topic, raw)
        self._heard.add(self._topics.service_of(topic) or "")
        return is_taken

    def _turn(self) -> None:
        self._follower.tick()
        self._tick()

    def _publish(self, topic: str, raw: bytes) -> None:
        self._subscriber.publish(topic, raw)


def _config(handed: Handed) -> Config:
    return Config(handed.service, handed.update.config_version, handed.values)
