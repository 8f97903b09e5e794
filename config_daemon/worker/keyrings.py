"""Follow the keyring: believe a newer one once it is durable, and show the one held to whoever is behind.

Laws: a keyring is kept before it is believed; a refusal changes nothing; what is refused on the topic of
the newest one is reported and answered with evidence, because then somebody publishes another past; what
was taken gives way to an installed keyring that it does not go on from, because a person chose that one.

Source: docs/protocol.md "Keys and keyrings" and "Evidence".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from config_daemon.errors import KeyUnavailable, RejectedUpdate
from config_daemon.wire.keyring import KEYRING, Keyring, kept_keyring
from config_daemon.wire.keys import verify_key
from config_daemon.wire.topics import Topics
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.report import Report, cannot_keep
from config_daemon.worker.trust import Trust

Outcome = Literal["known", "taken", "later"]


class Keyrings:
    """Takes keyrings for one worker; reports each verdict under the name `keyring`, its number as sequence."""

    def __init__(
        self, trust: Trust, keep: Keep, topics: Topics, lookout: Lookout, report: Callable[[Report], None]
    ) -> None:
        self._trust, self._keep, self._topics = trust, keep, topics
        self._lookout, self._report = lookout, report
        self._is_started = False

    def start(self) -> bool:
        """Believe what was taken last, unless a newer one was installed; True when what was kept is lost."""
        self._is_started = True
        kept = self._keep.load_keyring()
        if kept.raw is None:
            return kept.lost
        try:
            # verified when it was taken; the root that signed it may be none of its own
            taken, past = kept_keyring(kept.raw), [verify_key(key) for key in kept.past]
        except (RejectedUpdate, KeyUnavailable):
            self._keep.set_aside(KEYRING)
            return True
        installed = self._trust.keyring
        self._trust.resume(taken, past, kept.steps)
        if not _goes_on_from(installed, taken):
            self._trust.resume(installed, (), ())
        return False

    def take(self, topic: str, raw: bytes) -> Outcome:
        """Take bytes from a keyring's topic: `taken`, or `later` when they could not be kept.

        Raises: RuntimeError before `start`, when nobody knows what was taken last.
        """
        if not self._is_started:
            raise RuntimeError("start() comes before the first message")
        held = self._trust.keyring
        try:
            shown = self._trust.follow(raw)
        except RejectedUpdate as rejection:
            if topic == self._topics.keyring:  # the others hold old ones for those who slept: no news
                self._say(None, rejection)
                self._lookout.show(KEYRING, *self._trust.proof)
            return "known"
        if shown is held:
            return "known"
        past = [bytes(key) for key in self._trust.past_after(shown)]
        try:
            self._keep.save_keyring(raw, past, self._trust.steps_after(shown))
        except OSError as error:
            self._report(
                Report(KEYRING, shown.generation, shown.number, None, "held", errors=(cannot_keep(error),))
            )
            return "later"
        self._trust.hold(shown)
        self._say(shown, None)
        return "taken"

    def _say(self, keyring: Keyring | None, rejection: RejectedUpdate | None) -> None:
        self._report(
            Report(
                KEYRING,
                keyring.generation if keyring else None,
                keyring.number if keyring else None,
                None,
                "rejected" if rejection else "applied",
                rejection.reason if rejection else None,
            )
        )


def _goes_on_from(installed: Keyring, taken: Keyring) -> bool:
    return taken.raw == installed.raw or (
        taken.number > installed.number
        and taken.generation >= installed.generation
        and taken.revoked.keys() >= installed.revoked.keys()
    )
