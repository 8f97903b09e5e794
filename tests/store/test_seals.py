"""What is noticed of a database that somebody, or a failing disk, altered behind our back."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from config_daemon.errors import InvalidConfig, NotAllowed, NotFound, StoreCorrupted
from config_daemon.store.ports import BadRow, Edit, Row, Tombstone
from config_daemon.store.seals import hkdf
from config_daemon.store.transaction import Rules, parse_stored
from tests.store.conftest import (
    EPOCH,
    MASTER_KEY,
    NOW,
    OTHER_EPOCH,
    SEALER,
    Store,
    as_it_is,
    codes,
    gone,
    merged,
)


def refused(store: Store, service: str = "stt-worker") -> StoreCorrupted:
    """Return the error of a change, and of a deletion, that would build upon an altered row."""
    before = store.content()
    for change in (merged(gain=9), gone):
        with pytest.raises(StoreCorrupted) as error:
            store.edit(service, change)
        assert store.content() == before
    return error.value


def plant(store: Store, text: Any, service: str = "stt-worker", epoch: str = EPOCH) -> None:
    """Put a row in place as only the holder of the master key can."""
    seal = SEALER.seal("service_configs", service, 1, epoch, text, NOW, "test")
    store.sql(
        "INSERT INTO service_configs VALUES (?,?,1,?,?,'test',?,?)",
        (service, text, epoch, NOW, seal, SEALER.key_id),
    )


def test_the_seal_is_the_documented_one(store: Store) -> None:
    store.set(gain=2, model="groß")
    row = store.sql("SELECT * FROM service_configs")[0]
    key = HKDF(hashes.SHA256(), 32, None, b"config-daemon row-seal v1").derive(MASTER_KEY)
    fields = ["service_configs", "stt-worker", 1, EPOCH, '{"gain":2,"model":"groß"}', NOW, "test"]
    body = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    kind = b"application/vnd.config-daemon.row.v1"
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)
    assert row[6] == hmac.new(key, message, hashlib.sha256).hexdigest()
    assert row[7] == SEALER.key_id


def test_a_key_derived_for_one_purpose_is_no_other() -> None:
    keys = {hkdf(MASTER_KEY, info) for info in (b"a", b"b", b"")}
    assert len(keys | {MASTER_KEY}) == 4
    assert hkdf(MASTER_KEY, b"a") == HKDF(hashes.SHA256(), 32, None, b"a").derive(MASTER_KEY)


def test_a_row_is_read_as_it_was_sealed(store: Store) -> None:
    store.set(gain=2)
    assert store.row() == Row("stt-worker", '{"gain":2}', 1, EPOCH, NOW, "test")


@pytest.mark.parametrize(
    "alteration",
    [
        "config_json = '{\"gain\":3}'",
        "config_json = '{\"gain\": 2}'",
        "config_json = ''",
        "config_json = 'not JSON'",
        "config_json = x'7b226761696e22ff3a327d'",
        "config_json = CAST(x'7b22ff223a327d' AS TEXT)",
        "version = 2",
        "version = 0",
        "version = -1",
        "version = 1.5",
        "version = 9223372036854775807",
        "version = 'one'",
        "version = CAST(x'ff' AS TEXT)",
        f"config_epoch = '{OTHER_EPOCH}'",
        "config_epoch = CAST(x'ff' AS TEXT)",
        "updated_at = '2026-01-02T03:04:05.679Z'",
        "updated_by = 'somebody'",
        "updated_by = NULL",
        "updated_by = CAST(x'ff' AS TEXT)",
        "row_seal = ''",
        "row_seal = upper(row_seal)",
        "row_seal = row_seal || ' '",
        "row_seal = x'00'",
        "row_seal = 'ä'",
    ],
)
def test_every_altered_column_is_noticed(store: Store, alteration: str) -> None:
    store.set(gain=2)
    store.set("router", gain=2)
    store.sql(f"UPDATE service_configs SET {alteration} WHERE service = 'stt-worker'")  # noqa: S608
    found = store.reader().read(["router", "stt-worker", "tts-worker"])
    assert isinstance(found["stt-worker"], BadRow)
    assert isinstance(found["router"], Row)  # one damaged row hides no other
    assert "config-daemon adopt stt-worker" in refused(store).suggestion


@pytest.mark.parametrize(
    "alteration",
    ["version = 1", "config_epoch = 'x'", "deleted_at = 'x'", "deleted_by = NULL", "row_seal = ''",
     "deleted_at = CAST(x'ff' AS TEXT)"],
)  # fmt: skip
def test_an_altered_tombstone_is_noticed(store: Store, alteration: str) -> None:
    store.set(gain=2)
    store.set(gain=3)
    store.delete()
    store.sql(f"UPDATE deleted_services SET {alteration}")  # noqa: S608
    assert isinstance(store.row(), BadRow)
    with pytest.raises(StoreCorrupted) as error:
        store.set(gain=9)
    assert "config-daemon adopt stt-worker" in error.value.suggestion


def test_a_row_copied_to_another_service_is_noticed(store: Store) -> None:
    store.set(gain=2)
    store.sql(
        "INSERT INTO service_configs SELECT 'tts-worker', config_json, version, config_epoch, updated_at, updated_by,"
        " row_seal, row_seal_key_id FROM service_configs"
    )
    assert isinstance(store.row("tts-worker"), BadRow)
    assert isinstance(store.row("stt-worker"), Row)
    refused(store, "tts-worker")


def test_a_renamed_row_is_noticed(store: Store) -> None:
    store.set(gain=2)
    store.sql("UPDATE service_configs SET service = 'tts-worker'")
    assert isinstance(store.row("tts-worker"), BadRow)
    assert store.row("stt-worker") is None


def test_a_row_does_not_pass_as_a_tombstone(store: Store) -> None:
    plant(store, "")
    store.sql(
        "INSERT INTO deleted_services SELECT service, version, config_epoch, updated_at, updated_by, row_seal,"
        " row_seal_key_id FROM service_configs"
    )
    store.sql("DELETE FROM service_configs")
    assert isinstance(store.row(), BadRow)


def test_a_row_sealed_in_another_life_of_the_database_is_not_built_upon(store: Store) -> None:
    plant(store, '{"gain":2}', epoch=OTHER_EPOCH)
    assert refused(store).code == "STORE_CORRUPTED"


def test_a_single_flipped_bit_in_a_value_is_noticed(store: Store) -> None:
    """SQLite's own checks do not see it: the page is well formed."""
    text = "x" * 40
    store.set(model=text)
    for position, bit in [(0, 0), (7, 3), (20, 5), (39, 6), (39, 7)]:
        flipped = bytearray(f'{{"model":"{text}"}}'.encode())
        flipped[10 + position] ^= 1 << bit
        store.sql("UPDATE service_configs SET config_json = CAST(? AS TEXT)", (bytes(flipped),))
        assert isinstance(store.row(), BadRow)
    assert store.sql("PRAGMA integrity_check") == [("ok",)]


def test_an_adopted_row_is_sealed_with_a_history_of_the_difference(store: Store) -> None:
    store.set(gain=2, model="base", audio={"rate": 1})
    store.sql(
        """UPDATE service_configs SET config_json = '{"gain": 3, "audio": {"rate": 1}, "tags": ["a"]}'"""
    )
    written = store.edit("stt-worker", as_it_is, adopt=True, by="operator", reason="mended by hand")
    assert written.version == 2
    assert store.row() == Row(
        "stt-worker", '{"audio":{"rate":1},"gain":3,"tags":["a"]}', 2, EPOCH, NOW, "operator"
    )
    told = store.history("key, old_value_json, new_value_json, changed_by, change_reason")[-3:]
    assert told == [
        ("gain", "2", "3", "operator", "mended by hand"),
        ("model", '"base"', "", "operator", "mended by hand"),
        ("tags", None, '["a"]', "operator", "mended by hand"),
    ]
    assert store.items() == {"audio.rate": "1", "gain": "3", "tags": '["a"]'}
    assert store.set(gain=4).version == 3


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"gain":11,"tags":[]}', InvalidConfig), ('{"gain":2', InvalidConfig), ("[]", InvalidConfig),
        ('{"gain":1,"gain":2}', InvalidConfig), ('{"gain":NaN}', InvalidConfig), ('{"x":"\\ud800"}', InvalidConfig),
        ('{"api_key":"s3cret-canary"}', NotAllowed),
    ],
)  # fmt: skip
def test_what_may_not_be_written_may_not_be_adopted(store: Store, text: str, kind: type[Exception]) -> None:
    store.set(gain=2)
    store.sql("UPDATE service_configs SET config_json = ?", (text,))
    before = store.content()
    with pytest.raises(kind) as error:
        store.adopt()
    assert store.content() == before
    assert "canary" not in str(error.value)


def test_bytes_that_are_no_text_are_not_adopted_as_other_text(store: Store) -> None:
    store.set(model="base")
    store.sql("UPDATE service_configs SET config_json = CAST(? AS TEXT)", (b'{"model":"b\xffse"}',))
    with pytest.raises(InvalidConfig):
        store.adopt()


def test_what_is_fixed_elsewhere_may_not_be_adopted(store: Store) -> None:
    store.set(model="base")
    store.sql("""UPDATE service_configs SET config_json = '{"model":"big"}'""")
    writer = store.writer(rules=Rules(fixed=lambda service, key: ".env:3"))
    with pytest.raises(NotAllowed):
        writer.commit([Edit("stt-worker", as_it_is)], by="test", adopt=True)


@pytest.mark.parametrize("version", ["'one'", "0", "-5", "9223372036854775807", "1"])
def test_a_made_up_version_is_not_counted_on_from(store: Store, version: str) -> None:
    for gain in (2, 3):
        store.set(gain=gain)
    store.sql(f"UPDATE service_configs SET version = {version}")  # noqa: S608
    assert store.adopt().version == 3
    assert store.set(gain=4).version == 4
    assert store.values() == {"gain": 4}


def test_damaged_items_do_not_hinder_an_adoption_and_are_put_right_by_it(store: Store) -> None:
    store.set(gain=2, model="base")
    store.sql("UPDATE config_items SET value_json = 'not JSON' WHERE key = 'gain'")
    store.sql(
        "INSERT INTO config_items SELECT 99, service, 'more', '1', '', '', '', '', 0, '', '' FROM service_configs"
    )
    store.sql("UPDATE service_configs SET row_seal = ''")
    store.adopt()
    assert store.items() == {"gain": "2", "model": '"base"'}


def test_an_adopted_tombstone_stays_one(store: Store) -> None:
    """Else adopting a deleted service would publish its defaults."""
    store.set(gain=2)
    store.delete()
    store.sql("UPDATE deleted_services SET version = 1, deleted_by = 'somebody'")
    assert store.adopt().deleted
    assert store.row() == Tombstone("stt-worker", 3, EPOCH)
    assert store.set(gain=3).version == 4


def test_what_never_was_cannot_be_adopted(store: Store) -> None:
    with pytest.raises(NotFound):
        store.adopt()
    assert store.row() is None


@pytest.mark.parametrize(
    "text",
    [
        "", "nothing", "[1]", "null", '{"a":1', '{"a":1,"a":2}', '{"a":NaN}', '{"a":1e999}', '{"a":"\\ud800"}',
        '{"\\ud800":1}', '{"x":' * 200 + "1" + "}" * 200, "[" * 100_000, '{"x":' + "[" * 500 + "]" * 500 + "}",
        '{"a":' + "9" * 5000 + "}", '{"a":1}x', '\ufeff{"a":1}',
    ],
)  # fmt: skip
def test_well_sealed_nonsense_is_a_verdict_and_never_a_crash(store: Store, text: str) -> None:
    plant(store, text)
    row = store.row()
    assert isinstance(row, Row)  # the seal says who wrote it, not that it makes sense
    with pytest.raises(InvalidConfig):
        parse_stored(row.service, row.text)
    with pytest.raises(InvalidConfig) as error:
        store.set(gain=3)
    assert error.value.contexts[0].suggestion
    assert store.set("tts-worker", gain=3).version == 1


def test_a_stored_value_that_is_out_of_range_can_be_mended(store: Store) -> None:
    plant(store, '{"gain":1152921504606846976,"model":"base"}')
    with pytest.raises(InvalidConfig) as error:
        store.set(model="big")
    assert codes(error.value) == ["INTEGER_TOO_LARGE"]
    assert store.set(gain=3).changed == {"gain": ("1152921504606846976", "3")}


def test_a_seal_says_nothing_of_its_key() -> None:
    text = f"{SEALER!r}{SEALER}"
    derived = hkdf(MASTER_KEY, b"config-daemon row-seal v1")
    for key in (MASTER_KEY, derived):
        for shown in (key.hex(), repr(key)[2:-1], base64.b64encode(key).decode()):
            assert shown not in text
