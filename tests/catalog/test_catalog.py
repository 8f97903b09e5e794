"""The catalog: what it holds, what a running daemon notices, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import tracemalloc

import pytest

from config_daemon.catalog import folder as folder_module
from config_daemon.catalog.catalog import Catalog
from tests.catalog.conftest import SERVICES, number, settle


def test_without_a_folder_there_are_the_shipped_services():
    catalog = Catalog.load()
    assert catalog.names() == SERVICES
    assert catalog.get("nobody") is None
    assert catalog.get("keyring") is None
    assert catalog.problems == ()
    assert catalog.refresh() == set()
    assert all(catalog.get(service).service == service for service in SERVICES)


def test_a_folder_that_is_not_there_yet_is_empty_and_looked_for(tmp_path):
    catalog = Catalog.load(tmp_path / "schemas")
    assert (catalog.names(), catalog.problems) == (SERVICES, ())
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "sensor.schema.json").write_text(json.dumps(number()))
    assert catalog.refresh() == {"sensor"}
    assert catalog.get("sensor").effective({}) == {"amount": 1}


def test_files_that_are_dropped_changed_renamed_and_removed_while_it_runs(tmp_path, drop):
    drop("first", number(1))
    catalog = Catalog.load(tmp_path)
    assert catalog.refresh() == set()
    drop("second", number(2))
    assert catalog.refresh() == {"second"}
    path = drop("second", number(3))
    assert catalog.refresh(full=True) == {"second"}
    assert catalog.get("second").effective({}) == {"amount": 3}
    path.rename(path.with_name("third.schema.json"))
    assert catalog.refresh() == {"second", "third"}
    assert catalog.get("second") is None
    (tmp_path / "third.schema.json").unlink()
    assert catalog.refresh() == {"third"}
    assert catalog.names() == sorted([*SERVICES, "first"])


def test_a_touched_or_reformatted_file_is_no_change(tmp_path, drop):
    path = drop("sensor", number())
    catalog = Catalog.load(tmp_path)
    before = catalog.model_hash
    os.utime(path, ns=(1, 1))
    assert catalog.refresh(full=True) == set()
    path.write_text(json.dumps(number(), indent=4))
    assert catalog.refresh(full=True) == set()
    assert catalog.model_hash == before


def test_a_second_change_within_one_tick_of_the_file_systems_clock_is_not_missed(tmp_path, drop):
    """Same size, same inode, same time: only a look after the time has settled can be believed."""
    path = drop("sensor", number(1))
    catalog = Catalog.load(tmp_path)
    times = path.stat()
    with path.open("r+") as file:
        file.write(json.dumps(number(2)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert catalog.refresh() == {"sensor"}


def test_editors_and_volumes_that_replace_files(tmp_path):
    """An atomic rename, and the symbolic links by which Kubernetes swaps a whole folder."""
    for version in (1, 2):
        (tmp_path / f"..v{version}").mkdir()
        (tmp_path / f"..v{version}" / "sensor.schema.json").write_text(json.dumps(number(version)))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "sensor.schema.json").symlink_to("..data/sensor.schema.json")
    catalog = Catalog.load(tmp_path)
    assert catalog.get("sensor").effective({}) == {"amount": 1}
    (tmp_path / "..next").symlink_to("..v2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    assert catalog.refresh() == {"sensor"}
    assert catalog.get("sensor").effective({}) == {"amount": 2}
    (tmp_path / ".sensor.schema.json.swp").write_text("{")
    new = tmp_path / "new"
    new.write_text(json.dumps(number(3)))
    new.rename(tmp_path / "sensor.schema.json")
    assert catalog.refresh() == {"sensor"}
    assert catalog.problems == ()


def test_a_file_that_breaks_keeps_its_last_good_definition_until_it_is_mended(tmp_path, drop):
    drop("sensor", number(1))
    catalog = Catalog.load(tmp_path)
    drop("sensor", "{")
    assert catalog.refresh(full=True) == set()
    (told,) = catalog.problems
    assert "sensor.schema.json" in told.message
    assert "strict JSON" in told.message
    assert "last good definition stays" in told.message
    assert told.fallback_applied
    assert told.suggestion
    assert catalog.get("sensor").effective({}) == {"amount": 1}
    drop("sensor", number(2))
    assert catalog.refresh(full=True) == {"sensor"}
    assert catalog.problems == ()


def test_a_file_that_never_was_good_defines_nothing(tmp_path, drop):
    drop("sensor", {"type": "object", "properties": {"a": {"type": ["string", "integer"]}}})
    catalog = Catalog.load(tmp_path)
    assert catalog.get("sensor") is None
    (told,) = catalog.problems
    assert "sensor.schema.json at a: " in told.message
    assert not told.fallback_applied


@pytest.mark.parametrize("name", ["Sensor", "keyring", "9a", "a_b", "x" * 65, "stt-worker", ""])
def test_a_file_whose_name_cannot_be_a_new_service(tmp_path, drop, name):
    drop(name, number())
    catalog = Catalog.load(tmp_path)
    assert catalog.names() == SERVICES
    if name:
        (told,) = catalog.problems
        assert ("<service>.schema.json" in told.message) is (name != "stt-worker")


@pytest.mark.parametrize(
    "name", ["sensor.json", "sensor.schema.JSON", "sensor.Schema.json", "sensor.schema", "sensor.schema.yaml"]
)
def test_a_definition_that_is_not_called_like_one_is_told_until_it_is_renamed(tmp_path, name):
    catalog = Catalog.load(tmp_path)
    path = tmp_path / name
    path.write_text(json.dumps(number()))
    assert catalog.refresh() == set()
    (told,) = catalog.problems
    assert name in told.message
    assert "<service>.schema.json" in told.message
    path.rename(tmp_path / "sensor.schema.json")
    assert catalog.refresh() == {"sensor"}
    assert catalog.problems == ()


def test_things_that_are_no_files_neither_block_nor_crash(tmp_path):
    os.mkfifo(tmp_path / "pipe.schema.json")
    (tmp_path / "dir.schema.json").mkdir()
    (tmp_path / "nowhere.schema.json").symlink_to("missing")
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / os.fsdecode(b"\xff.schema.json")).write_text("{}")
    catalog = Catalog.load(tmp_path)
    assert catalog.names() == SERVICES
    assert len(catalog.problems) == 4
    for told in catalog.problems:
        told.message.encode()


def test_a_file_over_one_mebibyte_is_refused(tmp_path, drop):
    drop("sensor", json.dumps(number()) + " " * (1 << 20))
    assert "larger than 1048576 bytes" in Catalog.load(tmp_path).problems[0].message


def test_a_folder_that_goes_away_takes_no_definition_with_it(tmp_path, drop):
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    (schemas / "sensor.schema.json").write_text(json.dumps(number()))
    catalog = Catalog.load(schemas)
    schemas.rename(tmp_path / "elsewhere")
    assert catalog.refresh() == set()
    assert catalog.get("sensor") is not None
    assert "cannot be read" in catalog.problems[0].message
    (tmp_path / "elsewhere").rename(schemas)
    assert catalog.refresh() == set()
    assert catalog.problems == ()


def test_unchanged_files_are_looked_at_five_hundred_a_call_and_none_is_read(tmp_path, monkeypatch):
    text = json.dumps(number())
    for index in range(1201):
        (tmp_path / f"s{index}.schema.json").write_text(text)
    settle(tmp_path)
    catalog = Catalog.load(tmp_path)
    looked, read = [], []
    real_stat, real_read = os.stat, folder_module._bytes
    monkeypatch.setattr(
        os, "stat", lambda path, **more: (looked.append(str(path)), real_stat(path, **more))[1]
    )
    monkeypatch.setattr(folder_module, "_bytes", lambda path: (read.append(path), real_read(path))[1])

    def files_looked_at():
        found = {path for path in looked if path.endswith(".schema.json")}
        looked.clear()
        return found

    rounds = []
    for _ in range(3):
        assert catalog.refresh() == set()
        rounds.append(files_looked_at())
    assert [len(files) for files in rounds] == [500, 500, 201]
    assert len(set.union(*rounds)) == 1201
    assert read == []

    (tmp_path / "s77.schema.json").write_text(json.dumps(number(2)))
    assert set.union(*(catalog.refresh() for _ in range(3))) == {"s77"}
    assert len(read) == 1


def test_ten_thousand_services_of_one_form_share_it(tmp_path):
    """Measured with 1 000; a service more costs less than 1 KB."""
    text = json.dumps(number())
    for index in range(1000):
        (tmp_path / f"s{index}.schema.json").write_text(text)
    Catalog.load()  # imports are not what is measured
    tracemalloc.start()
    catalog = Catalog.load(tmp_path)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert catalog.get("s1").fields is catalog.get("s999").fields
    assert catalog.get("s1").service == "s1"
    assert catalog.get("s7").check({"amount": "x"})[0].failed_field == "amount"
    assert "s7 " in catalog.get("s7").check({"b": 1})[0].message
    assert used / 1000 < 1024


def test_the_model_hash_follows_every_schema_and_nothing_else(tmp_path, drop):
    assert re.fullmatch("[0-9a-f]{64}", Catalog.load().model_hash)
    assert Catalog.load().model_hash == Catalog.load(tmp_path).model_hash
    drop("sensor", number(1))
    catalog = Catalog.load(tmp_path)
    one = catalog.model_hash
    drop("sensor", number(2))
    catalog.refresh(full=True)
    assert catalog.model_hash not in {one, Catalog.load().model_hash}
    drop("sensor", number(1))
    catalog.refresh(full=True)
    assert catalog.model_hash == one
    drop("other", number(1))
    assert Catalog.load(tmp_path).model_hash != one


def test_did_you_mean(tmp_path, drop):
    drop("sensor", number())
    catalog = Catalog.load(tmp_path)
    assert catalog.suggest("stt-wroker") == "stt-worker"
    assert catalog.suggest("sensors") == "sensor"
    assert catalog.suggest("zzzzzz") is None
