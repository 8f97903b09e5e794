"""The conformance suite's statuses, and the verdict that every reader owes each.

Laws: verdicts are written from the protocol and never asked of our own reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from config_daemon.wire.sealing import canonical
from config_daemon.wire.tail import TAIL_BYTES
from tools.status_messages import (
    APPLIED,
    CONVERGENCE_TOPIC,
    MOST,
    PROBLEM,
    REJECTED,
    RUNNING,
    SAID,
    STATUS_BYTES,
    STATUS_TOPIC,
    status,
    told,
)
from tools.wire_messages import HEALTH, IDS, Vector, bad, edited, good, update


def status_vectors() -> Iterator[Vector]:
    """Yield every vector about statuses, in the order of the steps."""
    yield from _good_statuses()
    yield from _forms_and_keys()
    yield from _texts()
    yield from _misshapen()
    yield from _members()


def _good(name: str, about: str, body: bytes) -> Vector:
    return good(f"status{name}", about, told(body), topic=STATUS_TOPIC, keys=("beta",))


def _bad(step: int, reason: str, name: str, about: str, message: bytes, **where: Any) -> Vector:
    where = {"topic": STATUS_TOPIC, "keys": ("beta",), **where}
    return bad(step, reason, f"status{name}", about, message, **where)


def _longest(more: int = 0) -> bytes:
    room = STATUS_BYTES - len(told(status(zone="")))
    return told(status(zone="x" * (room + more)))


def _good_statuses() -> Iterator[Vector]:
    yield _good("", "an ordinary status: what runs is what was tried last", status())
    nothing = status(running=None, last_attempt=None, beacon=0, flags=["unconfirmed"])
    yield _good("-nothing", "a worker that has just begun: it runs nothing, and tried nothing", nothing)
    about = "a newer message was refused, and the one before still runs"
    yield _good("-rejected", about, status(last_attempt=REJECTED, flags=["stale", "frozen"]))
    about = "a program of a later version knows flags and reasons that nobody else does"
    later = {**REJECTED, "state": "rolled-back", "reason": "of-tomorrow"}
    yield _good("-unknown-words", about, status(flags=["of-tomorrow"], last_attempt=later))
    unknown = status(zone="x", running={**RUNNING, "since": 1}, last_attempt={**REJECTED, "tries": [2]})
    yield _good("-unknown-members", "members that nobody knows yet are ignored, at any depth", unknown)
    about = "the largest numbers, the longest names, lists and texts; a character is a code point"
    problem = {**PROBLEM, "message": "🎙" * 500, "received_value": "ü" * 100, "error_code": "A" * 64}
    edge = status(
        boot=MOST, n=MOST, beacon=MOST, agent="🎙" * 100, flags=["a" * 64] * 12,
        running={**RUNNING, **dict.fromkeys(("generation", "sequence", "config_version"), MOST)},
        last_attempt={**REJECTED, "errors": [{**PROBLEM, "message": ""}] * 11 + [problem]},
    )  # fmt: skip
    yield _good("-limits", about, edge)
    terse = {name: PROBLEM[name] for name in ("error_type", "error_code", "message", "suggestion")}
    about = "members of an error that have a default are left out"
    yield _good("-defaults", about, status(last_attempt={**REJECTED, "errors": [terse]}))
    for state, reason in (("pending", "restart-needed"), ("deleted", None), ("rolled-back", "apply-failed")):
        attempt = {**APPLIED, "state": state, "reason": reason}
        yield _good(f"-{state}", f"the last attempt is {state}", status(last_attempt=attempt))
    for source in ("cache", "then"):
        body = status(running={**RUNNING, "source": source})
        yield _good(f"-source-{source}", f"what runs came from: {source}", body)
    yield good("status-longest", "exactly 65 536 bytes", _longest(), topic=STATUS_TOPIC, keys=("beta",))


def _forms_and_keys() -> Iterator[Vector]:
    """Steps 1 to 3; above all, neither another worker nor the daemon speaks for this one."""
    yield _bad(1, "wiped", "", "an empty payload on a status topic", b"")
    yield _bad(1, "oversize", "", "well signed, and one byte longer than 64 KiB", _longest(1))
    raw = told()
    yield _bad(2, "bad-tail", "-cut", "the last byte is missing", raw[:-1])
    rejected = told(status(last_attempt=REJECTED))
    splice = rejected[:-TAIL_BYTES] + raw[-TAIL_BYTES:]
    for name, about, message in (
        ("other-worker", "signed by another worker's key, naming this one's", told(by="gamma")),
        ("daemon", "signed by the daemon's key, which speaks for no worker", told(by="alpha")),
        ("bit", "the version that runs was raised", edited(raw, b'"n":3', b'"n":4')),
        ("splice", "the body of one status, the tail of another", splice),
        (
            "duplicate",
            "a member twice under the old signature: the signature comes first",
            edited(raw, b'"n":3', b'"n":3,"n":3'),
        ),
        (
            "config",
            "a config update, well signed as such by the worker",
            told(update(), as_type="config-update"),
        ),
        (
            "health",
            "a health message, well signed as such by the worker",
            told(canonical(HEALTH), as_type="health"),
        ),
        ("type", "a status's body, signed as a convergence", told(as_type="convergence")),
    ):
        yield _bad(3, "bad-signature", f"-{name}", about, message)
    about = "a status, well signed as such by the daemon's key, on a config topic"
    yield bad(3, "bad-signature", "status-as-config", about, told(by="alpha"))
    about = "a status, well signed as such by the daemon's key, on a convergence topic"
    yield bad(3, "bad-signature", "status-as-convergence", about, told(by="alpha"), topic=CONVERGENCE_TOPIC)


def _texts() -> Iterator[Vector]:
    """Step 4, what is no strict JSON or of another message."""
    plain = status()
    for name, about, body in (
        ("duplicate", "a member stands twice", edited(plain, b'"n":3', b'"n":3,"n":3')),
        (
            "duplicate-nested",
            "a member of what runs stands twice",
            edited(plain, b'"source":"broker"', b'"source":"broker","source":"cache"'),
        ),
        (
            "duplicate-escaped",
            "a member stands twice, once with an escape",
            edited(plain, b'"n":3', b'"n":3,"\\u006e":4'),
        ),
        ("nan", "a number is NaN", edited(plain, b'"n":3', b'"n":NaN')),
        ("surrogate", "a text holds half of a surrogate pair", edited(plain, b'"example/1.0"', b'"\\ud83c"')),
        ("rest", "something follows the object", plain + b"1}"),
        ("config", "the members are those of a config update", update()),
    ):
        yield _bad(4, "bad-json", f"-{name}", f"well signed, but {about}", told(body))


def _misshapen() -> Iterator[Vector]:
    """Step 4, members that are missing or of another type."""
    plain = status()
    without = {name: value for name, value in SAID.items() if name != "running"}
    unplaced = {name: value for name, value in RUNNING.items() if name != "body_sha256"}

    def attempt(**members: Any) -> bytes:
        return status(last_attempt={**REJECTED, **members})

    def error(**members: Any) -> bytes:
        return attempt(errors=[{**PROBLEM, **members}])

    for name, about, body in (
        ("missing", "what runs is missing; nothing would be null", canonical(without)),
        ("n-zero", "n is 0", status(n=0)),
        ("n-range", "n is 2^53", status(n=1 << 53)),
        ("boot-zero", "boot is 0", status(boot=0)),
        ("boot-float", "boot is written as a float", edited(plain, b":1773480413000", b":1773480413000.0")),
        ("boot-exponent", "boot has an exponent", edited(plain, b":1773480413000", b":1773480413e3")),
        ("boot-text", "boot is a text", status(boot="1773480413000")),
        ("n-boolean", "n is true, which equals 1 in some languages", status(n=True)),
        ("beacon-negative", "the beacon's number is below zero", status(beacon=-1)),
        ("beacon-null", "the beacon's number is null; before the first it is 0", status(beacon=None)),
        ("worker-name", "the worker's name has a capital letter", status(worker="Kitchen")),
        ("service-name", "the service's name reaches into another topic", status(service="a/b")),
        ("key-id", "the key's name lacks a digit", status(key_id=IDS["beta"][1:])),
        ("timestamp", "issued_at is a time in another form", status(issued_at="2026-03-14T09:26:53Z")),
        ("running-list", "what runs is a list", status(running=[RUNNING])),
        ("running-place", "what runs has no digest", status(running=unplaced)),
        (
            "running-source",
            "what runs came from a place that there is not",
            status(running={**RUNNING, "source": "disk"}),
        ),
        ("state", "the last attempt ended in a way that there is not", attempt(state="held")),
        ("reason", "a reason is no word in kebab-case", attempt(reason="Out of range")),
        ("reason-long", "a reason has 65 characters", attempt(reason="a" * 65)),
        ("errors-null", "the errors are null; none is an empty list", attempt(errors=None)),
        ("errors-many", "there are 13 errors", attempt(errors=[PROBLEM] * 13)),
        ("error-code", "an error's code has small letters", error(error_code="OutOfRange")),
        ("error-long", "an error's message has 501 characters", error(message="ü" * 501)),
        ("error-null", "a member of an error that has a default is null", error(failed_field=None)),
        (
            "error-flag",
            "fallback_applied is 0, which equals false in some languages",
            error(fallback_applied=0),
        ),
        ("flags-object", "the flags are an object", status(flags={"stale": True})),
        ("flags-many", "there are 13 flags", status(flags=["stale"] * 13)),
        ("flag", "a flag is no word in kebab-case", status(flags=["STALE"])),
        ("agent-long", "the agent's name has 101 characters", status(agent="ü" * 101)),
        ("version-boolean", "the version is true, which equals 1 in some languages", status(version=True)),
    ):
        yield _bad(4, "bad-json", f"-{name}", f"well signed, but {about}", told(body))


def _members() -> Iterator[Vector]:
    """Steps 5 and 6."""
    future = b'{"version":2,"boot":"?"}'
    yield _bad(5, "unknown-version", "", "format 2: nothing else in it is judged", told(future))
    yield _bad(
        5,
        "wrong-key",
        "",
        "it names another key than the one that signed it",
        told(status(key_id=IDS["alpha"])),
    )
    hall = told(status(worker="hall"))
    yield _bad(6, "wrong-service", "-worker", "of another worker than the topic's", hall)
    other = told(status(service="router"))
    yield _bad(6, "wrong-service", "-service", "about another service than the topic's", other)
    about = "another worker's and an unknown key's name: the first fault counts"
    yield _bad(5, "wrong-key", "-first-fault", about, told(status(worker="hall", key_id=IDS["gamma"])))
