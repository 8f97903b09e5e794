"""The keyring's topics: publish what is in force, put right what others write, learn what others know.

Laws: the keyring goes before anything that its keys sign; every keyring that changed a root stays for those
who slept; what a broker or a worker shows is judged by signature alone; putting right backs off.

Source: docs/protocol.md "Keys and keyrings".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from config_daemon.core.health import Findings
from config_daemon.core.keyring import root_changes
from config_daemon.daemon.broker import Broker
from config_daemon.daemon.events import Arrived
from config_daemon.daemon.identity import Identity
from config_daemon.errors import RejectedUpdate
from config_daemon.store.keyrings import KeyringFiles
from config_daemon.wire.keyring import KEYRING, Keyring, installed_keyring, kept_keyring, read_keyring
from config_daemon.wire.topics import Topics

AGAIN_SECONDS = 3600.0
BACKOFF_FIRST_SECONDS, BACKOFF_LAST_SECONDS, QUIET_SECONDS = 1.0, 60.0, 600.0
SHOWN_AT_ONCE, SHOWN_BYTES = 16, 1 << 20  # of what anybody may send, between two looks; evidence comes again
NEVER = float("-inf")


class Keyrings:
    """Publishes on the keyring's topics whatever is due."""

    def __init__(
        self,
        identity: Identity,
        broker: Broker,
        rings: KeyringFiles,
        topics: Topics,
        findings: Findings,
        now_text: Callable[[], str],
    ) -> None:
        self._identity, self._broker, self._rings, self._topics = identity, broker, rings, topics
        self._findings, self._now_text = findings, now_text
        self._wanted: dict[str, Keyring] = {}
        self._sent: set[str] = set()
        self._sent_at = NEVER
        self._told_at: dict[
            str, float
        ] = {}  # of conditions that end when nobody has done it again for a while
        self._not_before: dict[str, tuple[float, float]] = {}
        self._shown: dict[tuple[str, bytes], None] = {}  # evidence is on no topic
        self._defaced: set[str] = set()
        self.renew()

    def connected(self) -> None:
        """Begin anew on a fresh connection, and have everything shown that is retained."""
        self._sent.clear()
        self._not_before.clear()
        self._show_again()

    def _show_again(self) -> None:
        every = [self._topics.keyring, self._topics.every_keyring_number]
        self._broker.subscribe(every, foreign_only=True, retained=True)

    def renew(self) -> None:
        """Note that another keyring may be in force."""
        newest, path = self._identity.keyring, self._path()
        ever = [*path, newest]
        self._ever = {one.number: one.sha256 for one in ever}
        self._known_keys = frozenset(key.key_id for one in ever for key in one.keys)
        self._roots = tuple({bytes(key): key for one in ever for key in one.roots}.values())
        below = [one for one in path if 0 < one.number < newest.number]
        chain = root_changes([*below, newest] if newest.number else below)
        wanted = {self._topics.keyring_number(one.number): one for one in chain}
        if newest.number:
            wanted[self._topics.keyring] = newest
        for topic in [name for name, one in wanted.items() if self._wanted.get(name) != one]:
            self._sent.discard(topic)
        self._wanted = wanted

    def arrived(self, event: Arrived) -> bool:
        """Take what somebody else put on a keyring's topic, or a worker's evidence; False for anything else."""
        is_evidence = self._topics.is_keyring_evidence(event.topic)
        if not is_evidence and not self._topics.is_keyring(event.topic):
            return False
        size = sum(len(raw) for _, raw in self._shown) + len(event.payload)
        if not (is_evidence and event.retained) and len(self._shown) < SHOWN_AT_ONCE and size <= SHOWN_BYTES:
            self._shown["" if is_evidence else event.topic, event.payload] = None
        elif event.topic in self._wanted:
            self._defaced.add(event.topic)  # whatever it was
        return True

    def refused(self, topic: str, now: float) -> None:
        """Note that the broker will not hold one; it is tried again later and stops nothing else."""
        if topic in self._wanted:
            self._send_again(topic, now, BACKOFF_LAST_SECONDS)

    def judge(self, now: float) -> None:
        """Judge what was shown; call it before configs are judged, which may need a newer keyring."""
        for name in [name for name, at in self._told_at.items() if now - at > QUIET_SECONDS]:
            del self._told_at[name]
            self._findings.close(name, KEYRING)
        defaced, self._defaced = self._defaced, set()
        for topic in defaced:
            self._put_right(topic, now)
        if not self._shown:
            return
        shown, self._shown = self._shown, {}
        before = self._identity.keyring
        lost = set(self._identity.learn([raw for _, raw in shown if raw]))
        if self._identity.keyring != before:
            self.renew()
            self._show_again()  # some may have been more than could be looked at
        for topic, raw in shown:
            if raw in lost:
                self._judge_lost(raw, not topic, now)
            ours = self._wanted.get(topic)
            if self._topics.is_keyring(topic) and (not raw or raw in lost) and not (ours and ours.raw == raw):
                self._put_right(topic, now)

    def step(self, now: float, may_publish: bool) -> None:
        """Publish what is due, while anything but health may be; call it before anything else is published."""
        if not may_publish:
            return
        if now - self._sent_at > AGAIN_SECONDS:
            self._sent.clear()
        for topic, keyring in self._wanted.items():
            allowed = now >= self._not_before.get(topic, (NEVER, 0.0))[0]
            if topic not in self._sent and allowed and self._broker.room(topic, now):
                self._broker.send(topic, keyring.raw, keyring.number, now)
                self._sent.add(topic)
                self._sent_at = now

    def _path(self) -> list[Keyring]:
        """Return what the folder holds, by number."""
        found: dict[int, Keyring] = {}
        for raw in self._rings.stored():
            with contextlib.suppress(RejectedUpdate):
                kept = kept_keyring(raw)
                found[kept.number] = kept
        return [found[number] for number in sorted(found)]

    def _put_right(self, topic: str, now: float) -> None:
        if topic in self._sent or topic not in self._wanted:  # else: ours is on its way
            self._say("foreign-write", "somebody else wrote the keyring's topic", now)
        if topic not in self._wanted:  # whoever believes it has a root that we have not; leave it alone
            return
        until, seconds = self._not_before.get(topic, (NEVER, 0.0))
        longer = min(2 * seconds, BACKOFF_LAST_SECONDS) if now - until < BACKOFF_LAST_SECONDS else 0.0
        self._send_again(topic, now, longer or (BACKOFF_FIRST_SECONDS if seconds else 0.0))

    def _judge_lost(self, raw: bytes, is_evidence: bool, now: float) -> None:
        """Tell of a keyring that leads nowhere from ours: another past's, or nobody's."""
        held = self._identity.keyring.number
        with contextlib.suppress(RejectedUpdate):
            shown = read_keyring(raw, self._roots)
            known = self._ever.get(shown.number)
            is_another = known != shown.sha256 and (known or shown.number > held)
            if is_another and not self._known_keys.issuperset(one.key_id for one in shown.keys):
                self._say(
                    "keyring-forked", f"a root of an earlier keyring signed another {shown.number}", now
                )
            return
        with contextlib.suppress(RejectedUpdate):
            if is_evidence and (shown := installed_keyring(raw)).number > held:
                detail = f"a worker shows keyring {shown.number} of generation {shown.generation}"
                self._say("keyring-unknown", detail, now)

    def _say(self, name: str, detail: str, now: float) -> None:
        self._told_at[name] = now
        self._findings.open(name, KEYRING, detail, self._now_text())

    def _send_again(self, topic: str, now: float, seconds: float) -> None:
        self._sent.discard(topic)
        self._not_before[topic] = (now + seconds, max(seconds, BACKOFF_FIRST_SECONDS / 2))
