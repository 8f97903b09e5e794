"""The journal of what replaces the database or its epoch: `rebuild.info`, and afterwards its tombstone.

Laws: it is written durably before the first thing that cannot be taken back, so that whoever starts next
knows what was meant; it names nothing outside the data folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from config_daemon.errors import CacheError
from config_daemon.store.files import READABLE_MODE, read_capped, replace_durably

Kind = Literal["rebuild", "restore", "adopt-lkg", "adopt-db"]
State = Literal["under-way", "done", "abandoned"]

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


def write(path: Path, intent: Intent) -> None:
    """Replace the journal durably. Raises: OSError."""
    replace_durably(path, json.dumps(asdict(intent), indent=1).encode() + b"\n", READABLE_MODE)


def load(path: Path) -> Intent | None:
    """Read the journal; None when nothing was ever rebuilt.

    Raises: CacheError when it is there and no journal of ours.
    """
    try:
        intent = Intent(**json.loads(read_capped(path, MAX_BYTES)))
        texts = (intent.id, intent.kind, intent.source, intent.by, intent.at, intent.epoch, intent.state)
        if not all(isinstance(text, str) for text in texts) or type(intent.number) is not int:
            raise ValueError("a member of another type")
        if intent.version != VERSION or (intent.quarantine and not _STAMP.fullmatch(intent.quarantine)):
            raise ValueError("a format or a folder that this program does not write")
        return intent
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CacheError(
            f"{path} cannot be read: {error}",
            suggestion="See if a rebuild is half done (.config.db.rebuild, quarantine/), then move the file away.",
        ) from error
