"""A hold survives whatever happens around it."""

from __future__ import annotations

import shutil

from tests.e2e.house import House, until
from tests.e2e.test_weather import conditions, confirmed, facts


def test_a_hold_survives_a_clean_stop_of_the_daemon(house: House) -> None:
    """The place that is expected in the database is not forgotten by a daemon that never found it."""
    daemon = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    assert daemon.stop() == 0
    shutil.copy(house.files.database, house.folder / "backup")
    daemon = house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.2))
    assert daemon.stop() == 0
    for name in ("config.db", "config.db-wal", "config.db-shm", "config.lkg.json", "config.lkg.json.1"):
        (house.folder / name).unlink(missing_ok=True)
    shutil.copy(house.folder / "backup", house.files.database)
    for _ in range(2):
        daemon = house.daemon()
        pid = daemon.pid
        until(
            lambda pid=pid: facts(house).get("pid") == pid and "not-the-newest" in conditions(house),
            "the hold",
        )
        assert daemon.stop() == 0


def test_a_deleted_status_db_is_told_everything_again(house: House) -> None:
    """status.db may be deleted at any time: what the daemon knows comes back by itself."""
    house.daemon()
    confirmed(house, house.set("stt-worker", vad_threshold=0.1))
    for path in house.folder.glob("status.db*"):
        path.unlink()
    confirmed(house, house.set("tts-worker", volume_percent=50), "tts-worker")
    confirmed(house, 1)
    until(
        lambda: facts(house).get("mode") == "normal" and facts(house).get("public_key"), "the daemon's facts"
    )


def test_an_older_database_adopted_without_a_daemon_is_published_by_the_next(house: House) -> None:
    daemon = house.daemon()
    worker = house.worker()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.1))
    assert daemon.stop() == 0
    shutil.copy(house.files.database, house.folder / "backup")
    daemon = house.daemon()
    worker.wait_for(house.set("stt-worker", vad_threshold=0.2))
    assert daemon.stop() == 0
    for name in ("config.db", "config.db-wal", "config.db-shm"):
        (house.folder / name).unlink(missing_ok=True)
    shutil.copy(house.folder / "backup", house.files.database)
    code, _, error = house.cli("adopt", "--db", "--yes")
    assert code == 0, error
    assert "stt-worker: version 2 was published, 1 is here" in error
    assert "config-daemon adopt --lkg" in error
    house.daemon()
    until(lambda: [r["config_version"] for r in worker.applied] == [1, 2, 1], "the adopted version")
    assert not [r for r in worker.reports if r["state"] == "rejected"]
