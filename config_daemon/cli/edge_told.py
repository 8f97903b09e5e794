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
    "offline": "look whether it was stopped on purpose",
    "stale": "runs it, and has seen no beacon of the last 90 s: the broker may keep something from it",
    "pending": "has not said yet what became of it",
}
_STARTED = "started just now: it waits for its first beacon (up to 30 s)"
_OTHER_KEYS = (
    "speaks with other keys than those you added: if it was set up anew, compare fingerprints and"
    " `config-daemon worker add {worker} … --replace`"
)
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


def why(line: WorkerView, has_other_keys: bool = False) -> str:
    """Return why a worker does not run what is wanted, and what to look at; empty where it does.

    `has_other_keys`: what is said in its name is not signed by the keys that were added. That the broker says
    it left stands beside everything else.
    """
    if not line.expected:
        return f"not expected: its word does not count until `config-daemon worker add {line.worker}`"
    told = "" if line.state in ("applied", None) else _trouble(line, has_other_keys)
    if not line.has_left:
        return told
    seconds = line.left_seconds()
    left = "left the broker" if seconds is None else f"left the broker {ago(seconds)}"
    if line.state == "offline" and not has_other_keys and not line.reason:
        return f"{left}: {told}"
    return "; ".join(part for part in (told, left) if part)


def with_other_keys(conditions: Iterable[tuple[str, ...]]) -> set[str]:
    """Return the workers in whose name somebody speaks with other keys, by the daemon's open conditions."""
    return {
        subject
        for name, subject, _, _, detail, *_ in conditions
        if name == "status-refused" and detail.endswith(" bad-signature")
    }


def _trouble(line: WorkerView, has_other_keys: bool) -> str:
    if has_other_keys and line.state in ("pending", "silent", "stale", "offline") and not line.reason:
        return _OTHER_KEYS.format(worker=line.worker)
    parts = [_REASONS.get(line.reason, line.reason)] if line.reason else []
    attempt = line.status.get("last_attempt") or {}
    if line.state in ("rejected", "rolled-back", "pending") and attempt.get("reason") == line.reason:
        parts += [str(problem["message"]) for problem in attempt.get("errors", [])[:1]]
    if not parts and line.seen_at is None and line.state in ("silent", "pending"):
        return _NEVER
    if not parts and line.state == "pending" and line.status.get("beacon") == 0 and runs(line):
        return _STARTED
    return ": ".join(parts) or _STATES.get(line.state or "", "")


def goes_on(line: WorkerView) -> str:
    """Return what a worker makes of it that its service was deleted, once it took note."""
    if line.state != "applied":
        return ""
    version = runs(line)
    return "took note that the service is deleted" + (f", and keeps version {version}" if version else "")


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
