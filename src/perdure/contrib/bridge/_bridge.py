"""The bridge: takes messages, lets the handler decide, acts, acknowledges or sets aside.

May live here: the order of these steps, how many at a time, and what happens when one of them fails. May not: what a
broker or a server understands by them (`_source` and the sources; `_acting`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from perdure.client import Client
from perdure.contrib.bridge._acting import Acting, NotNowError, Outcome, RefusedError, workflow_id_of
from perdure.contrib.bridge._decisions import Decision, SignalWorkflow, StartWorkflow
from perdure.contrib.bridge._messages import Counters, Message
from perdure.contrib.bridge._source import Delivery, Source, SourceDownError
from perdure.service import ClientClosedError

logger = logging.getLogger("perdure.bridge")

FIRST_PAUSE_S: Final = 0.1
LAST_TAKE_S: Final = 2.0
"""How long `stop` waits for a broker that is just being asked for messages, seconds."""


class TooManyDeliveriesError(Exception):
    """A message has been delivered more often than `max_deliveries` allows."""


class Bridge:
    """Starts or signals a workflow for each message of a queue, exactly once by the message's id.

    Args:
        client: Of the server. It may be connected lazily: a server that is not there yet is waited for.
        source: The queue.
        handler: Decides what a message means. It is called for every delivery, so also again for a repeated one, and
            must depend on the message alone; an error that it raises sets the message aside.
        concurrency: Messages in the works at a time, which is also how many the broker gives out in advance.
        max_deliveries: How often a message is delivered before it is set aside without being looked at again: it may be
            what ends the process that takes it. None for no limit.
        message_id: Reads the id by which a message is recognised; by default the broker's id of it.
        rpc_timeout_s: Limit of each call to the server, seconds.
        stop_timeout_s: How long messages in the works may take to end after `stop`, seconds.
        longest_pause_s: Limit of the growing pauses between tries while broker or server are down, seconds.

    Raises:
        ValueError: `concurrency` or `max_deliveries` is not positive.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        *,
        handler: Callable[[Message], Decision],
        concurrency: int = 32,
        max_deliveries: int | None = 10,
        message_id: Callable[[Message], str] | None = None,
        rpc_timeout_s: float = 10.0,
        stop_timeout_s: float = 10.0,
        longest_pause_s: float = 5.0,
    ) -> None:
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        if max_deliveries is not None and max_deliveries < 1:
            raise ValueError("max_deliveries must be at least 1")
        self.counters = Counters()
        self._acting = Acting(client, timedelta(seconds=rpc_timeout_s))
        self._source = source
        self._handler = handler
        self._concurrency = concurrency
        self._max_deliveries = max_deliveries
        # What ended an earlier process may come first: one at a time, until something comes that nobody had before.
        self._takes_one = True
        self._message_id = message_id
        self._stop_timeout_s = stop_timeout_s
        self._longest_pause_s = longest_pause_s
        self._stopping = asyncio.Event()
        self._is_running = False
        self._works: dict[asyncio.Task[bool], Delivery] = {}
        self._last_of: dict[str, asyncio.Task[bool]] = {}
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Work until `stop`; a broker or server that is down is waited for.

        Raises:
            RuntimeError: It is running already.
            Exception: Whatever the broker's library says of a mistake in the set-up, such as missing rights.
        """
        if self._is_running:
            raise RuntimeError("this bridge is running already")
        self._is_running = True
        failures = 0
        try:
            while not self._stopping.is_set():
                try:
                    await self._source.open(self._concurrency)
                    if failures:
                        logger.warning("%s: connected again", self._source.name)
                    failures = 0
                    await self._work()
                except SourceDownError as error:
                    self.counters.source_failures += 1
                    failures += 1
                    logger.warning(
                        "%s: the broker is down and will be tried again (%s)", self._source.name, error
                    )
                finally:
                    await self._source.close()
                if failures:
                    await self._pause(failures)
        finally:
            self._is_running = False

    def stop(self) -> None:
        """Take no more messages and let `run` return once those in the works have ended; to be called on its loop."""
        self._stopping.set()
        self._changed.set()

    async def _work(self) -> None:
        """From an open source to a stop or a failure."""
        self._failure = None
        helpers = [asyncio.create_task(self._keep(every_s))] if (every_s := self._source.keep_every_s) else []
        try:
            while not self._stopping.is_set() and self._failure is None:
                if self.counters.waiting or len(self._works) >= self._concurrency:
                    self._changed.clear()
                    await self._changed.wait()
                else:
                    await self._take()
            if self._failure is None:
                await self._drain()
            if self._failure is not None:
                raise self._failure
        finally:
            await _end([*helpers, *self._works])

    async def _take(self) -> None:
        limit = 1 if self._takes_one else self._concurrency - len(self._works)
        taking = asyncio.ensure_future(self._source.take(limit))
        try:
            while not taking.done() and not self._stopping.is_set() and self._failure is None:
                self._changed.clear()
                changing = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({taking, changing}, return_when=asyncio.FIRST_COMPLETED)
                changing.cancel()
            if not taking.done() and self._failure is None:
                # Cutting it off could leave messages with a connection that nobody reads any more.
                await asyncio.wait({taking}, timeout=LAST_TAKE_S)
            if taking.done():
                await self._begin_all(taking.result())
        finally:
            await _end([taking])

    async def _begin_all(self, deliveries: Sequence[Delivery]) -> None:
        """Begins with what is new; what was delivered before is in the works alone.

        If it ends the process, nothing else is counted as delivered once more; what is counted is set aside in the end.
        """
        ordered = sorted(deliveries, key=_times_delivered)
        if ordered:
            self._takes_one = _times_delivered(ordered[-1]) > 1
        for delivery in ordered:
            is_repeated = _times_delivered(delivery) > 1
            if is_repeated:
                await self._wait_for_works()
            if self._stopping.is_set() or self._failure is not None:
                if self._failure is None:
                    await self._source.give_back(delivery)
                continue
            self._begin(delivery)
            if is_repeated:
                await self._wait_for_works()

    async def _wait_for_works(self) -> None:
        while self._works and not self._stopping.is_set() and self._failure is None:
            self._changed.clear()
            await self._changed.wait()

    def _begin(self, delivery: Delivery) -> None:
        self.counters.taken += 1
        key: str | None = None
        decision: Decision = None
        problem: str | None = None
        try:
            self._check_deliveries(delivery.message)
            delivery, decision = self._decide(delivery)
            if decision is not None:
                key = workflow_id_of(delivery.message, decision)
        except Exception as error:  # whatever the handler raises says that it can not read this message
            problem = f"{type(error).__name__}: {error}"
        before = self._last_of.get(key) if key is not None else None
        task = asyncio.create_task(self._finish(delivery, decision, problem, before))
        self._works[task] = delivery
        if key is not None:
            self._last_of[key] = task

        def ended(task: asyncio.Task[bool]) -> None:
            del self._works[task]
            if key is not None and self._last_of.get(key) is task:
                del self._last_of[key]
            if not task.cancelled() and (error := task.exception()) is not None:
                self._failure = self._failure or error
            self._changed.set()

        task.add_done_callback(ended)

    def _check_deliveries(self, message: Message) -> None:
        limit = self._max_deliveries
        if limit is not None and message.deliveries > limit:
            raise TooManyDeliveriesError(
                f"delivered for the {message.deliveries}th time; it may be what ends the process that takes it"
            )

    def _decide(self, delivery: Delivery) -> tuple[Delivery, Decision]:
        message = delivery.message
        if self._message_id is not None:
            message = replace(message, id=self._message_id(message))
            delivery = Delivery(message, delivery.receipt)
        decision = self._handler(message)
        if decision is not None and not isinstance(decision, StartWorkflow | SignalWorkflow):
            raise TypeError(f"the handler returned {decision!r}, which is no decision")
        if decision is not None and not message.id:
            raise ValueError("the message has no id to recognise it by (see `message_id` of the bridge)")
        return delivery, decision

    async def _finish(
        self, delivery: Delivery, decision: Decision, problem: str | None, before: asyncio.Task[bool] | None
    ) -> bool:
        """From the decision to the answer that the broker gets; returns whether the message is done with."""
        if before is not None and not await _is_done_with(before):
            # Behind the other in the queue is behind it here: they will come again together.
            if self._failure is None:
                await self._source.give_back(delivery)
            return False
        if problem is None and decision is None:
            await self._source.acknowledge(delivery)
            self.counters.ignored += 1
            return True
        if decision is not None:
            try:
                outcome = await self._act(delivery.message, decision)
            except RefusedError as error:
                problem = str(error)
            except NotNowError:
                await self._source.give_back(delivery)
                return False
            except ClientClosedError:
                raise
            except Exception as error:  # of converters and codecs, which see the message's values
                problem = f"{type(error).__name__}: {error}"
            else:
                if outcome is Outcome.ACTED:
                    self.counters.acted += 1
                else:
                    self.counters.repeated += 1
                await self._source.acknowledge(delivery)
                return True
        await self._source.set_aside(delivery, problem or "")
        self.counters.set_aside += 1
        logger.error(
            "%s: message %s was set aside: %s",
            self._source.name,
            delivery.message.id or "without id",
            problem,
        )
        return True

    async def _act(self, message: Message, decision: StartWorkflow | SignalWorkflow) -> Outcome:
        """Acts as soon as the server can; raises NotNowError only if it still can not when the bridge stops."""
        tries = 0
        try:
            while True:
                try:
                    return await self._acting.act(message, decision)
                except NotNowError as error:
                    if self._stopping.is_set():
                        raise
                    if not tries:
                        if not self.counters.waiting:
                            logger.warning("%s: the server takes nothing now (%s)", self._source.name, error)
                        self.counters.waiting += 1
                    tries += 1
                    await self._pause(tries)
        finally:
            if tries:
                self.counters.waiting -= 1

    async def _drain(self) -> None:
        if self._works:
            await asyncio.wait(set(self._works), timeout=self._stop_timeout_s)
        left = dict(self._works)
        await _end(left)
        for delivery in left.values():
            await self._source.give_back(delivery)

    async def _keep(self, every_s: float) -> None:
        """Keeps the broker from giving to others what is in the works."""
        try:
            while True:
                await asyncio.sleep(every_s)
                if self._works:
                    await self._source.keep(list(self._works.values()))
        except Exception as error:  # handed to whoever runs the bridge
            self._failure = self._failure or error
            self._changed.set()

    async def _pause(self, tries: int) -> None:
        """Waits longer from try to try, never evenly, and not beyond a stop."""
        longest_s = min(self._longest_pause_s, FIRST_PAUSE_S * 2 ** min(tries - 1, 30))
        try:
            async with asyncio.timeout(longest_s * random.uniform(0.5, 1.0)):
                await self._stopping.wait()
        except TimeoutError:  # the usual end of a pause
            pass


def _times_delivered(delivery: Delivery) -> int:
    return max(delivery.message.deliveries, 2 if delivery.message.redelivered else 1)


async def _is_done_with(task: asyncio.Task[bool]) -> bool:
    await asyncio.wait({task})
    return not task.cancelled() and task.exception() is None and task.result()


async def _end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancels what is still running, and waits until it has ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
