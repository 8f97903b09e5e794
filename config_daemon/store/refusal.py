"""Whether a living daemon lets others write now.

Laws: while the daemon is not in its normal mode nobody writes, so that nothing is acknowledged into a
database that may be restored or replaced; rows that somebody altered forbid only writes to themselves,
and never their adoption; configs that do not fit new models may be mended, and nothing else be written
meanwhile; what cannot be explained forbids everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from config_daemon.core.health import CONDITIONS
from config_daemon.errors import NotAllowed

ALTERED_ROWS, MISFITS = "rows-corrupted", "model-hash"
_OF_THE_STORE = ("db-", "schema-too-", "io-error", "fd-exhausted")
_Open = tuple[str, str, str, str, str, str]  # name, subject, severity, since, detail, remedy


def refusal_of(
    facts: Mapping[str, Any], conditions: Iterable[_Open], services: Collection[str], adopt: bool
) -> str | None:
    """Return why these services must not be written now, None when they may be.

    `facts` and `conditions` are what a living daemon said in status.db; `adopt` tells that the write
    seals rows as they were altered. A daemon that has not said its mode yet forbids nothing.
    """
    mode = facts.get("mode")
    if mode in (None, "normal"):
        return None
    found = list(conditions)
    altered = {subject for name, subject, *_ in found if name == ALTERED_ROWS}
    unfit = [condition for condition in found if condition[0] == MISFITS]
    causes = [condition for condition in found if stops_everything(condition[0])]
    if mode == "rebuilding" or causes or not (altered or unfit):
        return _told(str(mode), causes)
    writable = {*facts.get("misfits", ()), *(altered if adopt else ())}
    if unfit and not writable.issuperset(services):
        return _told(str(mode), unfit)
    refused = sorted(altered.intersection(services))
    if adopt or not refused:
        return None
    return (
        f"the stored config of {', '.join(refused)} was altered outside config-daemon:"
        f" run `config-daemon adopt {refused[0]}` to see the difference and to seal it"
    )


def stops_everything(name: str) -> bool:
    """Tell whether the daemon is in fallback with all services while this condition is open."""
    known = CONDITIONS.get(name)
    return name.startswith(_OF_THE_STORE) or (known is not None and known.holds)


def _told(mode: str, causes: list[_Open]) -> str:
    why = "; ".join(f"{name}: {detail}. {remedy}" for name, _, _, _, detail, remedy in causes[:3])
    return f"the daemon is in {mode}, and nothing is written meanwhile" + (f" ({why})" if why else "")


def still_lives(service: str) -> NotAllowed:
    """Return the refusal to clear what workers need."""
    return NotAllowed(
        f"{service} is not deleted, and workers need what its topic holds",
        code="STILL_LIVES",
        suggestion=f"First `config-daemon delete {service}`, and give workers time to hear of it.",
    )
