"""The plain account of what a rebuild or a restore lost.

Laws: no acknowledged write is outside the new database and outside this account at once: where it cannot
be known what is missing, the account says from where on it cannot be known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from config_daemon.store.ports import Place
from config_daemon.store.salvage import Kept, Salvaged


class Since(NamedTuple):
    """From where on a source knows nothing: a place in the change feed, and when that was."""

    place: Place
    at: str


BEGINNING = Since(Place(0, ""), "")


class Lost(NamedTuple):
    """`services`: (version that was known, or None; version that is kept, 0 without any).

    `after` says that more may be missing, of what was committed after it; None: nothing more is missing.
    `history_rows`, `secrets` and `workers`, who are expected no more, are None where nobody could count them.
    """

    services: Mapping[str, tuple[int | None, int]]
    after: Since | None
    history_rows: int | None
    secrets: int | None
    workers: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the account as JSON-ready values."""
        return {
            "services": {
                name: {"from": was, "to": now} for name, (was, now) in sorted(self.services.items())
            },
            "after": None if self.after is None else {"feed": self.after.place.seq, "at": self.after.at},
            "history_rows": self.history_rows,
            "secrets": self.secrets,
            "workers": self.workers,
        }


def account(
    kept: Mapping[str, Kept], found: Salvaged, since: Since, known: Iterable[Mapping[str, int]], places: Iterable[Place]
) -> Lost:  # fmt: skip
    """Compare what is kept with everything that is known of the database before.

    `since` is where the source of `kept` stands, `known` are versions that others saw, `places` must be in the
    feed of a database from which nothing was cut off.
    """
    highest: dict[str, int] = {}
    for versions in (found.claimed, *known):
        for name, version in versions.items():
            highest[name] = max(version, highest.get(name, 0))
    lost: dict[str, tuple[int | None, int]] = {}
    for name, version in highest.items():
        if version > _version(kept, name):
            lost[name] = (version, _version(kept, name))
    is_whole, changed = _follow(found.feed, since.place, places)
    for name in (*changed, *found.altered):
        row = found.kept.get(name)
        if row is None or _content(kept.get(name)) != _content(row):
            lost.setdefault(name, (highest.get(name), _version(kept, name)))
    return Lost(lost, None if is_whole else since, found.history_rows, found.secrets)


def lost_workers(found: Salvaged, kept: Collection[str]) -> int | None:
    """Return how many workers of the database before are expected no more; None where nobody can say."""
    if not found.all_workers:
        return None
    return len({*found.workers.rows, *found.workers.altered} - set(kept))


def _content(row: Kept | None) -> tuple[int, str | None] | None:
    return None if row is None else (row.version, row.text)


def _version(kept: Mapping[str, Kept], name: str) -> int:
    return kept[name].version if name in kept else 0


def _follow(
    feed: list[tuple[int, str, str]] | None, since: Place, places: Iterable[Place]
) -> tuple[bool, set[str]]:
    """Tell whether the feed is whole from a place on, and which services it names."""
    if feed is None:
        return False, set()
    tokens = {seq: token for seq, token, _ in feed}
    changed = {name for seq, _, name in feed if seq > since.seq and isinstance(name, str) and name}
    wanted = [place for place in (since, *places) if place.seq >= since.seq and place.seq]
    holds = bool(feed) and all(tokens.get(place.seq) == place.token for place in wanted)
    return holds and feed[-1][0] - feed[0][0] + 1 == len(feed), changed
