"""Rows 13 to 31: the broker dies, forgets, freezes, refuses or lies; the network; many services, many writes."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.broker_conf import Conf
from tools.faults.hands import client, live
from tools.faults.run import fault
from tools.faults.stage import Stage

FORGETFUL = Conf(extra_conf="persistence false\nautosave_on_changes false\nautosave_interval 1800")
SELDOM = Conf(extra_conf="autosave_on_changes false\nautosave_interval 1800")


# death and forgetting -----------------------------------------------------------------------------


@fault(13, "broker-killed-forgetful", conf=lambda _: FORGETFUL, rate=50)
def broker_killed_forgetful(stage: Stage) -> None:
    """kill -9 of a broker that keeps nothing: everything is told again, byte for byte."""
    _down(stage, stage.broker.kill, stage.scaled(0.3, 10))


@fault(14, "broker-restarted", rate=0)
def broker_restarted(stage: Stage) -> None:
    """A broker that kept everything comes back: only what differs is sent."""
    stage.until(stage.confirmed, "the broker's word")
    stage.broker.stop()
    writer = stage.writer()
    changed, *rest = stage.services
    version = writer.write(changed)
    stage.broker.start()
    with client(stage) as listener:
        stage.until(lambda: stage.in_force({changed: version}), "the change", 30)
        stage.until(stage.confirmed, "the broker's word")
        for service in rest:
            stage.must(not live(listener, service), f"nothing is sent for {service}, which did not change")


@fault(15, "broker-wiped", rate=50)
def broker_wiped(stage: Stage) -> None:
    """The broker's folder is emptied."""
    stage.expect(within=15, wire=False, condition="broker-down")
    stage.broker.wipe()
    stage.pass_time(0.5)


@fault(16, "broker-down-for-long", rate=0, services=8, options={"patience": 100})
def broker_down_for_long(stage: Stage) -> None:
    """Many writes while the broker is away: afterwards one message a service, the newest."""
    stage.until(stage.confirmed, "the broker's word")
    stage.broker.stop()
    writer, end = stage.writer(), time.monotonic() + stage.scaled(0.5, 600)
    written = 0
    while written < stage.scaled(60, 500) or time.monotonic() < end:
        writer.write(stage.rng.choice(stage.services))
        written += 1
        stage.pass_time(stage.scaled(0.005, 1.2))
    versions = stage.stored_versions()
    stage.broker.start()
    with client(stage) as listener:
        stage.until(lambda: stage.in_force(versions), "everything in force", stage.scaled(20, 100))
        for service in stage.services:
            sent = live(listener, service)
            stage.must(len(sent) == (versions[service] > 1), f"{service}: one message, not {len(sent)}")


def _down(stage: Stage, end: Callable[[], None], seconds: float) -> None:
    end()
    stage.expect(within=10, wire=False, condition="broker-down")
    stage.pass_time(seconds)
    stage.broker.start()


# hanging ------------------------------------------------------------------------------------------


@fault(17, "broker-frozen", rate=20, options={"patience": 90})
def broker_frozen(stage: Stage) -> None:
    """SIGSTOP of the broker is noticed within two keepalives; writers never wait for it."""
    stage.broker.suspend()
    stage.expect(within=2 * 2 + 1, wire=False, condition="broker-down")
    stage.pass_time(stage.scaled(5, 300))
    stage.broker.resume()


@fault(18, "half-open", rate=20, options={"through_proxy": True, "patience": 90})
def half_open(stage: Stage) -> None:
    """The network takes all bytes and delivers none."""
    stage.proxy.swallow()
    stage.expect(within=2 * 2 + 1, wire=False, condition="broker-down")
    stage.pass_time(stage.scaled(5, 300))
    stage.proxy.heal()


@fault(19, "answers-swallowed", rate=50, options={"through_proxy": True, "patience": 30})
def answers_swallowed(stage: Stage) -> None:
    """The broker gets everything and its answers are lost; then the connection breaks."""
    for _ in range(int(stage.scaled(2, 50))):
        stage.proxy.swallow("down")
        stage.pass_time(stage.rng.uniform(0.2, 0.8))
        stage.proxy.cut()
        stage.proxy.heal()
        stage.until(stage.connected, "the daemon again", 30)
