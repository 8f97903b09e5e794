"""The client for asyncio: on the program's own loop, never in its way, and cancelled when the program is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from config_daemon.errors import UsageError
from config_daemon.worker import AsyncConfigClient, Change, Report, RestartNeeded
from tests.broker_fixtures import ClientFactory
from tests.real_broker import Broker
from tests.worker.scene import PUBLIC_KEY, Source
from tests.worker.speaking import told
from tests.worker.test_sdk import attempt, runs
from tests.worker.updates import SERVICE


@pytest.fixture
def source(broker: Broker, raw_client: ClientFactory) -> Source:
    return Source(raw_client(broker))


@pytest.fixture
def client(broker: Broker, tmp_path: Path) -> Callable[..., AsyncConfigClient]:
    def make(**options: Any) -> AsyncConfigClient:
        return AsyncConfigClient(
            SERVICE, worker="edge", broker=broker.url, state=tmp_path, public_key=PUBLIC_KEY, **options
        )

    return make


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scene()

    asyncio.run(bounded())


def test_a_coroutine_applies_each_change_on_the_loop(
    source: Source, client: Callable[..., AsyncConfigClient]
) -> None:
    async def scene() -> None:
        changes: asyncio.Queue[Change] = asyncio.Queue()
        reports: asyncio.Queue[Report] = asyncio.Queue()

        async def apply(change: Change) -> None:
            assert asyncio.get_running_loop() is loop
            await asyncio.sleep(0)
            await changes.put(change)

        loop = asyncio.get_running_loop()
        source.config({"number": 1})
        async with client(apply=apply, report=reports.put_nowait) as edge:
            assert await edge.wait_for(SERVICE, 5) == {"number": 1}
            source.config({"number": 2})
            first, second = await changes.get(), await changes.get()
            assert (first.old, second.old, second.keys) == (None, {"number": 1}, ("number",))
            while (await reports.get()).sequence != second.update.sequence:
                pass
            assert edge.values() == {"number": 2}

    play(scene)


def test_a_loop_over_changes_applies_one_when_it_asks_for_the_next(
    source: Source, client: Callable[..., AsyncConfigClient], tmp_path: Path
) -> None:
    async def scene() -> None:
        first = source.config({"number": 1})
        async with client() as edge, aclosing(edge.changes()) as changes:
            assert (await anext(changes)).new == {"number": 1}
            assert edge.values() is None, "not before the next one is asked for"
            following = asyncio.ensure_future(anext(changes))
            assert await edge.wait_for() == {"number": 1}
            second = source.config({"number": 2})
            assert (await following).old == {"number": 1}
            assert told(source.status(tmp_path, runs(first)))[0] == first
        status = source.status(tmp_path, attempt("rejected"))
        assert told(status) == (first, second, "rejected", "apply-failed"), "the loop was left"

    play(scene)


def test_a_loop_over_changes_begins_with_what_runs(
    source: Source, client: Callable[..., AsyncConfigClient]
) -> None:
    async def scene() -> None:
        source.config({"number": 1})
        async with client() as edge:
            await edge.wait_for(SERVICE, 5)
            source.config({"number": 2, "more": True})
            while edge.values() != {"number": 2, "more": True}:
                await asyncio.sleep(0.01)
            async with aclosing(edge.changes()) as changes:
                change = await anext(changes)
                assert (change.old, change.new) == (None, {"number": 2, "more": True})
                assert change.keys == ("more", "number")
                with pytest.raises(UsageError):
                    await anext(edge.changes())

    play(scene)


def test_a_second_loop_over_changes_begins_with_what_runs_now_and_with_nothing_older(
    source: Source, client: Callable[..., AsyncConfigClient]
) -> None:
    async def scene() -> None:
        source.config({"number": 1})
        async with client() as edge:
            await edge.wait_for(SERVICE, 5)
            async with aclosing(edge.changes()) as changes:
                assert (await anext(changes)).new == {"number": 1}
                source.config({"number": 2, "more": True})
                assert (await anext(changes)).new == {"number": 2, "more": True}
                following = asyncio.ensure_future(anext(changes))
                while edge.values() != {"number": 2, "more": True}:
                    await asyncio.sleep(0.01)
                following.cancel()
                await asyncio.wait([following])
            async with aclosing(edge.changes()) as changes:
                change = await anext(changes)
                assert (change.old, change.new) == (None, {"number": 2, "more": True})
                assert change.keys == ("more", "number")

    play(scene)


def test_a_loop_that_fails_has_applied_nothing_and_what_comes_then_waits_for_the_next_loop(
    source: Source, client: Callable[..., AsyncConfigClient], tmp_path: Path
) -> None:
    async def scene() -> None:
        source.config({"number": 1})
        async with client() as edge:
            await edge.wait_for(SERVICE, 5)  # taken before anybody iterates
            with pytest.raises(ZeroDivisionError):
                async with aclosing(edge.changes()) as changes:
                    async for _change in changes:
                        raise ZeroDivisionError
            status = await asyncio.to_thread(source.status, tmp_path, attempt("rejected"))
            assert told(status) == (None, 1, "rejected", "apply-failed")
            second = source.config({"number": 2})
            status = await asyncio.to_thread(source.status, tmp_path, attempt("pending"))
            assert told(status) == (None, second, "pending", "still-applying")
            async with aclosing(edge.changes()) as changes:
                assert (await anext(changes)).new == {"number": 2}
                following = asyncio.ensure_future(anext(changes))
                assert (await asyncio.to_thread(source.status, tmp_path, runs(second))).running
                following.cancel()
                await asyncio.wait([following])

    play(scene)


def test_every_loop_over_the_changes_of_a_client_that_has_ended_ends(
    source: Source, client: Callable[..., AsyncConfigClient]
) -> None:
    async def scene() -> None:
        source.config({"number": 1})
        edge = client().start()

        async def numbers() -> list[int]:
            return [change.new["number"] async for change in edge.changes()]

        first = asyncio.ensure_future(numbers())
        await edge.wait_for(SERVICE, 5)
        await edge.stop()
        assert await first == [1]
        assert await numbers() == await numbers() == []

    play(scene)


def test_a_loop_from_the_start_is_given_the_kept_config_once(
    source: Source, client: Callable[..., AsyncConfigClient]
) -> None:
    async def scene() -> None:
        source.config({"number": 1})
        async with client() as edge:
            await edge.wait_for(SERVICE, 5)
        given: list[int] = []
        async with client() as edge, aclosing(edge.changes()) as changes:
            async for change in changes:
                given.append(change.new["number"])
                if given[-1] == 2:
                    break
                source.config({"number": 2})
        assert given == [1, 2]

    play(scene)


def test_nothing_blocks_the_event_loop(source: Source, client: Callable[..., AsyncConfigClient]) -> None:
    async def scene() -> None:
        longest, stopped = 0.0, asyncio.Event()

        async def watch() -> None:
            nonlocal longest
            while not stopped.is_set():
                before = loop.time()
                await asyncio.sleep(0.001)
                longest = max(longest, loop.time() - before)

        async def apply(change: Change) -> None:
            await asyncio.sleep(0.3)

        loop = asyncio.get_running_loop()
        edge = client(apply=apply)
        watching = asyncio.create_task(watch())
        async with edge:
            source.config({"number": 1})
            await edge.wait_for(SERVICE, 5)
        stopped.set()
        await watching
        assert longest < 0.25, f"{longest:.3f} s without a turn"

    play(scene)


def test_a_coroutine_that_takes_too_long_is_cancelled_and_told(
    source: Source, client: Callable[..., AsyncConfigClient], tmp_path: Path
) -> None:
    async def scene() -> None:
        cancelled = asyncio.Event()

        async def apply(change: Change) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        source.config({"number": 1})
        async with client(apply=apply, apply_seconds=0.1):
            await cancelled.wait()
            status = await asyncio.to_thread(source.status, tmp_path, attempt("rejected"))
        assert told(status) == (None, 1, "rejected", "apply-failed")
        assert status.last_attempt is not None and "0.1 s" in status.last_attempt.errors[0].message

    play(scene)


def test_leaving_cancels_what_is_under_way_and_the_next_start_tries_it_again(
    source: Source, client: Callable[..., AsyncConfigClient]
) -> None:
    async def scene() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def hang(change: Change) -> None:
            began.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        source.config({"number": 1})
        async with client(apply=hang):
            await began.wait()
        assert ended.is_set()
        async with client() as edge:
            assert await edge.wait_for(SERVICE, 5) == {"number": 1}

    play(scene)


def test_a_task_that_is_cancelled_ends_the_client(
    source: Source, client: Callable[..., AsyncConfigClient]
) -> None:
    async def scene() -> None:
        edge = client()
        task = asyncio.create_task(edge.run())
        await asyncio.to_thread(source.wait_for_presence, "edge", b"online")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert edge.ended == "stopped"
        await asyncio.to_thread(source.wait_for_presence, "edge", b"online", b"offline")

    play(scene)


def test_a_restart_that_is_needed_ends_run_and_the_loop_over_changes(
    source: Source, client: Callable[..., AsyncConfigClient]
) -> None:
    async def scene() -> None:
        async def apply(change: Change) -> None:
            if change.old is not None:
                raise RestartNeeded

        source.config({"number": 1})
        edge = client(apply=apply)
        running = asyncio.create_task(edge.run())
        await asyncio.sleep(0)
        await edge.wait_for(SERVICE, 5)
        source.config({"number": 2})
        assert await running == "restart"

    play(scene)


def test_waiting_has_an_end(source: Source, client: Callable[..., AsyncConfigClient]) -> None:
    async def scene() -> None:
        edge = client()
        async with edge:
            with pytest.raises(TimeoutError):
                await edge.wait_for(SERVICE, 0.05)
        with pytest.raises(RuntimeError, match="stopped"):
            await edge.wait_for(SERVICE, 5)
        assert [change async for change in edge.changes()] == []

    play(scene)


def test_a_withdrawn_config_is_told_to_a_coroutine(
    source: Source, client: Callable[..., AsyncConfigClient]
) -> None:
    async def scene() -> None:
        deleted: asyncio.Queue[str] = asyncio.Queue()
        source.config({"number": 1})
        async with client(on_deleted=deleted.put) as edge:
            await edge.wait_for(SERVICE, 5)
            source.withdraw()
            assert await deleted.get() == SERVICE

    play(scene)
