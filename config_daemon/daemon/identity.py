"""Which keyring is in force and which key signs: followed on disk, and changed while the daemon runs.

Laws: marks.json says so before anything is signed with another key or for another generation; a key that
the keyring does not list signs nothing; a keyring takes over only when a root of the one in force signed it.

Source: docs/protocol.md "Keys and keyrings".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple

from config_daemon import failpoints
from config_daemon.core.health import Findings
from config_daemon.core.keyring import grace_ends_ms, meet, merging, signing_key, walk
from config_daemon.core.sealed import Sealed
from config_daemon.daemon.held import Held, resume, whole
from config_daemon.errors import ConfigDaemonError, KeyUnavailable, UsageError
from config_daemon.logs import Logger
from config_daemon.store.dotenv import EnvFile
from config_daemon.store.keyfiles import KeyFiles, Signer
from config_daemon.store.keyrings import KeyringFiles
from config_daemon.store.marks import Numbers
from config_daemon.wire.keyring import Keyring, seal_keyring

LOOK_SECONDS = 1.0
News = Literal["keyring", "signer"]
KEYRING_FILE = "keyring.json"


class Keys(NamedTuple):
    """The private keys that are to be had: what signs, and id and bytes of the HMAC key."""

    signers: tuple[Signer, ...]
    hmac_id: str
    hmac_key: bytes

    @classmethod
    def of(cls, files: KeyFiles) -> Keys:
        """Read them. Raises: KeyUnavailable."""
        return cls(files.signers(), *files.hmac_key())


class Identity:
    """The keyring in force, the key that signs, the HMAC key; `signer` is None while none may sign."""

    def __init__(
        self,
        held: Held,
        keys: Keys,
        numbers: Numbers,
        rings: KeyringFiles,
        findings: Findings,
        find_keys: Callable[[EnvFile | None], KeyFiles],  # None: by `.env` as it is now
        is_backed_up: Callable[[str], bool],
        grace_seconds: float,
        now_text: Callable[[], str],
        unix_ms: Callable[[], int],
        log: Logger,
    ) -> None:
        self.keyring, self._missing = held
        self._keys, self._numbers, self._rings, self._findings = keys, numbers, rings, findings
        self._find_keys, self._is_backed_up, self._grace_seconds = find_keys, is_backed_up, grace_seconds
        self._now_text, self._unix_ms, self._log = now_text, unix_ms, log
        self._env_file: EnvFile | None = None
        self._stamp: object = None
        self._look_at, self._are_unusable = 0.0, False
        self._chosen = numbers.marks.key
        self.signer: Signer | None = None
        self.key_id = keys.signers[0].key_id
        self._unmerged = rings.unmerged()
        self._settle()
        self._said: tuple[object, ...] = (self.keyring.sha256, self.signs, self.signer)

    @property
    def signs(self) -> tuple[int, str]:
        """Return generation and key id of what is sealed now."""
        return self.keyring.generation, self.key_id

    @property
    def hmac(self) -> tuple[str, bytes]:
        """Return id and bytes of the key that seals the LKG and the marks."""
        return self._keys.hmac_id, self._keys.hmac_key

    def vouches(self, sealed: Sealed | None) -> bool:
        """Tell whether whoever holds the keyring in force would believe a message that was sealed before."""
        if sealed is None:
            return False
        generation, key_id = sealed.fingerprint.generation, sealed.fingerprint.key_id
        return generation == self.keyring.generation and key_id in self.keyring.config_ids

    def look(self, now: float, near: Collection[str], env_file: EnvFile | None) -> News | None:
        """Follow files and time; tell what has changed."""
        if now >= self._look_at or "keyring" in near or env_file is not self._env_file:
            self._look_at = now + LOOK_SECONDS
            if env_file is not None and (env_file is not self._env_file or self._are_unusable):
                self._reread_keys(env_file)
            if (stamp := self._rings.stamp()) != self._stamp:
                self._stamp = stamp
                self._follow_files()
            self._settle()
        said, self._said = self._said, (self.keyring.sha256, self.signs, self.signer)
        if said == self._said:
            return None
        return "keyring" if said[1:] == self._said[1:] else "signer"

    def again(self) -> None:
        """Have the next look follow everything: something was shown, or asked for."""
        self._look_at, self._stamp = 0.0, None

    def learn(self, shown: Sequence[bytes]) -> list[bytes]:
        """Take over keyrings from the broker or a worker; return those that are not ours and lead nowhere.

        What neither follows ours nor is covered by it is merged, where our own key is a root of both.
        """
        if self._rings.stamp() != self._stamp:  # what a person issued meanwhile comes first
            self._follow_files()
        if self._missing:
            named = filter(None, map(whole, shown))
            self._take([one for one in named if (one.number, one.sha256) == self._missing][:1])
        if self._missing:  # nothing else can be told from older
            return []
        self._take(walk(self.keyring, shown))
        others = []
        for raw in shown:
            meaning = meet(self.keyring, raw).meaning
            if meaning == "merge":
                self._merge(raw)
            elif meaning in ("older", "foreign"):
                others.append(raw)
        return others

    def activate(self, wanted: str | None) -> str:
        """Sign with the next key from now on; return its id.

        Raises: UsageError when there is none that may sign, KeyUnavailable when it cannot be read.
        """
        self._use(Keys.of(self._find_keys(None)))  # they may have come a moment ago
        self._follow_files()
        self._settle()
        staged = self._staged()
        if staged is None or wanted not in (None, staged.key_id):
            raise UsageError(
                f"there is no key {wanted or ''} that waits to be activated".replace("  ", " "),
                suggestion="Run `config-daemon keys rotate` first; `config-daemon keys list` shows the keys.",
            )
        self._chosen = staged.key_id
        self._settle()
        if self.key_id != staged.key_id:
            raise UsageError(
                "the new key cannot be written down as the one that signs",
                suggestion="Free space in the data folder, then ask again.",
            )
        self.again()
        return staged.key_id

    def _staged(self) -> Signer | None:
        """Return the key that a rotation brought and that does not sign yet."""
        others = [
            one
            for one in self._keys.signers[1:]
            if one.key_id in self.keyring.config_ids and one.key_id != self.key_id
        ]
        return others[0] if others else None

    def _reread_keys(self, env_file: EnvFile | None) -> None:
        self._env_file = env_file
        try:
            keys = Keys.of(self._find_keys(env_file))
        except KeyUnavailable as error:
            self._findings.open("keys-unusable", ".env", error.message, self._now_text())
            self._are_unusable = True
            return
        self._are_unusable = False
        self._findings.close("keys-unusable")
        self._use(keys)

    def _use(self, keys: Keys) -> None:
        """Go on with other keys; with another HMAC key once marks.json is sealed with it."""
        if keys.hmac_key != self._keys.hmac_key:
            try:
                self._numbers.rekey(keys.hmac_key)
            except OSError:
                self._are_unusable = True  # and again at the next look
                keys = keys._replace(hmac_id=self._keys.hmac_id, hmac_key=self._keys.hmac_key)
            else:
                failpoints.reached("after_rekey")
                self._log.info("hmac_key_changed", key_id=keys.hmac_id)
        self._keys = keys

    def _follow_files(self) -> None:
        if self._missing:
            found = resume(self._missing, self.keyring, self._rings)
            self._take([found.keyring] if found.missing is None else [], stored=True)
            return
        self._take(walk(self.keyring, self._rings.stored()), stored=True)
        try:
            newest = self._rings.newest()
        except KeyUnavailable as error:
            self._findings.open("keyring-refused", KEYRING_FILE, error.message, self._now_text())
            return
        if newest in (None, self.keyring.raw):
            self._findings.close("keyring-refused")
        else:
            detail = f"keyring {self.keyring.number} stays in force"
            self._findings.open("keyring-refused", KEYRING_FILE, detail, self._now_text())

    def _take(self, path: Sequence[Keyring], *, stored: bool = False) -> None:
        """Put keyrings in force, one after the other; what the disk does not take is taken at a later look."""
        for keyring in path:
            try:
                if not stored:
                    self._rings.put(keyring)
                self._enter(keyring, self.key_id)
            except OSError as error:
                self._findings.open("keyring-refused", KEYRING_FILE, str(error.strerror), self._now_text())
                self.again()
                return
            self.keyring, self._missing = keyring, None
            self._log.info("keyring_entered", number=keyring.number, generation=keyring.generation)
        if path:
            self.again()

    def _enter(self, keyring: Keyring, key_id: str) -> None:
        """Have marks.json say what is in force. Raises: OSError."""
        failpoints.reached("before_enter")
        place = keyring.number, keyring.sha256
        if self._numbers.marks.key is None and not keyring.number:
            self._numbers.note_key(place, key_id)  # a new store: not worth a write of its own
            return
        self._numbers.enter(keyring.generation, place, key_id, self._unix_ms())
        failpoints.reached("after_enter")

    def _settle(self) -> None:
        """Choose the key that signs, and tell what stands in the way."""
        self._choose_staged()
        wanted = self._wanted()
        if wanted is not None and not self._missing and not self._is_in_marks(wanted):
            try:
                self._enter(self.keyring, wanted)
            except OSError:  # told as a disk that is full
                wanted = self.key_id if self.signer and self.key_id in self.keyring.config_ids else None
            else:
                if self.signer is not None and wanted != self.key_id:
                    self._log.info("key_activated", key_id=wanted)
        self.signer = next((one for one in self._keys.signers if one.key_id == wanted), None)
        self.key_id = wanted or self.key_id
        self._tell()

    def _wanted(self) -> str | None:
        available = [one.key_id for one in self._keys.signers]
        if self._missing:
            # health alone, by the key that marks name: of any other nobody knows whether it may
            known = self._numbers.marks.key
            return known if known in available else None
        return signing_key(self.keyring, available, self._chosen)

    def _is_in_marks(self, key_id: str) -> bool:
        marks = self._numbers.marks
        return (marks.key, marks.keyring) == (key_id, (self.keyring.number, self.keyring.sha256))

    def _choose_staged(self) -> None:
        """Choose the next key once its time has come and a backup of it was made."""
        staged = self._staged()
        if staged is None or self._chosen == staged.key_id:
            self._findings.close("activation-waits")
        elif self._unix_ms() >= grace_ends_ms(self.keyring, self._grace_seconds):
            if self._is_backed_up(staged.key_id):
                self._chosen = staged.key_id
                self._findings.close("activation-waits")
            else:
                detail = f"key {staged.key_id} is to sign, and is in no backup"
                self._findings.open("activation-waits", KEYRING_FILE, detail, self._now_text())

    def _merge(self, raw: bytes) -> None:
        shown = meet(self.keyring, raw).keyring
        assert shown is not None
        signer, at = self.signer, self._now_text()
        try:
            if signer is None or signer.key_id not in self.keyring.root_ids & shown.root_ids:
                raise UsageError("the key that signs here is no root of both", suggestion="")
            body = merging(self.keyring, shown, at)
            if signer.key_id not in {one.key_id for one in body.keys}:
                raise UsageError("the key that signs here was revoked", suggestion="")
        except ConfigDaemonError as error:
            self._keep_unmerged(raw, f"keyring {shown.number} beside ours: {error.message}")
            return
        self._take(walk(self.keyring, [seal_keyring(body, signer.key)]))

    def _keep_unmerged(self, raw: bytes, detail: str) -> None:
        self._findings.open("keyring-unmerged", KEYRING_FILE, detail, self._now_text())
        self._unmerged = raw
        self._write_unmerged(raw)

    def _tell(self) -> None:
        """Open and close the holds that follow from what is in force."""
        now = self._now_text()
        if self._missing:
            detail = f"marks.json names keyring {self._missing[0]}, which is nowhere"
            self._findings.open("keyring-missing", KEYRING_FILE, detail, now)
        else:
            self._findings.close("keyring-missing")
        if self.signer is None:
            detail = f"keyring {self.keyring.number} lists none of the keys that are here"
            self._findings.open("key-unlisted", KEYRING_FILE, detail, now)
        else:
            self._findings.close("key-unlisted")
        # a root that signed it may be none any more: what it revoked is still to be merged
        if self._unmerged is not None and meet(self.keyring, self._unmerged).meaning in ("merge", "foreign"):
            detail = f"keyring {self.keyring.number} and another one know nothing of each other"
            self._findings.open("keyring-unmerged", KEYRING_FILE, detail, now)
            self._write_unmerged(self._unmerged)
        elif self._unmerged is not None:
            self._unmerged = None
            self._findings.close("keyring-unmerged")
            self._write_unmerged(None)

    def _write_unmerged(self, raw: bytes | None) -> None:
        """Have the file say what waits to be merged; again at the next look where the disk does not take it."""
        if self._rings.unmerged() == raw:
            return
        try:
            self._rings.set_unmerged(raw)
        except OSError as error:
            self._log.warning("keyring_unwritable", error=str(error.strerror))
