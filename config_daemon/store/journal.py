"""The journal of what replaces the database or its epoch: `rebuild.info`, and afterwards its tombstone.

Laws: it is written durably before the first thing that cannot be taken back, so that whoever starts next
knows what was meant; marks obey it, so that it carries an HMAC as they do, verified before it is parsed; it names
nothing outside the data folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from config_daemon.errors import CacheError, RejectedUpdate
from config_daemon.store.files import READABLE_MODE, read_capped, replace_durably
from config_daemon.wire.mac import seal_hmac, unseal_hmac

Kind = Literal["rebuild", "restore", "adopt-lkg", "adopt-db"]
State = Literal["under-way", "done", "abandoned"]

JOURNAL = "rebuild"
MAX_BYTES = 1 << 26
VERSION = 1
_STAMP = re.compile(r"[0-9A-Za-z.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Intent:
    """What is done, by whom and why: `number` is above everything that was used before.

    `epoch` is the new one, `quarantine` the folder below `quarantine/` that takes the old database, empty
    where it stays in place; `replaces` tells whether there was one to move; `lost` is the account that people get.
    """

    id: str
    kind: Kind
    source: str
    by: str
    reason: str | None
    at: str
    epoch: str
    number: int
    quarantine: str
    services: int
    lost: Mapping[str, Any] = field(default_factory=dict)
    replaces: bool = False
    state: State = "under-way"
    version: int = VERSION


def write(path: Path, intent: Intent, hmac_key: bytes) -> None:
    """Replace the journal durably. Raises: OSError."""
    body = json.dumps(asdict(intent), indent=1).encode()
    replace_durably(path, seal_hmac(body, JOURNAL, hmac_key), READABLE_MODE)


def load(path: Path, hmac_keys: Iterable[bytes]) -> Intent | None:
    """Read the journal; None when nothing was ever rebuilt.

    Raises: CacheError when it is there and no journal of ours.
    """
    try:
        intent = Intent(**json.loads(unseal_hmac(read_capped(path, MAX_BYTES), JOURNAL, hmac_keys)))
        if intent.version != VERSION or (intent.quarantine and not _STAMP.fullmatch(intent.quarantine)):
            raise ValueError("a format or a folder that this program does not write")
        if not (_is_of_its_types(intent) and _is_account(intent.lost)):
            raise ValueError("a member of another type")
        return intent
    except FileNotFoundError:
        return None
    except (RejectedUpdate, OSError, ValueError, TypeError, RecursionError) as error:
        raise CacheError(
            f"{path} cannot be read: {error}",
            suggestion="See if a rebuild is half done (.config.db.rebuild, quarantine/), then move the file away.",
        ) from error


def _is_of_its_types(intent: Intent) -> bool:
    texts = (intent.id, intent.source, intent.by, intent.at, intent.epoch, intent.quarantine)
    return (
        all(isinstance(text, str) for text in texts)
        and intent.kind in get_args(Kind)
        and intent.state in get_args(State)
        and (intent.reason is None or isinstance(intent.reason, str))
        and _is_number(intent.number)
        and _is_number(intent.services)
        and type(intent.replaces) is bool
    )


_COUNTS = ("history_rows", "secrets", "workers")


def _is_account(lost: Any) -> bool:
    """Tell whether this is what `Lost.as_dict` returns, or nothing, as of what loses nothing."""
    if not isinstance(lost, dict):
        return False
    services, after = lost.get("services", {}), lost.get("after")
    return (
        isinstance(services, dict)
        and all(isinstance(one, dict) and _are_versions(one) for one in services.values())
        and (after is None or (isinstance(after, dict) and _is_place(after)))
        and all(lost.get(name) is None or _is_number(lost[name]) for name in _COUNTS)
    )


def _are_versions(one: dict[str, Any]) -> bool:
    return (one.get("from") is None or _is_number(one["from"])) and _is_number(one.get("to"))


def _is_place(after: dict[str, Any]) -> bool:
    return _is_number(after.get("feed")) and isinstance(after.get("at"), str)


def _is_number(value: Any) -> bool:
    return type(value) is int
