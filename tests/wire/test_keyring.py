"""A keyring: what it lists and revokes, who may sign it, and that no sequence of them leads back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_daemon.errors import RejectedUpdate
from config_daemon.wire import keyring
from config_daemon.wire.keyring import (
    CONFIG,
    MAX_CONFIG_KEYS,
    MAX_KEYS,
    ROOT,
    Keyring,
    KeyringBody,
    follow,
    installed_keyring,
    kept_keyring,
    of_key,
    read_keyring,
    seal_keyring,
)
from config_daemon.wire.messages import parse_update
from config_daemon.wire.sealing import canonical, seal
from config_daemon.wire.tail import TAIL_BYTES
from tools.keyring_messages import BOTH, HELD, OFFLINE, gone, later, listed, ring, signed
from tools.wire_messages import IDS, KEYS, PUBLIC, SEALED_AT

ALPHA = KEYS["alpha"].verify_key
ZERO = of_key(ALPHA)


def refusal(act: Callable[..., object], *what: Any) -> tuple[int, str]:
    with pytest.raises(RejectedUpdate) as refused:
        act(*what)
    return refused.value.step, refused.value.reason


# what one says ------------------------------------------------------------------------------------


def test_a_keyring_says_who_may_sign_what() -> None:
    held = installed_keyring(HELD)
    assert (held.number, held.generation, held.issued_at, held.raw) == (5, 2, SEALED_AT, HELD)
    assert held.root_ids == {IDS["delta"], IDS["epsilon"]}
    assert [bytes(key).hex() for key in held.roots] == [PUBLIC["delta"], PUBLIC["epsilon"]]
    assert (held.config_ids, [bytes(key).hex() for key in held.config_keys]) == (
        {IDS["beta"]},
        [PUBLIC["beta"]],
    )
    assert held.revoked[IDS["alpha"]].reason == "a laptop was stolen"


def test_one_public_key_is_a_keyring_that_has_no_bytes() -> None:
    assert (ZERO.number, ZERO.generation, ZERO.raw, ZERO.revoked) == (0, 1, b"", {})
    assert ZERO.root_ids == ZERO.config_ids == {IDS["alpha"]}
    assert refusal(follow, ZERO, b"") == (1, "wiped")


def test_the_next_keyring_can_be_made_from_what_one_says() -> None:
    unknown = ring(
        keys=[listed("alpha", *BOTH, "audit", zone=1), listed("beta", CONFIG)], revoked=[gone("gamma")]
    )
    for held in (installed_keyring(HELD), installed_keyring(signed(unknown))):
        again = read_keyring(seal_keyring(held.body, KEYS["alpha"]), [ALPHA])
        assert (again.number, again.generation, again.revoked) == (held.number, held.generation, held.revoked)
        assert [(one.key_id, one.roles) for one in again.keys] == [
            (one.key_id, one.roles) for one in held.keys
        ]
    first = ZERO.body.model_copy(update={"number": 1, "issued_at": SEALED_AT})
    assert follow(ZERO, seal_keyring(first, KEYS["alpha"])).config_ids == ZERO.config_ids


def test_an_anchor_is_named_by_its_roots_and_by_nothing_else() -> None:
    assert ZERO.anchor == IDS["alpha"]
    only = installed_keyring(
        signed(ring(7, generation=3, keys=[listed("beta", CONFIG), listed("alpha", ROOT)]))
    )
    assert only.anchor == IDS["alpha"], "the key and the keyring that it is the root of are one anchor"
    names = ("alpha", "beta", "gamma")
    anchors = set()
    for count in range(1, 4):
        for roots in itertools.combinations(names, count):
            keys = [listed(name, ROOT) for name in roots] + [listed("delta", CONFIG)]
            one, turned = (
                installed_keyring(signed(ring(keys=order), by=roots[0])) for order in (keys, keys[::-1])
            )
            assert one.anchor == turned.anchor
            anchors.add(one.anchor)
    assert len(anchors) == 7


def test_the_digest_is_that_of_the_body_as_it_stands() -> None:
    loose = signed(ring().replace(b'":', b'": '))
    assert read_keyring(loose, [ALPHA]).sha256 != read_keyring(signed(), [ALPHA]).sha256


# who may say it -----------------------------------------------------------------------------------


def test_what_a_person_installs_vouches_for_itself() -> None:
    assert installed_keyring(HELD).number == 5
    assert refusal(installed_keyring, signed(_body(HELD), by="beta")) == (3, "bad-signature")
    assert refusal(installed_keyring, signed(_body(HELD), by="alpha")) == (3, "bad-signature")
    assert refusal(installed_keyring, HELD + b"\n") == (2, "bad-tail")
    assert refusal(installed_keyring, b"") == (1, "wiped")
    assert refusal(installed_keyring, PUBLIC["alpha"].encode()) == (2, "bad-tail")


def test_what_was_kept_is_read_without_its_signer() -> None:
    handed = signed(ring(keys=[listed("beta", *BOTH)]))
    assert kept_keyring(handed).config_ids == {IDS["beta"]}
    assert refusal(installed_keyring, handed) == (3, "bad-signature")
    assert refusal(kept_keyring, signed(ring(0))) == (4, "bad-json")


def test_any_root_signs_alone_and_no_other_key_does() -> None:
    held = installed_keyring(HELD)
    assert {name: _outcome(held, later(by=name)) for name in KEYS} == {
        "alpha": "bad-signature", "beta": "bad-signature", "gamma": "bad-signature", "delta": 6, "epsilon": 6
    }  # fmt: skip


def test_without_roots_nothing_is_believed() -> None:
    assert refusal(read_keyring, signed(), []) == (3, "bad-signature")


@pytest.mark.parametrize("body_type", ["config-update", "beacon", "health", "keyrings", ""])
def test_no_other_type_passes_for_a_keyring(body_type: str) -> None:
    assert refusal(follow, ZERO, signed(as_type=body_type)) == (3, "bad-signature")


def test_a_keyrings_body_under_a_configs_type_is_no_config() -> None:
    assert refusal(parse_update, ring()) == (4, "bad-json")


# limits -------------------------------------------------------------------------------------------


def _keys(count: int, *roles: str) -> list[dict[str, Any]]:
    return [listed(f"one of many, {number}", *roles) for number in range(count)]


def test_the_limits_are_the_last_that_are_taken() -> None:
    alpha = listed("alpha", *BOTH)
    full = [alpha, *_keys(MAX_CONFIG_KEYS - 1, CONFIG)]
    full += [listed(f"offline {n}", ROOT) for n in range(MAX_KEYS - len(full))]
    assert len(follow(ZERO, signed(ring(keys=full))).keys) == MAX_KEYS
    for keys in (
        [*full, listed("beta")],
        [alpha, *_keys(MAX_CONFIG_KEYS, CONFIG)],
        _keys(1, CONFIG),
        [],
        _keys(1, ROOT),
    ):
        assert refusal(follow, ZERO, signed(ring(keys=keys))) == (4, "bad-json")


def test_thousands_of_keys_are_refused_before_any_of_them_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyring, "verify_key", lambda _: pytest.fail("this takes 50 microseconds for each"))
    many = [{"key_id": f"{n:032x}", "public_key": f"{n:064x}", "roles": ["config"]} for n in range(4_000)]
    assert refusal(follow, ZERO, signed(ring(keys=many))) == (4, "bad-json")


def test_a_thousand_revocations_are_no_trouble() -> None:
    many = [gone("gamma", key_id=f"{number:032x}", reason="ü" * 200) for number in range(1_000)]
    assert len(follow(ZERO, signed(ring(revoked=many))).revoked) == 1_000


def test_a_day_that_no_calendar_has_is_still_a_keyring() -> None:
    """Only its form is checked: whoever reckons with it must not trust that there is such a day."""
    assert follow(ZERO, signed(ring(issued_at="2026-02-31T25:61:61.000Z"))).number == 1


# one after the other ------------------------------------------------------------------------------


def test_the_bytes_that_are_held_are_known_whoever_signed_them() -> None:
    handed = signed(ring(keys=[listed("beta", *BOTH)]))
    held = follow(ZERO, handed)
    assert follow(held, handed) is held


def _body(raw: bytes) -> bytes:
    return raw[:-TAIL_BYTES] + b"}"


def _outcome(held: Keyring, raw: bytes) -> int | str:
    try:
        return follow(held, raw).number
    except RejectedUpdate as refused:
        return refused.reason


NAMES = ("alpha", "beta", "gamma", "delta")
ROLES = st.sampled_from([(ROOT, CONFIG), (ROOT,), (CONFIG,), ()])
SHOWN = st.builds(
    lambda number, generation, roles, revoked, by: (number, generation, roles, revoked, by),
    st.integers(1, 5),
    st.integers(1, 3),
    st.dictionaries(st.sampled_from(NAMES), ROLES, min_size=1),
    st.sets(st.sampled_from(NAMES), max_size=2),
    st.sampled_from(NAMES),
)


def made(number: int, generation: int, roles: dict[str, Any], revoked: set[str], by: str) -> bytes:
    keys = [listed(name, *may) for name, may in roles.items()]
    return signed(
        ring(number, generation=generation, keys=keys, revoked=[gone(name) for name in sorted(revoked)]),
        by=by,
    )


@given(st.lists(SHOWN, max_size=12))
def test_no_sequence_of_keyrings_leads_back(shown: list[Any]) -> None:
    held, ever_revoked, seen = ZERO, set[str](), [ZERO]
    for one in shown:
        try:
            after = follow(held, made(*one))
        except RejectedUpdate:
            continue
        if after is not held:
            assert IDS[one[-1]] in held.root_ids, "a root of the one before signed it"
            assert after.number > held.number
        assert after.generation >= held.generation
        held = after
        ever_revoked |= held.revoked.keys()
        assert held.revoked.keys() == ever_revoked
        assert not ever_revoked & {key.key_id for key in held.keys}
        assert held.roots and 1 <= len(held.config_keys) <= MAX_CONFIG_KEYS
        for old in seen[:-1]:
            if old.raw:
                assert _outcome(held, old.raw) not in range(1, 6), "what was left behind never comes back"
        if held is not seen[-1]:
            seen.append(held)


@given(SHOWN, SHOWN)
def test_what_is_taken_is_exactly_what_the_rules_say(first: Any, second: Any) -> None:
    try:
        held = installed_keyring(made(*first))
    except RejectedUpdate:
        return
    number, generation, roles, revoked, by = second
    well_formed = (
        any(ROOT in may for may in roles.values())
        and any(CONFIG in may for may in roles.values())
        and not revoked & roles.keys()
    )
    raw = made(*second)
    if raw == held.raw:
        expected: int | str = held.number
    elif IDS[by] not in held.root_ids:
        expected = "bad-signature"
    elif not well_formed:
        expected = "bad-json" if not revoked & roles.keys() else _outcome(held, raw)
    elif number == held.number:
        expected = "fork"
    elif number < held.number or generation < held.generation:
        expected = "rollback"
    elif not held.revoked.keys() <= {IDS[name] for name in revoked}:
        expected = "unrevoked"
    else:
        expected = number
    assert _outcome(held, raw) == expected
    if not well_formed:
        assert expected in ("bad-signature", "bad-json", "revoked-key") or raw == held.raw


@given(
    st.binary(max_size=300)
    | st.binary(max_size=300).map(lambda raw: seal(b"{" + raw + b"}", "keyring", KEYS["alpha"]))
)
def test_no_bytes_do_anything_but_be_refused(raw: bytes) -> None:
    with pytest.raises(RejectedUpdate):
        follow(ZERO, raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from([*KeyringBody.model_fields, "keys.0", "revoked.0", "keys.0.roles", "keys.0.public_key"]),
    JSON,
)
def test_no_value_of_a_member_does_anything_but_be_refused_or_taken(place: str, value: Any) -> None:
    said: dict[str, Any] = {
        "generation": 1, "issued_at": SEALED_AT, "keys": [listed("alpha", *BOTH)], "number": 1,
        "revoked": [gone("gamma")], "version": 1,
    }  # fmt: skip
    target: Any = said
    *parents, last = place.split(".")
    for name in parents:
        target = target[int(name) if name.isdigit() else name]
    target[int(last) if last.isdigit() else last] = value
    try:
        raw = signed(canonical(said))
    except (ValueError, UnicodeEncodeError):
        return
    try:
        taken = follow(ZERO, raw)
    except RejectedUpdate as refused:
        assert refused.reason in ("bad-json", "unknown-version", "wrong-key")
    else:
        assert taken.config_ids == taken.root_ids == {IDS["alpha"]}


def test_a_worker_that_holds_offline_roots_is_led_on_by_either() -> None:
    held = installed_keyring(HELD)
    for number, by in enumerate(["delta", "epsilon"] * 3, start=6):
        held = follow(held, later(number, by=by))
    assert held.number == 11
    lost = follow(held, later(12, by="epsilon", keys=[OFFLINE[1], OFFLINE[2]]))
    assert _outcome(lost, later(13, by="delta")) == "bad-signature"
    assert _outcome(lost, later(13, by="epsilon", keys=[*OFFLINE[1:], listed("gamma", ROOT)])) == 13
