"""Statuses and convergences of the conformance suite: plain ones, and how others are made of them.

Laws: everything follows from the fixed test keys, so that two runs make the same bytes.
"""

from __future__ import annotations

import json
from typing import Any

from config_daemon.wire.sealing import canonical
from tools.wire_messages import IDS, SEALED_AT, body_sha256, sealed

STATUS_TOPIC = "system/status/stt-worker/kitchen"
CONVERGENCE_TOPIC = "system/convergence/stt-worker"
STATUS_BYTES = 64 << 10
MOST = (1 << 53) - 1
STT = body_sha256(sealed())
PLACE: dict[str, Any] = {"generation": 1, "sequence": 1041, "config_version": 7, "body_sha256": STT}
RUNNING: dict[str, Any] = {**PLACE, "source": "broker", "applied_at": SEALED_AT}
APPLIED: dict[str, Any] = {**PLACE, "state": "applied", "reason": None, "errors": [], "at": SEALED_AT}
PROBLEM: dict[str, Any] = {
    "error_type": "invalid_config",
    "error_code": "OUT_OF_RANGE",
    "message": "threads: 0 is below 1",
    "suggestion": "Use 1 or more.",
    "failed_field": "threads",
    "received_value": "0",
    "expected_type": "integer from 1 to 64",
    "fallback_applied": False,
}
REJECTED: dict[str, Any] = {
    **APPLIED,
    "sequence": 1060,
    "config_version": 8,
    "state": "rejected",
    "reason": "invalid",
    "errors": [PROBLEM],
}
SAID: dict[str, Any] = {
    "version": 1,
    "service": "stt-worker",
    "worker": "kitchen",
    "boot": 1773480413000,
    "n": 3,
    "key_id": IDS["beta"],
    "issued_at": SEALED_AT,
    "beacon": 1050,
    "running": RUNNING,
    "last_attempt": APPLIED,
    "flags": [],
    "agent": "example/1.0",
}
COUNTED: dict[str, Any] = {
    "version": 1,
    "service": "stt-worker",
    "config_version": 7,
    "generation": 1,
    "sequence": 1041,
    "number": 1055,
    "issued_at": SEALED_AT,
    "key_id": IDS["alpha"],
    "total": 3,
    "applied": 1,
    "pending": 0,
    "rejected": 1,
    "rolled_back": 0,
    "offline": 0,
    "silent": 1,
    "stale": 0,
    "converged": False,
    "converged_ms": None,
    "worst": [
        {"worker": "hall", "state": "rejected", "reason": "invalid"},
        {"worker": "cellar", "state": "silent", "reason": None},
    ],
}


def status(**members: Any) -> bytes:
    """Return a status's body; `members` replace those of the plain one, or come on top."""
    return canonical({**SAID, **members})


def convergence(**members: Any) -> bytes:
    """Return a convergence's body; `members` replace those of the plain one, or come on top."""
    return canonical({**COUNTED, **members})


def told(body: bytes | None = None, *, by: str = "beta", as_type: str = "status") -> bytes:
    """Return a body, or the plain status, signed with a test key; beta is the worker's own."""
    return sealed(status() if body is None else body, by=by, as_type=as_type)


def counted(body: bytes | None = None, *, by: str = "alpha", as_type: str = "convergence") -> bytes:
    """Return a body, or the plain convergence, signed with a test key."""
    return sealed(convergence() if body is None else body, by=by, as_type=as_type)


# what a careless writer begins with, and what it puts in
ODD_STATUSES = [status(), status(running=None, last_attempt=REJECTED, flags=["stale"])]
ODD_CONVERGENCES = [convergence(), convergence(worst=[], converged=True, converged_ms=5)]
STATUS_TOKENS = [
    *(',"flags":[]', ',"running":null', '"errors":[],', ',"n":4', '"state":"deleted",', '"reason":null,'),
    *(
        IDS["beta"],
        SEALED_AT,
        '"applied"',
        '"cache"',
        '"worst":[],',
        ',"converged_ms":null',
        "null,",
        '["stale"],',
    ),
    json.dumps(PROBLEM) + ",",
]
