"""A worker and its keyring: what it takes and when, what it says and shows, and what runs meanwhile."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from nacl.signing import SigningKey

from config_daemon.wire.beacon import BEACON, Beacon, Numbered, beacon_body
from config_daemon.wire.keyring import (
    CONFIG,
    KEYRING,
    ROOT,
    Keyring,
    KeyringBody,
    ListedKey,
    Revocation,
    installed_keyring,
    of_key,
    seal_keyring,
)
from config_daemon.wire.keys import key_id
from config_daemon.wire.messages import timestamp
from config_daemon.wire.sealing import seal
from config_daemon.worker.follow import FirstUse, Follower, OnRevoked
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.report import Report
from config_daemon.worker.trust import Trust
from tests.worker.full_disk import full_disk
from tests.worker.updates import SERVICE, TOPIC, TOPICS, update

NOW_MS = 1_767_323_045_678  # 2026-01-02T03:04:05.678Z
OLD, NEW, OTHER, OFFLINE, STRANGER = (SigningKey(bytes([seed]) * 32) for seed in (11, 12, 13, 14, 15))
BOTH, MAY_SIGN, IS_ROOT = (ROOT, CONFIG), (CONFIG,), (ROOT,)
MOST = (1 << 53) - 1
NEWEST, EVIDENCE = TOPICS.keyring, TOPICS.keyring_evidence("edge")


def name_of(key: SigningKey) -> str:
    return key_id(bytes(key.verify_key))


def ring(
    number: int,
    *keys: tuple[SigningKey, Sequence[str]],
    by: SigningKey = OLD,
    generation: int = 1,
    revoked: Sequence[SigningKey] = (),
    reason: str = "",
) -> bytes:
    body = KeyringBody(
        version=1,
        number=number,
        generation=generation,
        issued_at=timestamp(NOW_MS),
        keys=[
            ListedKey(key_id=name_of(key), public_key=bytes(key.verify_key).hex(), roles=list(roles))
            for key, roles in keys
        ],
        revoked=[Revocation(key_id=name_of(key), at=timestamp(NOW_MS), reason=reason) for key in revoked],
    )
    return seal_keyring(body, by)


STAGED = ring(1, (OLD, BOTH), (NEW, MAY_SIGN))
RETIRED = ring(2, (OLD, IS_ROOT), (NEW, MAY_SIGN))
REVOKED = ring(3, (NEW, BOTH), generation=2, revoked=[OLD])


class Edge:
    """One life of a worker's process that follows one service and holds a keyring."""

    def __init__(
        self,
        folder: Path,
        anchor: Keyring | None = None,
        *,
        on_revoked: OnRevoked = "keep",
        first_use: FirstUse = "run",
    ) -> None:
        self.folder = folder
        self.reports: list[Report] = []
        self.applied: list[Any] = []
        self.shown: list[tuple[str, bytes]] = []
        self.seconds = 0.0
        self.trust = Trust(anchor or of_key(OLD.verify_key), [SERVICE], TOPICS)
        self.keep = Keep(folder, self.trust.anchor)
        lookout = Lookout(
            self.trust,
            [SERVICE],
            TOPICS,
            "edge",
            lambda *what: self.shown.append(what),
            clock=lambda: self.seconds,
            calendar=lambda: NOW_MS + round(1000 * self.seconds),
        )
        self.follower = Follower(
            self.trust,
            self.keep,
            [SERVICE],
            TOPICS,
            apply=lambda handed: self.applied.append(handed.values),
            report=self.reports.append,
            lookout=lookout,
            first_use=first_use,
            on_revoked=on_revoked,
        )

    def start(self) -> Self:
        self.follower.start()
        return self

    def next_life(self, anchor: Keyring | None = None, **how: Any) -> Edge:
        return Edge(self.folder, anchor, **how).start()

    def take(self, raw: bytes, topic: str = NEWEST) -> bool:
        """Show a keyring; tell whether everything is wanted again."""
        return not self.follower.receive(topic, raw)

    def get(self, raw: bytes) -> Report:
        """Deliver a config, and return what was said of it."""
        self.follower.receive(TOPIC, raw)
        return self.reports[-1]

    def hear(
        self,
        sequence: int,
        keyring: tuple[int, str] | None = None,
        key: SigningKey = OLD,
        services: dict[str, Numbered] | None = None,
    ) -> bool:
        """Deliver a beacon that was sealed now; tell whether everything is wanted again."""
        body = beacon_body(
            Beacon(
                version=1,
                generation=self.trust.keyring.generation,
                sequence=sequence,
                issued_at=timestamp(NOW_MS + round(1000 * self.seconds)),
                key_id=name_of(key),
                keyring=Numbered(*keyring) if keyring else None,
                services=services or {},
            )
        )
        return not self.follower.receive(TOPICS.beacon, seal(body, BEACON, key))

    @property
    def holds(self) -> tuple[int, int]:
        return self.trust.keyring.number, self.trust.keyring.generation

    @property
    def flags(self) -> tuple[str, ...]:
        """What was said last of the service."""
        return next(one.flags for one in reversed(self.reports) if one.service == SERVICE)

    def flags_of_loss(self) -> tuple[str, ...]:
        self.get(b"")
        return tuple(flag for flag in self.flags if flag == "floor-lost")

    @property
    def said(self) -> list[tuple[int | None, str, str | None]]:
        """What was said of the keyring: number, state, reason."""
        return [(one.sequence, one.state, one.reason) for one in self.reports if one.service == KEYRING]

    @property
    def state_file(self) -> Path:
        return self.folder / "keyring.state"


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    """Return a started worker that was given one public key."""
    return Edge(tmp_path / "state").start()


# taken, kept, believed ----------------------------------------------------------------------------


def test_a_keyring_is_taken_told_and_everything_is_wanted_again(edge: Edge) -> None:
    assert edge.take(STAGED)
    assert (edge.holds, edge.said) == ((1, 1), [(1, "applied", None)])
    assert edge.get(update(1, key=NEW)).state == "applied"
    assert edge.get(update(2, key=OLD)).state == "applied"
    assert not edge.take(STAGED), "nobody has to bring again what is held"
    assert edge.said == [(1, "applied", None)]


def test_it_is_on_disk_before_it_is_believed(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, tuple[int, int], int]] = []
    save, hold = edge.keep.save_keyring, edge.trust.hold

    def saving(*what: Any) -> None:
        save(*what)
        order.append(("kept", edge.holds, installed_keyring(edge.keep.load_keyring().raw or b"").number))

    def holding(*what: Any) -> None:
        order.append(("believed", edge.holds, installed_keyring(edge.keep.load_keyring().raw or b"").number))
        hold(*what)

    monkeypatch.setattr(edge.keep, "save_keyring", saving)
    monkeypatch.setattr(edge.trust, "hold", holding)
    edge.take(STAGED)
    assert order == [("kept", (0, 1), 1), ("believed", (0, 1), 1)]


def test_a_full_disk_believes_nothing_and_has_it_come_again(edge: Edge) -> None:
    with full_disk():
        for _ in range(2):
            assert edge.take(STAGED), "it must come again"
            assert (edge.holds, edge.said[-1]) == ((0, 1), (1, "held", None))
            assert edge.reports[-1].errors[0].error_code == "CANNOT_KEEP"
            assert edge.get(update(1, key=NEW)).reason == "bad-signature"
    assert edge.next_life().holds == (0, 1)
    assert edge.take(STAGED)
    assert edge.holds == edge.next_life().holds == (1, 1)


def test_it_survives_restarts_one_after_the_other(edge: Edge) -> None:
    for raw in (STAGED, RETIRED, REVOKED):
        edge.take(raw)
        edge = edge.next_life()
        assert edge.trust.keyring.raw == raw
    assert edge.next_life().holds == (3, 2)
    assert edge.take(RETIRED) is False
    assert edge.holds == (3, 2)


def test_a_keyring_that_an_earlier_root_signed_survives_a_restart(edge: Edge) -> None:
    """It does not list the root that signed it, so its own keys cannot vouch for it."""
    handed_over = ring(4, (NEW, BOTH), generation=2, revoked=[OLD])
    edge.take(handed_over)
    life = edge.next_life()
    assert (life.holds, life.flags_of_loss()) == ((4, 2), ())
    assert life.get(update(1, key=OLD)).reason == "revoked-key"


def test_a_damaged_file_means_the_anchor_again_and_is_told(edge: Edge) -> None:
    edge.take(STAGED)
    edge.get(update(5, key=NEW))
    content = bytearray(edge.state_file.read_bytes())
    content[100] ^= 1
    edge.state_file.write_bytes(content)
    life = edge.next_life()
    assert (life.holds, life.applied) == ((0, 1), [{"number": 5}])
    assert set(life.flags) == {"floor-lost", "stale"}, "what runs was signed by a key that the anchor lacks"
    assert life.state_file.with_suffix(".damaged").read_bytes() == content
    assert life.take(STAGED)
    assert life.holds == life.next_life().holds == (1, 1)
    assert life.get(update(5, key=NEW)).state == "held", "the floor was in a file of its own"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"not a digest\n{}",
        b"[]",
        b"{}",
        b'{"anchor":%s,"keyring":null,"past":[]}',
        b'{"anchor":%s,"keyring":"","past":[]}',
        b'{"anchor":%s,"keyring":"\\ud800","past":[]}',
        b'{"anchor":%s,"keyring":"{}","past":["zz"]}',
        b'{"anchor":%s,"keyring":"{}","past":["00"]}',
        b'{"anchor":%s,"keyring":"{}","past":7}',
        b'{"anchor":%s,"keyring":"' + b"[" * 100_000 + b'","past":[]}',
        b'{"anchor":%s,"keyring":"KEYRING","past":["' + b"00" * 32 + b'"]}',
    ],
)
def test_no_content_of_the_file_stops_a_start(edge: Edge, content: bytes) -> None:
    good = STAGED.replace(b'"', b'\\"')
    content = content.replace(b"%s", b'"%s"' % edge.trust.anchor.encode()).replace(b"KEYRING", good)
    whole = content if b"\n" in content else hashlib.sha256(content).hexdigest().encode() + b"\n" + content
    edge.state_file.write_bytes(whole)
    life = edge.next_life()
    assert life.holds == (0, 1)
    life.get(update(1, key=OLD))
    assert life.flags == ("unconfirmed", "floor-lost")


def test_another_anchor_knows_nothing_of_it(edge: Edge) -> None:
    edge.take(STAGED)
    other = edge.next_life(of_key(OTHER.verify_key))
    assert (other.holds, other.flags_of_loss()) == ((0, 1), ())
    assert other.get(update(1, key=NEW)).reason == "bad-signature"
    assert not other.take(RETIRED)
    assert other.holds == (0, 1)


def test_a_newer_keyring_that_was_installed_wins_over_an_older_one_that_was_kept(edge: Edge) -> None:
    edge.take(STAGED)
    installed = ring(7, (OLD, BOTH), (OTHER, MAY_SIGN))
    life = edge.next_life(installed_keyring(installed))
    assert life.holds == (7, 1)
    assert life.get(update(1, key=NEW)).reason == "wrong-key", (
        "believed once, and retired by what was installed"
    )


def test_an_older_keyring_that_was_installed_does_not_win_over_a_newer_one_that_was_kept(edge: Edge) -> None:
    life = edge.next_life(installed_keyring(STAGED))
    life.take(RETIRED)
    assert edge.next_life(installed_keyring(STAGED)).holds == (2, 1)


@pytest.mark.parametrize(
    "kept",
    [ring(4, (OLD, BOTH), (OTHER, MAY_SIGN)), ring(4, (OLD, BOTH), revoked=[NEW])],
    ids=["less", "other"],
)
def test_what_an_installed_keyring_revokes_is_not_believed_by_way_of_a_kept_one(
    edge: Edge, kept: bytes
) -> None:
    """Two roots that know nothing of each other: a person chose one of the two ways, by hand."""
    edge.take(kept)
    installed = ring(3, (OLD, BOTH), generation=2, revoked=[OTHER])
    life = edge.next_life(installed_keyring(installed))
    assert life.holds == (3, 2)
    assert life.get(update(1, key=OTHER)).reason in ("revoked-key", "bad-signature")
    assert not life.take(kept)
    merged = ring(5, (OLD, BOTH), generation=2, revoked=[OTHER, NEW])
    assert life.take(merged)
    assert edge.next_life(installed_keyring(installed)).holds == (5, 2)


def test_the_same_number_installed_and_kept_with_other_bytes_is_what_a_person_installed(edge: Edge) -> None:
    edge.take(RETIRED)
    installed = ring(2, (OLD, BOTH), (OTHER, MAY_SIGN))
    assert edge.next_life(installed_keyring(installed)).trust.keyring.raw == installed


def test_nothing_is_taken_before_start_which_knows_what_was_taken_last(edge: Edge) -> None:
    edge.take(STAGED)
    edge.take(RETIRED)
    early = Edge(edge.folder)
    with pytest.raises(RuntimeError):
        early.take(STAGED)
    assert early.start().holds == (2, 1)


# refused ------------------------------------------------------------------------------------------

REFUSALS = {
    "wiped": b"",
    "bad-tail": REVOKED + b"\n",
    "bad-signature": ring(9, (OLD, BOTH), by=STRANGER),
    "revoked-key": ring(9, (NEW, BOTH), (OLD, MAY_SIGN), by=NEW, generation=2, revoked=[OLD]),
    "fork": ring(3, (NEW, BOTH), by=NEW, generation=2, revoked=[OLD], reason="another"),
    "rollback": ring(2, (NEW, BOTH), by=NEW, generation=2, revoked=[OLD]),
    "unrevoked": ring(9, (NEW, BOTH), by=NEW, generation=2),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_on_the_main_topic_is_told_by_name_and_answered_with_what_is_held(
    edge: Edge, reason: str
) -> None:
    edge.take(REVOKED)
    kept = edge.state_file.read_bytes()
    assert not edge.take(REFUSALS[reason]), "it may be refused for ever: it is not asked for again"
    assert (edge.said[-1], edge.shown) == ((None, "rejected", reason), [(EVIDENCE, REVOKED)])
    assert (edge.holds, edge.state_file.read_bytes()) == ((3, 2), kept)


def test_evidence_is_shown_at_most_once_a_minute_whatever_comes(edge: Edge) -> None:
    edge.take(REVOKED)
    for second in range(180):
        edge.seconds = float(second)
        for raw in REFUSALS.values():
            edge.take(raw)
    assert edge.shown == [(EVIDENCE, REVOKED)] * 3
    assert len(edge.said) == 1 + 180 * len(REFUSALS)


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_on_the_topic_of_a_number_is_no_news(edge: Edge, reason: str) -> None:
    edge.take(REVOKED)
    for place in ("2", "3", "9", "x", ""):
        assert not edge.take(REFUSALS[reason], f"{NEWEST}/{place}")
    assert (edge.said, edge.shown, edge.holds) == ([(3, "applied", None)], [], (3, 2))


def test_a_worker_that_holds_one_public_key_has_nothing_to_show(edge: Edge) -> None:
    for raw in REFUSALS.values():
        edge.take(raw if raw != REFUSALS["bad-tail"] else b"{}")
    assert edge.holds == (0, 1)
    for sequence in range(100, 104):
        edge.hear(sequence, (0, "0" * 64))
    assert edge.shown == []


def test_who_slept_walks_from_root_to_root_in_whatever_order_they_come(tmp_path: Path) -> None:
    chain = {
        1: ring(1, (OLD, BOTH), (NEW, BOTH)),
        4: ring(4, (NEW, BOTH), (OFFLINE, IS_ROOT), by=NEW),
        6: ring(6, (NEW, MAY_SIGN), (OFFLINE, IS_ROOT), by=OFFLINE),
        9: ring(9, (OTHER, MAY_SIGN), (OFFLINE, IS_ROOT), by=OFFLINE),
    }
    shown = [(f"{NEWEST}/{number}", raw) for number, raw in chain.items()] + [(NEWEST, chain[9])]
    for turn, order in enumerate(itertools.permutations(shown)):
        edge = Edge(tmp_path / str(turn)).start()
        rounds = 0
        while True in [edge.take(raw, topic) for topic, raw in order]:
            rounds += 1
        assert (edge.holds[0], rounds <= len(chain)) == (9, True)
        numbers = [number for number, state, _ in edge.said if state == "applied"]
        assert numbers == sorted(set(numbers)) and numbers[-1] == 9


# what configs meet --------------------------------------------------------------------------------


def test_what_came_before_its_keyring_is_taken_when_it_comes_again(edge: Edge) -> None:
    later = update(7, key=NEW, generation=2)
    assert edge.get(later).reason == "bad-signature"
    assert edge.take(REVOKED), "the config must come again"
    assert edge.get(later).state == "applied"


def test_a_config_of_the_generation_after_has_everything_come_again(edge: Edge) -> None:
    edge.take(STAGED)
    raw = update(7, key=NEW, generation=2)
    for _ in range(3):
        assert not edge.follower.receive(TOPIC, raw)
        assert edge.reports[-1].reason == "keyring-behind"
    edge.take(REVOKED)
    assert edge.get(raw).state == "applied"


def test_a_thiefs_highest_number_is_passed_by_the_next_generation(edge: Edge) -> None:
    edge.take(STAGED)
    assert edge.get(update(MOST, {"mine": 1}, key=OLD)).state == "applied"
    assert edge.get(update(8, key=NEW)).reason == "rollback"
    edge.take(REVOKED)
    assert edge.get(update(8, key=NEW, generation=2)).state == "applied"
    assert edge.applied[-1] == {"number": 8}
    for raw in (update(MOST, {"mine": 1}, key=OLD), update(MOST, {"mine": 1}, key=OLD, generation=2)):
        assert edge.get(raw).reason == "revoked-key"
        assert edge.next_life().get(raw).reason == "revoked-key"
    assert edge.get(update(MOST, {"mine": 1}, key=NEW)).reason == "rollback"


def test_a_thiefs_highest_beacon_is_passed_by_the_next_generation(edge: Edge) -> None:
    edge.take(STAGED)
    edge.get(update(5, key=NEW))
    edge.hear(MOST)
    edge.take(REVOKED)
    edge.seconds = 91.0
    edge.follower.tick()
    assert "stale" in edge.flags
    edge.get(raw := update(7, key=NEW, generation=2))
    edge.hear(8, (3, edge.trust.keyring.sha256), NEW, {SERVICE: Numbered(7, digest(raw))})
    assert edge.flags == ()


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw[:-104] + b"}").hexdigest()


@pytest.mark.parametrize(("last", "reason"), [(RETIRED, "wrong-key"), (REVOKED, "revoked-key")])
def test_a_message_by_a_key_that_was_believed_is_refused_by_name_also_after_a_restart(
    edge: Edge, last: bytes, reason: str
) -> None:
    edge.take(STAGED)
    edge.take(last)
    for life in (edge, edge.next_life(), edge.next_life().next_life()):
        assert life.get(update(MOST, key=OLD)).reason == reason
        assert life.get(update(1, key=STRANGER)).reason == "bad-signature"
    assert not edge.hear(50), "nor is a beacon by it heard"


def test_the_last_four_keys_are_remembered_also_after_a_restart(edge: Edge) -> None:
    keys = [OLD, *(SigningKey(bytes([seed]) * 32) for seed in range(30, 36))]
    for number, key in enumerate(keys[1:], start=1):
        edge.take(ring(number, (OLD, IS_ROOT), (key, MAY_SIGN)))
    for life in (edge, edge.next_life(), edge.next_life().next_life()):
        reasons = [life.get(update(99, key=key)).reason for key in keys[1:]]
        assert reasons == ["bad-signature"] + ["wrong-key"] * 4 + [None]


# what runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "flag"), [(RETIRED, "stale"), (REVOKED, "revoked-signer")])
def test_what_runs_goes_on_flagged_when_its_signer_goes_until_the_next_config(
    edge: Edge, last: bytes, flag: str
) -> None:
    edge.take(STAGED)
    edge.get(update(5, key=OLD))
    edge.hear(50, (1, edge.trust.keyring.sha256), services={SERVICE: Numbered(5, digest(update(5, key=OLD)))})
    assert edge.flags == ()
    edge.take(last)
    assert edge.flags == (flag,), "told at once, and not only with the next config"
    assert edge.applied == [{"number": 5}]
    life = edge.next_life()
    assert (life.applied, life.flags) == ([{"number": 5}], (flag,))
    for one in (edge, life):
        generation = one.holds[1]
        one.get(update(6, key=NEW, generation=generation))
        assert flag not in one.flags
    assert edge.next_life().flags == ()


def test_a_reseal_of_the_same_values_by_the_new_key_ends_the_flag(edge: Edge) -> None:
    edge.take(STAGED)
    edge.get(update(5, {"a": 1}, key=OLD))
    edge.take(REVOKED)
    assert "revoked-signer" in edge.flags
    assert edge.get(update(6, {"a": 1}, key=NEW, generation=2)).flags == ("unconfirmed",)
    assert edge.applied == [{"a": 1}]


def test_a_program_may_rather_not_start_than_run_what_a_revoked_key_signed(edge: Edge) -> None:
    edge.take(STAGED)
    edge.get(update(5, key=OLD))
    edge.take(REVOKED)
    assert edge.applied == [{"number": 5}], "what runs is not stopped"
    careful = edge.next_life(on_revoked="refuse-start")
    assert (careful.applied, careful.reports[-1].state, careful.reports[-1].reason) == (
        [],
        "rejected",
        "revoked-key",
    )
    assert careful.get(update(5, key=OLD)).reason == "revoked-key"
    assert careful.get(update(6, key=NEW, generation=2)).state == "applied"
    assert edge.next_life(on_revoked="refuse-start").applied == [{"number": 6}]


def test_a_retired_signer_is_no_reason_not_to_start(edge: Edge) -> None:
    edge.take(STAGED)
    edge.get(update(5, key=OLD))
    edge.take(RETIRED)
    assert edge.next_life(on_revoked="refuse-start").applied == [{"number": 5}]


# what beacons say ---------------------------------------------------------------------------------


def test_a_beacon_that_lists_a_later_keyring_twice_is_told_and_asked_for_once(edge: Edge) -> None:
    edge.take(STAGED)
    edge.get(update(5, key=OLD))
    current = {SERVICE: Numbered(5, digest(update(5, key=OLD)))}
    assert not edge.hear(50, (2, "ab" * 32), services=current)
    assert "frozen" not in edge.flags
    assert edge.hear(51, (2, "ab" * 32), services=current)
    assert edge.flags == ("frozen",)
    assert [edge.hear(number, (2, "ab" * 32), services=current) for number in range(52, 60)] == [False] * 8
    assert edge.shown == []
    edge.take(RETIRED)
    edge.hear(60, (2, edge.trust.keyring.sha256), NEW, current)
    assert "frozen" not in edge.flags


@pytest.mark.parametrize(
    "listed", [(0, "0" * 64), (1, "ab" * 32), (2, "ab" * 32)], ids=["0", "lower", "other"]
)
def test_a_beacon_that_lists_less_or_another_one_twice_is_answered(
    edge: Edge, listed: tuple[int, str]
) -> None:
    edge.take(STAGED)
    edge.take(RETIRED)
    assert not edge.hear(50, listed, NEW)
    assert edge.shown == []
    for number in range(51, 61):
        assert not edge.hear(number, listed, NEW)
    assert edge.shown == [(EVIDENCE, RETIRED)]
    edge.seconds = 61.0
    edge.hear(70, listed, NEW)
    assert edge.shown == [(EVIDENCE, RETIRED)] * 2


def test_a_beacon_that_names_the_keyring_held_or_none_is_no_news(edge: Edge) -> None:
    assert not any(edge.hear(number, (0, edge.trust.keyring.sha256)) for number in range(50, 55))
    edge.take(STAGED)
    assert not any(edge.hear(number, (1, edge.trust.keyring.sha256)) for number in range(60, 65))
    assert not any(edge.hear(number) for number in range(70, 75))
    assert edge.shown == []


# everything that was ever said --------------------------------------------------------------------


def test_no_order_of_everything_ever_published_leads_back(tmp_path: Path) -> None:
    """Whoever owns the broker has every keyring, those of a fork included, and a worker that restarts at will."""
    rings = [
        STAGED,
        RETIRED,
        REVOKED,
        ring(3, (OLD, BOTH), (OTHER, MAY_SIGN)),
        ring(4, (NEW, BOTH), (OTHER, MAY_SIGN), by=NEW, generation=2, revoked=[OLD]),
        ring(5, (NEW, BOTH), by=NEW, generation=3, revoked=[OLD, OTHER]),
    ]
    for turn, order in enumerate(itertools.permutations(rings, 4)):
        edge = Edge(tmp_path / str(turn)).start()
        for step, raw in enumerate(order):
            before = edge.trust.keyring
            edge.take(raw, NEWEST if step % 2 else f"{NEWEST}/7")
            after = edge.trust.keyring
            assert (after.number, after.generation) >= (before.number, before.generation)
            assert after.generation >= before.generation
            assert after.revoked.keys() >= before.revoked.keys()
            assert not after.revoked.keys() & {one.key_id for one in after.keys}
            if turn % 3 == step % 3:
                edge = edge.next_life()
                assert edge.trust.keyring == after
