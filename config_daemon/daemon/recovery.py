"""What an operator may ask of a daemon that holds: to take its database for the true one.

Laws: a new epoch and numbers above everything seen, so that nothing older can be mistaken for newer;
what an older life left in the cache is set aside, never mixed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from config_daemon.daemon.auditor import Auditor
from config_daemon.daemon.keeper import CacheKeeper
from config_daemon.daemon.mirror import Mirror
from config_daemon.daemon.requests import Request
from config_daemon.daemon.sealer import Sealer
from config_daemon.daemon.sight import Sight
from config_daemon.errors import UsageError
from config_daemon.store.adopt import adopt_store
from config_daemon.store.files import Files
from config_daemon.store.seals import RowSealer


class Recovery:
    """Carries out `adopt` requests."""

    def __init__(
        self,
        files: Files,
        row_sealer: RowSealer,
        sealer: Sealer,
        sight: Sight,
        mirror: Mirror,
        keeper: CacheKeeper,
        auditor: Auditor,
        reread_all: Callable[[], None],
    ) -> None:
        self._files, self._row_sealer, self._sealer = files, row_sealer, sealer
        self._sight, self._mirror, self._keeper, self._auditor = sight, mirror, keeper, auditor
        self._reread_all = reread_all

    def adopt(self, request: Request) -> dict[str, Any]:
        """Take the database for the true one.

        Raises: UsageError for another thing to adopt; StoreError.
        """
        if request.arguments.get("what") != "db":
            raise UsageError(
                "this daemon adopts the database only", suggestion="Ask with `config-daemon adopt --db`."
            )
        adopted = adopt_store(
            self._files,
            self._row_sealer,
            self._sealer.numbers,
            highest_seen=self._mirror.highest_seen,
            now=self._sealer.now(),
            by=request.by,
            reason=request.reason,
        )
        self._sight.accept()
        self._mirror.adopted()
        self._keeper.touch()
        self._auditor.adopted(adopted.heads)
        self._reread_all()
        return {"config_epoch": adopted.epoch, "services": adopted.services}
