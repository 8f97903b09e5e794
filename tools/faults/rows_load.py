"""Rows 30 and 31: many services, and many writes to one."""

from __future__ import annotations

import time

from config_daemon.store.audit import HistoryRewritten, Trail, present_heads
from tests.broker_conf import Conf
from tools.faults.hands import client, published
from tools.faults.run import fault
from tools.faults.stage import Stage

SELDOM = Conf(extra_conf="autosave_on_changes false\nautosave_interval 1800")


@fault(30, "cold-start-of-many", conf=lambda _: SELDOM, rate=0, options={"patience": 60})
def cold_start_of_many(stage: Stage) -> None:
    """A daemon starts with thousands of services that nobody was told of."""
    stage.kill_daemon()
    names = [f"many-{number}" for number in range(int(stage.scaled(300, 10_000)))]
    stage.define(names)
    stage.writer().write_all(names, padding="x" * 900)
    began = time.monotonic()
    stage.start_daemon()
    stage.until(lambda: stage.connected() and stage.confirmed() and len(stage.view.services()) > len(names),
                "everything confirmed", stage.scaled(30, 120))  # fmt: skip
    stage.figures["cold_start_seconds"] = round(time.monotonic() - began, 3)


@fault(31, "flood-of-one", rate=0)
def flood_of_one(stage: Stage) -> None:
    """A thousand writes a second to one service: at most twenty messages a second, and the last one."""
    service, seconds = stage.services[0], stage.scaled(1, 60)
    with client(stage) as listener:
        writer, end = stage.writer(), time.monotonic() + seconds
        while time.monotonic() < end:
            writer.write(service)
        stage.until(lambda: stage.in_force(stage.stored_versions()), "the last one")
        sent = published(listener, service)
    stage.figures |= {"writes": stage.stored_versions()[service], "messages": sent}
    stage.must(sent <= 20 * seconds + 5, f"at most 20 messages a second, not {sent} in {seconds} s")


@fault(31, "heads-under-load", rate=50, in_check=False)
def heads_under_load(stage: Stage) -> None:
    """Whoever reads the heads of the audit chains while people write gets heads that belong together."""
    asked, end = 0, time.monotonic() + stage.scaled(20, 60)
    with stage.traffic(500):
        while time.monotonic() < end:
            asked += 1
            try:
                Trail(stage.files.database, present_heads(stage.files.database)).heads()
            except HistoryRewritten as error:
                stage.figures["asked"] = asked
                stage.must(False, f"nobody rewrote anything, and the {asked}. reader is told: {error}")
    stage.figures["asked"] = asked
