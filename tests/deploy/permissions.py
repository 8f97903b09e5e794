"""Who may read and write which topic, as one table that every broker of ours is held against.

The table is written from the protocol, not from an ACL: what it does not name is denied.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.raw_client import RawClient

NOT_AUTHORISED = 135
SERVICE, WORKER = "stt-worker", "demo"
OTHER_SERVICE, OTHER_WORKER = "tts-worker", "box-2"

FROM_DAEMON = {
    "config/stt-worker",
    "config/tts-worker",
    "config/global",
    "health/config-daemon",
    "trust/keyring",
    "trust/keyring/3",
    "trust/beacon",
    "trust/beacon/ff",
    "convergence/stt-worker",
    "dry-run/stt-worker",
    "dry-run/tts-worker",
    "dry-run/global",
    "enroll/demo/answer",
    "enroll/box-2/answer",
}


def from_worker(service: str, worker: str) -> set[str]:
    """What one worker says, all of it about itself."""
    return {
        f"status/{service}/{worker}",
        f"status/global/{worker}",
        f"presence/{worker}",
        f"evidence/{service}/{worker}",
        f"evidence/global/{worker}",
        f"evidence/keyring/{worker}",
        f"dry-run/{service}/{worker}",
        f"dry-run/global/{worker}",
        f"enroll/{worker}",
    }


REQUESTS = {"enroll/demo", "enroll/box-2"}
NOBODYS = {"config", "config/stt-worker/extra", "status/stt-worker", "health/config-daemon/x", "other/topic"}
EVERYTHING = (
    FROM_DAEMON
    | from_worker(SERVICE, WORKER)
    | from_worker(OTHER_SERVICE, OTHER_WORKER)
    | from_worker(SERVICE, OTHER_WORKER)
    | NOBODYS
)
TO_WORKER = {
    "config/stt-worker",
    "config/global",
    "health/config-daemon",
    "trust/keyring",
    "trust/keyring/3",
    "trust/beacon",
    "trust/beacon/ff",
    "dry-run/stt-worker",
    "dry-run/global",
    "enroll/demo/answer",
}


def writable(client: RawClient, prefix: str = "system") -> set[str]:
    """Try every topic of the table, and return what the broker took; all else it refused with 135."""
    codes = {topic: client.publish(f"{prefix}/{topic}", b"x") for topic in sorted(EVERYTHING)}
    taken = {topic for topic, code in codes.items() if code < 0x80}
    assert {code for topic, code in codes.items() if topic not in taken} <= {NOT_AUTHORISED}
    return taken


def readable(
    reader: RawClient, writers: Mapping[str, RawClient], last: str, prefix: str = "system"
) -> set[str]:
    """Publish each topic by one who may, and return what reached `reader`, who asked for everything.

    `writers` is topic → client. `last` is one of them that the reader may read: it is published once
    more after all others, and when that has come, nothing else will.
    """
    reader.subscribe("#", f"{prefix}/#", *(f"{prefix}/{topic}" for topic in sorted(writers)))
    for topic, client in writers.items():
        assert client.publish(f"{prefix}/{topic}", b"x") < 0x80, topic
    writers[last].publish(f"{prefix}/{last}", b"last")
    reader.wait_for(lambda got: [message for message in got if message.payload == b"last"])
    return {message.topic.removeprefix(f"{prefix}/") for message in reader.messages}
