"""What the daemon knows of workers, in words for a person.

Laws: a state says what to do about it; a word that this version does not know is shown as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config_daemon.core.convergence import Vital
    from config_daemon.store.edgeboard import Vitals, WorkerView

_STATES = {
    "silent": "said nothing for three minutes: look whether it runs and reaches the broker",
    "offline": "left the broker: look whether it was stopped on purpose",
    "stale": "runs it, and sees no beacon of today: the broker may keep something from it",
    "pending": "has not said yet what became of it",
}
_NEVER = "never said a word that its keys signed: look whether it runs, with these keys"
_REASONS = {
    "invalid": "its program refused the values",
    "apply-failed": "its program could not apply the values",
    "restart-needed": "its program takes it at its next start",
    "cannot-open": "it cannot open the secrets",
    "keyring-behind": "it has not seen the newest keyring yet",
    "rollback": "it holds something newer",
    "fork": "it holds another message with that number",
    "wrong-key": "the key that signed it was retired",
    "revoked-key": "the key that signed it was revoked",
    "bad-signature": "no key that it trusts signed the message",
}


def why(line: WorkerView) -> str:
    """Return why a worker does not run what is wanted, and what to look at; empty where it does."""
    if not line.expected:
        return "not expected: its word does not count until `config-daemon worker add`"
    if line.state in ("applied", None):
        return ""
    parts = [_REASONS.get(line.reason, line.reason)] if line.reason else []
    attempt = line.status.get("last_attempt") or {}
    if line.state in ("rejected", "rolled-back", "pending") and attempt.get("reason") == line.reason:
        parts += [str(problem["message"]) for problem in attempt.get("errors", [])[:1]]
    if not parts:
        parts = [
            _NEVER
            if line.seen_at is None and line.state in ("silent", "pending")
            else _STATES.get(line.state, "")
        ]
    return ": ".join(part for part in parts if part)


def runs(line: WorkerView) -> int | None:
    """Return the version that a worker says it runs."""
    found: int | None = (line.status.get("running") or {}).get("config_version")
    return found


def flags(line: WorkerView) -> list[str]:
    """Return the worker's own flags."""
    return list(line.status.get("flags", ()))


def ago(seconds: float | None) -> str:
    """Return how long ago something was, short."""
    if seconds is None:
        return "never"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def summary(body: Mapping[str, Any]) -> str:
    """Return how far a message got in a few words: `2 of 3 applied, 1 rejected`."""
    from config_daemon.core.convergence import STATES

    others = [f"{body[key]} {state}" for state in STATES[:-1] if body.get(key := state.replace("-", "_"))]
    return ", ".join([f"{body['applied']} of {body['total']} applied", *others])


def impaired(vitals: Mapping[str, Vitals]) -> dict[str, list[str]]:
    """Return the services that something they need impairs, each with the root causes."""
    from config_daemon.core.convergence import root_causes

    states: dict[str, Vital] = {name: one.status for name, one in vitals.items()}  # type: ignore[misc]
    needs: dict[str, Iterable[str]] = {name: one.dependencies for name, one in vitals.items()}
    return root_causes(states, needs)


def vital_words(vitals: Mapping[str, Vitals]) -> dict[str, str]:
    """Return by service how it is, with the cause where that lies in another one."""
    causes = impaired(vitals)
    words = {}
    for name, one in vitals.items():
        told = one.status
        if name in causes:
            listed = " and ".join(f"{cause} is {vitals[cause].status}" for cause in causes[name])
            told = f"{'unhealthy' if one.status == 'healthy' else one.status}, because {listed}"
        words[name] = told
    return words
