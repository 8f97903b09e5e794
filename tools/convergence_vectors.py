"""The conformance suite's convergences, and the verdict that every reader owes each.

Laws: verdicts are written from the protocol and never asked of our own reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tools.status_messages import CONVERGENCE_TOPIC, COUNTED, convergence, counted, status
from tools.wire_messages import Vector, bad, edited, good


def convergence_vectors() -> Iterator[Vector]:
    """Yield every vector about convergences, in the order of the steps."""
    yield from _good_convergences()
    yield from _bad_convergences()


def _good_convergences() -> Iterator[Vector]:
    def one(name: str, about: str, body: bytes, **where: Any) -> Vector:
        return good(f"convergence{name}", about, counted(body), topic=CONVERGENCE_TOPIC, **where)

    yield one("", "two of three workers do not run the message", convergence())
    done = dict.fromkeys(("rejected", "silent"), 0)
    all_run = convergence(applied=3, **done, converged=True, converged_ms=0, worst=[])
    yield one("-converged", "all workers run the message", all_run)
    yield one("-nobody", "nobody is expected", convergence(total=0, applied=0, **done, worst=[]))
    yield one("-unknown-members", "members that nobody knows yet are ignored", convergence(zone="x"))
    about = "of a message of another generation than the reader's keyring: that is what it counts"
    yield one("-generation", about, convergence(generation=1), generation=2)
    worst = [{**COUNTED["worst"][0], "worker": f"worker-{number}"} for number in range(10)]
    yield one(
        "-limits",
        "as many workers as are ever named",
        convergence(total=1 << 60, rejected=1 << 60, worst=worst),
    )


def _bad_convergences() -> Iterator[Vector]:
    def one(step: int, reason: str, name: str, about: str, message: bytes, **where: Any) -> Vector:
        return bad(step, reason, f"convergence{name}", about, message, topic=CONVERGENCE_TOPIC, **where)

    raw, plain = counted(), convergence()
    yield one(1, "wiped", "", "an empty payload on a convergence topic", b"")
    yield one(2, "bad-tail", "-cut", "the last byte is missing", raw[:-1])
    for name, about, message in (
        ("stranger", "signed by a key that is not trusted, naming one that is", counted(by="gamma")),
        ("applied", "a worker was moved to those that run it", edited(raw, b'"applied":1', b'"applied":2')),
        ("beacon", "a convergence's body, signed as a beacon", counted(as_type="beacon")),
    ):
        yield one(3, "bad-signature", f"-{name}", about, message)
    worst = COUNTED["worst"][0]
    for name, about, body in (
        ("duplicate", "a count stands twice", edited(plain, b'"applied":1', b'"applied":1,"applied":3')),
        ("negative", "a count is below zero", convergence(pending=-1)),
        ("count-float", "a count is written as a float", edited(plain, b'"applied":1', b'"applied":1.0')),
        ("missing", "a count is missing", edited(plain, b'"stale":', b'"old":')),
        ("number", "its own number is 0", convergence(number=0)),
        ("converged", "converged is 0, which equals false in some languages", convergence(converged=0)),
        ("converged-ms", "converged_ms is a text", convergence(converged_ms="0")),
        ("worst-many", "11 workers are named", convergence(worst=[worst] * 11)),
        ("worst-state", "a worker stands in a way that there is not",
         convergence(worst=[{**worst, "state": "deleted"}])),
        ("worst-reason", "a worker's reason is missing; none would be null",
         convergence(worst=[{"worker": "hall", "state": "silent"}])),
        ("status", "the members are those of a status", status()),
    ):  # fmt: skip
        yield one(4, "bad-json", f"-{name}", f"well signed, but {about}", counted(body))
    yield one(5, "unknown-version", "", "format 2: nothing else in it is judged", counted(b'{"version":2}'))
    about = "signed by one trusted key, naming another trusted one"
    yield one(5, "wrong-key", "", about, counted(by="beta"), keys=("alpha", "beta"))
    yield one(
        6, "wrong-service", "", "of another service than the topic's", counted(convergence(service="router"))
    )
