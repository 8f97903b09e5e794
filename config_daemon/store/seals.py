"""Row seals and the history's chain: how altered bytes in the database are noticed.

Laws: a seal covers the exact text that is stored; it is verified at every read; its key is derived
from the master key for this purpose alone.

Sources: RFC 5869 (HKDF), docs/architecture.md "What SQLite cannot see".
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any

from config_daemon.wire.sealing import canonical, pae

_ROW_TYPE = b"application/vnd.config-daemon.row.v1"
_ROW_KEY_INFO = b"config-daemon row-seal v1"
FIRST_CHAIN = bytes(32).hex()


@dataclass(frozen=True, slots=True)
class RowSealer:
    """Seals and checks rows with one key of a given id."""

    key_id: str
    _keyed: hmac.HMAC = field(repr=False)  # prepared once: finding the algorithm takes longer than running it

    @classmethod
    def from_master_key(cls, key_id: str, master_key: bytes) -> RowSealer:
        """Derive the row-seal key from a 32-byte master key."""
        return cls(key_id, hmac.new(hkdf(master_key, _ROW_KEY_INFO), digestmod=hashlib.sha256))

    def seal(self, table: str, key: str, version: int, epoch: str, text: str, at: str, by: str | None) -> str:
        """Return the seal of one row as 64 hex digits; `text` is the stored text, letter by letter."""
        body = canonical([table, key, version, epoch, text, at, by])
        keyed = self._keyed.copy()
        keyed.update(pae(_ROW_TYPE, body))
        return keyed.hexdigest()

    def fits(self, seal: str, *row: Any) -> bool:
        """Tell whether `seal` belongs to the row, given as the arguments of `seal`."""
        try:
            return hmac.compare_digest(self.seal(*row), seal)
        except (ValueError, TypeError):  # a stored value that no writer of ours could have written
            return False


def hkdf(key: bytes, info: bytes) -> bytes:
    """Derive 32 bytes from a uniformly random key (HKDF-SHA256 with no salt, one block)."""
    extracted = hmac.digest(bytes(32), key, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def next_chain(previous: str, row: dict[str, Any]) -> str:
    """Return the chain value of an audit row that follows `previous` (both 64 hex digits)."""
    return hashlib.sha256(bytes.fromhex(previous) + pae(b"audit", canonical(row))).hexdigest()
