"""What the commands that change keys share: one at a time, the keyring held, the keys here, how one is issued.

Laws: every keyring that is issued is signed by a root that it lists itself and that the one before lists; it is
made from the newest that can be reached, also where a killed run left it out of `keyring.json`; nothing is issued
below what the daemon holds; private keys stay in variables.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config_daemon.cli.keyrings_held import first_keyring, held_keyring
from config_daemon.cli.keys_lock import give_to_owner, keys_lock
from config_daemon.cli.session import Session
from config_daemon.errors import (
    CacheError,
    ConfigDaemonError,
    KeyUnavailable,
    RejectedUpdate,
    StoreUnavailable,
    UsageError,
)

if TYPE_CHECKING:
    from config_daemon.store.ground import Ground
    from config_daemon.store.keyfiles import KeyFiles, Signer
    from config_daemon.store.marks import Marks
    from config_daemon.wire.keyring import Keyring, KeyringBody


class NotYet(ConfigDaemonError):
    """Something has to come first; nothing was changed."""

    code = "NOT_YET"


class Desk:
    """The keys and keyrings of one folder, while nobody else changes them."""

    def __init__(self, session: Session) -> None:
        from config_daemon.cli.init import readable_keys
        from config_daemon.store.keyrings import KeyringFiles

        self.session, self.issued = session, False
        readable_keys(session)
        self.rings = KeyringFiles(session.files)
        self.held = held_keyring(self.rings, self.keys)
        self._refuse_below_the_daemon()
        if self.held.raw and self.rings.newest() != self.held.raw:
            self._put(self.held)  # a killed run got as far as writing it

    @property
    def ground(self) -> Ground:
        """Return the folder's settings, files and keys."""
        return self.session.ground

    @property
    def keys(self) -> KeyFiles:
        """Return the keys, as they are now."""
        return self.session.ground.keys

    @property
    def active(self) -> str:
        """Return the id of the signing key, which may be had as its public half only.

        Raises: KeyUnavailable.
        """
        return self.keys.signer().key_id if self._has_private else first_keyring(self.keys).keys[0].key_id

    @property
    def coming(self) -> Signer | None:
        """Return the next key, None while none is here.

        Raises: KeyUnavailable.
        """
        return self.keys.next_signer()

    @property
    def _has_private(self) -> bool:
        from config_daemon.store.keyfiles import PRIVATE_KEY

        return self.keys.source(PRIVATE_KEY) is not None

    @property
    def in_env(self) -> bool:
        """Tell whether the signing keys are in `.env`, where they can be replaced.

        Raises: KeyUnavailable when only some of them are.
        """
        from config_daemon.store.keyfiles import NEXT_PRIVATE_KEY, PRIVATE_KEY, PUBLIC_KEY

        places = {name: self.keys.source(name) for name in (PRIVATE_KEY, PUBLIC_KEY, NEXT_PRIVATE_KEY)}
        first = places[PRIVATE_KEY]
        if first is None or first.kind != ".env":
            return False
        for name, place in places.items():
            if place is not None and place.kind != ".env":
                raise KeyUnavailable(
                    f"{PRIVATE_KEY} is in .env ({first}), and {name} is not ({place}): they change together",
                    suggestion=f"Move {name} into {self.ground.files.environment}, or delete it there and here.",
                )
        return True

    @property
    def now(self) -> str:
        """Return the present time, as it is sealed."""
        from config_daemon.wire.messages import timestamp

        return timestamp(time.time_ns() // 1_000_000)

    def own_signers(self) -> list[Signer]:
        """Return the private signing keys that can be had here.

        Raises: KeyUnavailable.
        """
        coming = self.coming
        return ([self.keys.signer()] if self._has_private else []) + ([coming] if coming else [])

    def staged_id(self) -> str | None:
        """Return the listed key that came after the signing one; the newest where there are several."""
        return next(reversed(self._listed_after(self.active)), None)

    def before(self, key: str) -> list[str]:
        """Return the keys that may sign configs and were listed before this one."""
        listed = self._config_ids()
        return listed[: listed.index(key)] if key in listed else []

    def _listed_after(self, key: str) -> list[str]:
        listed = self._config_ids()
        return listed[listed.index(key) + 1 :] if key in listed else listed

    def _config_ids(self) -> list[str]:
        return [one.key_id for one in self.held.keys if one.key_id in self.held.config_ids]

    def root(self, file: str | None, without: Collection[str] = (), other: Keyring | None = None) -> Signer:
        """Return a root key to sign with: the one in a file, else one that is here; none of `without`.

        With `other` it must be a root of that keyring too.

        Raises: UsageError when there is none; KeyUnavailable for a file that cannot be used.
        """
        roots = (self.held.root_ids & other.root_ids if other else self.held.root_ids) - set(without)
        named = [named_key(file)] if file is not None else self.own_signers()
        for signer in named:
            if signer.key_id in roots:
                return signer
        known = ", ".join(sorted(roots)) or "none is left"
        if file is not None:
            raise UsageError(
                f"{file} holds the key {named[0].key_id}, which is no root key that may sign this: {known}",
                suggestion="Name the file of one of those keys.",
            )
        raise UsageError(
            f"a root key must sign this, and none of them can be had here: {known}",
            suggestion="Add --root-key FILE, with the private root key as PEM (mode 0600)."
            if roots
            else "Add root keys first: `config-daemon keys split-root FILE1 FILE2`.",
        )

    def issue(self, body: KeyringBody, root: Signer) -> None:
        """Seal a keyring and make it the newest.

        Raises: StoreUnavailable when another one came in meanwhile; ConfigDaemonError when it cannot be written.
        """
        from config_daemon.wire.keyring import follow, installed_keyring, seal_keyring

        raw = seal_keyring(body, root.key)
        try:
            installed_keyring(raw)
            issued = follow(self.held, raw)
        except RejectedUpdate as rejection:
            raise ConfigDaemonError(
                f"the keyring was not issued, since workers would refuse it: {rejection.message}",
                suggestion="Look at `config-daemon keys list`, and report this.",
            ) from rejection
        if self.rings.newest() != (self.held.raw or None):
            raise StoreUnavailable(
                "another keyring came in just now; nothing was issued", suggestion="Run the command again."
            )
        self._put(issued)
        self.held, self.issued = issued, True

    def edit_env(self, changes: Mapping[str, str | None]) -> None:
        """Change keys in `.env`, all at once.

        Raises: SettingsError.
        """
        from config_daemon import failpoints
        from config_daemon.store.dotenv_edited import edit

        edit(self.ground.files.environment, changes)
        failpoints.reached("after_keys_env")
        self.session.__dict__.pop("ground")

    def marks(self) -> Marks | None:
        """Return what the daemon wrote down last, None when it never ran.

        Raises: CacheError; KeyUnavailable.
        """
        from config_daemon.store.marks import load

        return load(self.ground.files.marks, self.keys.hmac_keys())

    def told(self) -> dict[str, Any]:
        """Return what JSON output says of the keyring; `held_by` names what keeps it from being published."""
        return {"number": self.held.number, "generation": self.held.generation, "held_by": self.held_by()}

    def held_by(self) -> list[str]:
        """Return the conditions for which the running daemon publishes no keyring, and which this one does not end."""
        if not self.session.daemon_alive:
            return []
        from config_daemon.core.health import CONDITIONS

        found = {name for name, *_ in self.session.view.conditions() if name in CONDITIONS}
        ended = {
            "keyring-unmerged": self.rings.unmerged() is None,
            "key-unlisted": self.active in self.held.config_ids,
        }
        return sorted(name for name in found if CONDITIONS[name].holds and not ended.get(name, False))

    def warn_of_hold(self) -> None:
        """Tell a person when what was issued stays here: until a daemon runs, or until its hold ends."""
        if not self.held.raw:
            return
        known = "NO WORKER KNOWS OF THIS YET" if self.issued else "workers may not know of this yet"
        if not self.session.daemon_alive:
            if self.issued:
                self.session.say(
                    f"{known}: no daemon runs here, and the next one publishes it when it starts"
                )
            return
        names = self.held_by()
        if not names:
            return
        from config_daemon.core.health import CONDITIONS

        mend = " ".join(CONDITIONS[name].remedy for name in names)
        self.session.say(
            f"{known}: the daemon holds ({', '.join(names)}) and publishes no keyring until that ends.\n  {mend}"
        )

    def _put(self, keyring: Keyring) -> None:
        files = self.session.files
        try:
            self.rings.put(keyring)
        except OSError as error:
            raise ConfigDaemonError(
                f"{files.keyring} cannot be written: {error.strerror}",
                suggestion="Make room, or make the folder writable, then run the command again.",
            ) from error
        give_to_owner([files.keyrings, *files.keyrings.glob("*.json"), files.keyring], files.folder)

    def _refuse_below_the_daemon(self) -> None:
        try:
            marks = self.marks()
        except (CacheError, KeyUnavailable):
            return  # told by who needs them
        known = marks.keyring if marks else None
        if known and (known[0], known[1]) != (self.held.number, self.held.sha256) and (
            known[0] >= max(1, self.held.number)
        ):  # fmt: skip
            raise KeyUnavailable(
                f"the daemon holds keyring {known[0]}, which is not here: the newest here is {self.held.number}",
                suggestion="Put it back: `config-daemon keys restore FILE`, or let the running daemon learn it.",
            )


def named_key(file: str) -> Signer:
    """Return the private key in a file that a person named.

    Raises: UsageError when there is no such file; KeyUnavailable when it cannot be used.
    """
    from config_daemon.store.privatekeys import key_in

    if not os.path.lexists(file):
        raise UsageError(f"there is no file {file}", suggestion="Name the right file.")
    return key_in(Path(file))


@contextlib.contextmanager
def at_desk(session: Session) -> Iterator[Desk]:
    """Have the keys of a folder to oneself.

    Raises: StoreLocked while another command changes them; KeyUnavailable when none can be had; SettingsError
    where there is no folder.
    """
    from config_daemon import failpoints
    from config_daemon.cli.init import readable_keys

    session.need_folder()
    failpoints.arm(os.environ.get("CONFIG_DAEMON_FAILPOINT", ""))
    first_keyring(readable_keys(session))  # first: where there are no keys, nothing is made
    with keys_lock(session):
        session.__dict__.pop("ground", None)
        desk = Desk(session)
        try:
            yield desk
        finally:
            if desk.issued:
                desk.warn_of_hold()
