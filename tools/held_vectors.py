"""The conformance suite's configs and beacons for readers who hold a keyring, and the verdict owed to each.

Laws: verdicts are written from the protocol and never asked of our own reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from config_daemon.wire.sealing import canonical
from tools.beacon_vectors import BEACON_TOPIC, beacon, lit
from tools.keyring_messages import HELD, MOST, RETIRED, REVOKED, STAGED
from tools.wire_messages import HEALTH, HEALTH_TOPIC, IDS, Vector, bad, body_sha256, good, sealed, update


def _by(name: str, *, generation: int = 1, **members: Any) -> bytes:
    return sealed(update(key_id=IDS[name], generation=generation, **members), by=name)


def judged_under_keyrings() -> Iterator[Vector]:
    """Yield every vector about configs, beacons and health, judged by whoever took keyrings."""
    yield from _configs()
    yield from _beacons()


def _configs() -> Iterator[Vector]:
    """Config updates, judged by whoever took keyrings."""
    after = {"keys": (), "keyrings": (HELD,), "generation": 2}
    staged = {"keyrings": (STAGED,)}
    retired = {"keyrings": (STAGED, RETIRED)}
    revoked = {"keyrings": (STAGED, REVOKED), "generation": 2}
    yield good("staged-key", "signed by the key that a keyring brought", _by("beta"), **staged)
    yield good("staged-old-key", "signed by the key that was there before", _by("alpha"), **staged)
    yield good("after-retirement", "signed by the key that is left", _by("beta"), **retired)
    about = "after a revocation a low number is above the highest one of the generation before"
    low, floor = _by("beta", generation=2, sequence=7), (1, MOST, "00" * 32)
    yield good("after-revocation", about, low, floor=floor, **revoked)
    yield good(
        "installed-keyring", "the reader was given a keyring, not a key", _by("beta", generation=2), **after
    )
    health = sealed(canonical({**HEALTH, "key_id": IDS["beta"]}), by="beta", as_type="health")
    yield good(
        "staged-health",
        "a health message by the key that a keyring brought",
        health,
        topic=HEALTH_TOPIC,
        **staged,
    )

    yield bad(
        3,
        "bad-signature",
        "root-only",
        "signed by a root that may sign no configs",
        _by("delta", generation=2),
        **after,
    )
    yield bad(
        3, "bad-signature", "not-yet-staged", "signed by a key that the next keyring brings", _by("beta")
    )
    about = "signed by a revoked key that this reader never believed: nobody can tell whose it is"
    yield bad(3, "bad-signature", "revoked-unseen", about, _by("alpha", generation=2), **after)
    about = "signed by a stranger who names a revoked key"
    stranger = sealed(update(key_id=IDS["alpha"], generation=2), by="gamma")
    yield bad(3, "bad-signature", "stranger-as-revoked", about, stranger, **revoked)
    about = "signed by a key that was believed and then retired"
    yield bad(5, "wrong-key", "retired", about, _by("alpha", sequence=5000), **retired)
    about = "signed by a retired key that names the one that is left"
    yield bad(5, "wrong-key", "retired-as-other", about, sealed(update(key_id=IDS["beta"])), **retired)
    about = "signed by one listed key, naming another listed one"
    yield bad(5, "wrong-key", "staged-as-other", about, sealed(by="beta"), **staged)
    about = "signed by a key that was believed and then revoked"
    yield bad(5, "revoked-key", "", about, _by("alpha", sequence=MOST), **revoked)
    about = "signed by a revoked key, of the generation that revoked it"
    yield bad(5, "revoked-key", "same-generation", about, _by("alpha", generation=2), **revoked)
    yield bad(
        8,
        "rollback",
        "after-revocation",
        "by a key that is listed, of the generation before",
        _by("beta", sequence=MOST),
        **revoked,
    )
    yield bad(
        8,
        "keyring-behind",
        "staged",
        "by a key that is listed, of the generation after",
        _by("beta", generation=2),
        **staged,
    )


def _beacons() -> Iterator[Vector]:
    """Beacons, judged by whoever took keyrings."""

    def by(name: str, **members: Any) -> bytes:
        return lit(beacon(key_id=IDS[name], **members), by=name)

    where = {"topic": BEACON_TOPIC, "keyrings": (STAGED,)}
    held = [5, body_sha256(HELD)]
    about = "a beacon by the key that a keyring brought, naming this keyring"
    yield good("beacon-staged-key", about, by("beta", keyring=[1, body_sha256(STAGED)]), **where)
    yield bad(
        8,
        "keyring-behind",
        "beacon-staged",
        "a beacon of the generation after",
        by("beta", generation=2),
        **where,
    )
    where["keyrings"] = (STAGED, RETIRED)
    yield bad(5, "wrong-key", "beacon-retired", "a beacon by a retired key", by("alpha"), **where)
    where |= {"keyrings": (STAGED, REVOKED), "generation": 2}
    yield bad(5, "revoked-key", "beacon", "a beacon by a revoked key", by("alpha", generation=2), **where)
    yield bad(
        8, "rollback", "beacon-after-revocation", "a beacon of the generation before", by("beta"), **where
    )
    where |= {"keys": (), "keyrings": (HELD,)}
    about = "a beacon that names the keyring held by number and body digest"
    yield good("beacon-keyring", about, by("beta", generation=2, keyring=held), **where)
    about = "a beacon by a root that may sign no beacons"
    yield bad(3, "bad-signature", "beacon-root-only", about, by("delta", generation=2), **where)
