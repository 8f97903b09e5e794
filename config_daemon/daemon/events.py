"""Why the loop wakes up. An event is a reason to look and carries what the looker cannot see by itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from config_daemon.errors import StoreError


class Hint(NamedTuple):
    """Something may have changed; `near` names what: `store`, `env`, `schemas`, `requests`."""

    near: frozenset[str]


class Stop(NamedTuple):
    """The daemon was asked to end."""


class Dialed(NamedTuple):
    """A connection attempt ended: with a `Link`, or an error for a person; `listens`: the one for statuses."""

    link: Any
    error: str | None
    listens: bool = False


class CacheWritten(NamedTuple):
    """The last-known-good cache is on disk, or could not be put there (`error`)."""

    error: str | None


class Inspected(NamedTuple):
    """SQLite looked over the whole database and found `error`, or nothing; `sweep`: now read every row again."""

    error: StoreError | None
    sweep: bool


class Connected(NamedTuple):
    """The broker accepted us."""


class Lost(NamedTuple):
    """There is no connection (any more); `reason` is for a person and begins with a condition's name."""

    reason: str


class Confirmed(NamedTuple):
    """The broker holds the message."""

    topic: str
    number: int


class Refused(NamedTuple):
    """The broker will not hold the message: `denied`, `too-large` or `quota`; the code is MQTT's."""

    topic: str
    number: int
    why: str
    code: int


class Arrived(NamedTuple):
    """A message on one of our subscriptions; `retained`: its writer wanted it kept, or the broker had it."""

    topic: str
    payload: bytes
    retained: bool = False


class Subscribed(NamedTuple):
    """The broker answered a subscription; `refused` counts the topics that it denied."""

    request: int
    refused: int


Event = Hint | Stop | Dialed | CacheWritten | Inspected
BrokerEvent = Connected | Lost | Confirmed | Refused | Arrived | Subscribed
