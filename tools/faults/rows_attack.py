"""Rows 20 and 23 to 25: somebody steals names, overwrites topics, puts yesterday back, withholds."""

from __future__ import annotations

import os
import time

from tests.broker_conf import Conf
from tests.raw_client import RawClient
from tools.faults.hands import OPEN_ACL, allow, client, retained
from tools.faults.run import fault
from tools.faults.stage import Stage


@fault(20, "thief-of-a-name", rate=10, options={"patience": 60})
def thief_of_a_name(stage: Stage) -> None:
    """Somebody connects under the daemon's name, and a worker's, again and again."""
    assert stage.daemon is not None
    words = (stage.folder / "broker" / "broker.log").read_text().split()
    name = next(word for word in words if word.startswith("config-daemon-"))
    before = os.times()
    for _ in range(int(stage.scaled(3, 30))):
        for stolen in (name, "edge-1"):
            stage.until(stage.connected, "the daemon again, for as long as the thief lets it")
            with RawClient(stage.url("edge", direct=True), stolen):
                stage.pass_time(0.2)
    stage.until(lambda: "client-id-conflict" in stage.conditions, "the condition client-id-conflict")
    stage.until(stage.connected, "the daemon again", 60)
    spent = os.times()
    stage.figures["cpu_seconds"] = round(spent.children_user - before.children_user, 3)


@fault(23, "topics-overwritten", rate=0)
def topics_overwritten(stage: Stage) -> None:
    """Somebody writes garbage, an older message, another service's, nothing: put right within five seconds."""
    mine, other = stage.services[:2]
    topic, writer = f"system/config/{mine}", stage.writer()
    old = retained(stage)
    version = writer.write(mine)
    stage.until(lambda: stage.in_force({mine: version}), "the second version")
    stage.until(stage.confirmed, "the broker's word")
    new = retained(stage)[topic]
    with client(stage) as attacker:
        attacks = [b"garbage", old[topic], old[f"system/config/{other}"], b""]
        for raw in attacks if stage.full else stage.rng.sample(attacks, 2):
            attacker.clear()
            attacker.publish(topic, stage.theirs(raw), retain=True)
            newest = attacker.wait_for(
                lambda found, raw=raw: [m for m in found if m.topic == topic and m.payload != raw]
            )
            stage.must(newest[-1].payload == new, "the very bytes, or none")
    stage.until(lambda: "foreign-write" in stage.conditions, "the condition foreign-write")


@fault(23, "older-message-put-back", rate=0)
def older_message_put_back(stage: Stage) -> None:
    """Somebody puts the message before the newest back: no worker takes it."""
    topic = f"system/config/{stage.services[0]}"
    old = retained(stage)[topic]
    version = stage.writer().write(stage.services[0])
    stage.until(lambda: stage.in_force({stage.services[0]: version}), "the second version")
    with client(stage) as attacker:
        attacker.publish(topic, stage.theirs(old), retain=True)
        stage.pass_time(0.5)  # a worker that takes it does so at once


@fault(24, "yesterday-put-back", rate=0)
def yesterday_put_back(stage: Stage) -> None:
    """The whole state of yesterday is put back: nobody goes back, the daemon says what is today."""
    yesterday = retained(stage)
    with stage.traffic(100):
        stage.pass_time(0.3)
    stage.until(lambda: stage.in_force(stage.stored_versions()), "today")
    stage.until(stage.confirmed, "the broker's word")
    with client(stage) as attacker:
        for topic, raw in yesterday.items():
            attacker.publish(topic, stage.theirs(raw), retain=True)
        stage.until(lambda: "foreign-write" in stage.conditions, "the condition foreign-write")


@fault(25, "one-topic-withheld", conf=lambda _: Conf(acl=OPEN_ACL), rate=0, options={"patience": 30})
def one_topic_withheld(stage: Stage) -> None:
    """The broker keeps one service from the workers: two beacons later they say `frozen`."""
    hidden = stage.services[0]
    allowed = "".join(f"topic read system/config/{name}\n" for name in stage.services[1:])
    allow(stage, edge=f"{allowed}topic read system/trust/#\ntopic write system/evidence/#")
    writer = stage.writer()
    writer.write(hidden)
    stage.until(stage.confirmed, "the broker's word")
    extra = [f"more-{number}" for number in range(6)]
    stage.define(extra)
    began, writer = time.monotonic(), stage.writer()
    for name in extra:  # each of them is a reason for a beacon, which is due in half a minute else
        stage.until(lambda name=name: writer.write(name), "a service that was defined just now")
        stage.pass_time(0.4)
    stage.until(
        lambda: any("frozen" in one.get("flags", ()) for one in stage.reports("edge-1")),
        "the flag frozen",
        90,
    )
    stage.figures["frozen_after_seconds"] = round(time.monotonic() - began, 3)
    allow(stage)
    stage.broker.stop()
    stage.broker.start()
