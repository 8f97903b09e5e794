"""`AsyncConfigClient`: the twin of `ConfigClient` for asyncio.

Laws: the same client does the work, in one thread; everything of the program's runs on its event loop, one
callback after the other, and nothing of ours blocks that loop; what is cancelled or late counts as failed.

Source: docs/worker.md.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, Required, Self, TypedDict, Unpack

from config_daemon.errors import UsageError
from config_daemon.worker.change import Change
from config_daemon.worker.client import Protocol
from config_daemon.worker.follow import FirstUse, OnRevoked
from config_daemon.worker.program import Overdue
from config_daemon.worker.report import Report
from config_daemon.worker.sdk import APPLY_SECONDS, ConfigClient, Ended, Model

GRACE_SECONDS = 1.0  # for a coroutine to end after it was cancelled


class Options(TypedDict, total=False):
    """What `ConfigClient` takes beside the callbacks."""

    worker: Required[str]
    broker: Required[str]
    state: Required[str | Path]
    public_key: str | None
    keyring_file: str | Path | None
    model: Model
    topic_prefix: str
    first_use: FirstUse
    on_revoked: OnRevoked
    ca_file: str | Path | None
    certificate_file: str | Path | None
    key_file: str | Path | None
    protocol: Protocol
    agent: str


class AsyncConfigClient:
    """Follows services for a program on asyncio: `apply` is a coroutine, or `changes()` is iterated over.

    The arguments are those of `ConfigClient`; `report` and `note` are called on the event loop.

    Raises: as `ConfigClient`.
    """

    def __init__(
        self,
        services: str | Sequence[str] | Mapping[str, Model],
        *,
        apply: Callable[[Change], Awaitable[object]] | None = None,
        on_deleted: Callable[[str], Awaitable[object]] | None = None,
        apply_seconds: float = APPLY_SECONDS,
        report: Callable[[Report], object] | None = None,
        note: Callable[[str], None] | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._apply, self._on_deleted, self._report = apply, on_deleted, report
        self._seconds = apply_seconds
        told: dict[str, Any] = {} if note is None else {"note": lambda text: self._call(note, text)}
        self._client = _Blocking(
            lambda: self._was_iterated and not self._is_iterated,
            services, apply=self._hand_over, on_deleted=self._withdraw, report=self._say,
            apply_seconds=apply_seconds + GRACE_SECONDS, **told, **options,
        )  # fmt: skip
        self.public_keys = self._client.public_keys
        self._loop: asyncio.AbstractEventLoop | None = None
        self._current: Future[object] | None = None
        self._offers: asyncio.Queue[_Offer | None] = asyncio.Queue()
        self._is_iterated, self._was_iterated, self._is_stopping = False, False, False
        self._moved, self._over = asyncio.Event(), asyncio.Event()
        self._death: BaseException | None = None

    @property
    def ended(self) -> Ended | None:
        """Tell how the client ended, None while it has not."""
        return self._client.ended

    def start(self) -> Self:
        """Begin to follow, on the running event loop."""
        if self._loop is not None:
            raise RuntimeError("this client was started before; make another one")
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._follow, name="config-client", daemon=True).start()
        return self

    async def stop(self) -> None:
        """End; a coroutine that is under way is cancelled.

        Raises: what ended the client before, if something did.
        """
        self._is_stopping = True
        self._client.stop()
        if self._current is not None:
            self._current.cancel()
        if self._loop is not None:
            await self._over.wait()
        self._raise_death()

    async def run(self) -> Ended:
        """Follow until the client ends by itself (`restart`), or another task calls `stop` (`stopped`)."""
        async with self:
            await self._over.wait()
        assert self._client.ended is not None
        return self._client.ended

    async def changes(self) -> AsyncIterator[Change]:
        """Yield every change, beginning with what runs; one counts as applied when the next is asked for.

        Who leaves the loop has not applied the last one, and what comes then waits for another loop, which
        begins with what runs again. Ends with the client.

        Raises: UsageError where there is an `apply`, or another loop.
        """
        if self._apply is not None or self._is_iterated:
            raise UsageError(
                "changes go to one place",
                suggestion="Give `apply`, or iterate over `changes()` in one place at a time.",
            )
        offer, self._is_iterated = None, True
        self._was_iterated = True
        self._client.begin_anew()
        try:
            while not self._over.is_set() and (offer := await self._offers.get()) is not None:
                yield offer.change
                offer.end(None)
        finally:
            self._is_iterated = False
            while offer is not None:
                offer.end(Overdue("the loop over changes was left"))
                offer = None if self._offers.empty() else self._offers.get_nowait()

    def values(self, service: str | None = None) -> Any:
        """Return the config that runs; None before the first.

        Raises: UsageError when the service is not followed.
        """
        return self._client.values(service)

    async def wait_for(self, service: str | None = None, timeout: float | None = None) -> Any:
        """Wait until a service has a config, at most `timeout` seconds, and return it.

        Raises: TimeoutError; RuntimeError when the client has ended; what ended it otherwise.
        """
        async with asyncio.timeout(timeout):
            while self._client.values(service) is None and not self._over.is_set():
                self._moved.clear()
                await self._moved.wait()
        self._raise_death()
        if (values := self._client.values(service)) is None:
            raise RuntimeError(f"the client has ended ({self.ended}) before it had a config")
        return values

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def _raise_death(self) -> None:
        if self._death is not None:
            raise self._death

    # in the client's threads

    def _follow(self) -> None:
        death: BaseException | None = None
        try:
            self._client.run()
        except BaseException as error:  # noqa: BLE001 - told to whoever stops or waits
            death = error
        self._call(self._finish, death)

    def _hand_over(self, change: Change) -> None:
        self._await(self._take(change))

    def _withdraw(self, service: str) -> None:
        if self._on_deleted is not None:
            self._await(self._limited(self._on_deleted(service)))

    def _await(self, coroutine: Any) -> None:
        assert self._loop is not None
        self._current = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        if self._is_stopping:
            self._current.cancel()
        try:
            self._current.result()
        except CancelledError as error:
            raise Overdue("it was cancelled, since the client ends") from error

    def _say(self, report: Report) -> None:
        self._call(self._tell, report)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function, *arguments)

    # on the event loop

    async def _take(self, change: Change) -> None:
        if self._apply is not None:
            await self._limited(self._apply(change))
        elif self._was_iterated:
            offer = _Offer(change)
            self._client.is_given(change.service)
            self._offers.put_nowait(offer)
            await offer.done

    async def _limited(self, work: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(self._seconds) as limit:
                await work
        except TimeoutError as error:
            if limit.expired():
                raise Overdue(f"it has not come back within {self._seconds:g} s") from error
            raise

    def _tell(self, report: Report) -> None:
        self._moved.set()
        if self._report is not None:
            self._report(report)

    def _finish(self, death: BaseException | None) -> None:
        self._death = death
        self._over.set()
        self._moved.set()
        self._offers.put_nowait(None)


class _Blocking(ConfigClient):
    """The client that does the work; while `is_away`, what comes waits."""

    def __init__(self, is_away: Callable[[], bool], services: Any, **options: Any) -> None:
        self._is_away = is_away
        super().__init__(services, **options)

    def begin_anew(self) -> None:
        """Have what runs handed over once more."""
        self._begin_anew()

    def is_given(self, service: str) -> None:
        """Take it that a loop over changes has what runs, or will: also what was under way when it began."""
        self._again.discard(service)

    def _is_busy(self) -> bool:
        return self._is_away() or super()._is_busy()


class _Offer:
    """A change that waits to be taken from `changes()`."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, error: Exception | None) -> None:
        """Have it count as applied, or not."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
