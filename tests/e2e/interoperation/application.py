"""An application that uses most of what the SDK offers; `twins.py` makes the official SDK's of the same text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from perdure import activity, workflow
from perdure.common import RetryPolicy, SearchAttributeKey
from perdure.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    FailureError,
)

LIMIT = timedelta(seconds=60)
SOON = RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=3)
COLOUR = SearchAttributeKey.for_keyword("Colour")


@dataclass
class Item:
    """What is ordered.

    Attributes:
        name: Of the thing.
        count: How many.
    """

    name: str
    count: int = 1


@dataclass
class Order:
    """An order with items in it.

    Attributes:
        id: Of the order.
        items: What is ordered.
        due: Until when.
    """

    id: str
    items: list[Item] = field(default_factory=list)
    due: datetime | None = None


@activity.defn
async def price(order: Order) -> int:
    """Add up counts; a dataclass in a dataclass arrives as such."""
    return sum(item.count for item in order.items)


@activity.defn
async def unreliable(attempts: int) -> int:
    """Fail until the given attempt."""
    if activity.info().attempt < attempts:
        raise ApplicationError("not yet", activity.info().attempt, type="NotYet")
    return activity.info().attempt


@activity.defn
async def refuse(text: str) -> None:
    """Fail for good, with a cause and details."""
    try:
        raise ValueError(text)
    except ValueError as error:
        raise ApplicationError("refused", Item(text, 7), type="Refused", non_retryable=True) from error


@activity.defn
async def wait_for_cancellation() -> str:
    """Send heartbeats until cancelled."""
    try:
        while True:
            activity.heartbeat("still there")
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return "cleaned up"


@workflow.defn
class Activities:
    """Activities, retries, local activities, a failure with a cause, a cancelled activity."""

    @workflow.run
    async def run(self, order: Order) -> list[Any]:
        found: list[Any] = [
            await workflow.execute_activity(price, order, start_to_close_timeout=LIMIT),
            await workflow.execute_activity(unreliable, 3, start_to_close_timeout=LIMIT, retry_policy=SOON),
            *await asyncio.gather(
                workflow.execute_local_activity(price, order, start_to_close_timeout=LIMIT),
                workflow.execute_local_activity(
                    unreliable, 2, start_to_close_timeout=LIMIT, retry_policy=SOON
                ),
                workflow.execute_activity(price, order, start_to_close_timeout=LIMIT),
            ),
        ]
        for execute in (workflow.execute_activity, workflow.execute_local_activity):
            try:
                await execute(refuse, "no", start_to_close_timeout=LIMIT)
            except FailureError as error:
                # A local activity's own failure comes as it is, without an ActivityError around it.
                cause = error.cause if isinstance(error, ActivityError) else error
                if isinstance(cause, ApplicationError) and isinstance(cause.cause, ApplicationError):
                    inner = cause.cause
                    names = [type(error).__name__, cause.type, inner.type, inner.message]
                    found.append([*names, list(cause.details)])
        handle = workflow.start_activity(
            wait_for_cancellation,
            start_to_close_timeout=LIMIT,
            heartbeat_timeout=timedelta(seconds=2),
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        )
        await asyncio.sleep(0.01)
        handle.cancel()
        try:
            await handle
        except ActivityError as error:
            found.append(isinstance(error.cause, CancelledError))
        return found


@workflow.defn
class Messages:
    """Signals, queries, updates, timers, patches, memo and search attributes."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.is_over = False

    @workflow.run
    async def run(self, order: Order) -> dict[str, Any]:
        timed_out = False
        try:
            await workflow.wait_condition(lambda: self.is_over, timeout=0.01)
        except TimeoutError:
            timed_out = True
        workflow.upsert_memo({"words": 1, "order": order.id})
        workflow.upsert_search_attributes([COLOUR.value_set("red")])
        way = "new" if workflow.patched("one") else "old"
        workflow.deprecate_patch("two")
        sleeper = asyncio.create_task(asyncio.sleep(1000))
        await workflow.wait_condition(lambda: self.is_over)
        sleeper.cancel()
        await asyncio.sleep(0.01)
        async with asyncio.timeout(100):
            await workflow.execute_activity(price, order, start_to_close_timeout=LIMIT)
        return {
            "words": self.words,
            "way": way,
            "timed_out": timed_out,
            "memo": workflow.memo_value("words"),
            "colour": workflow.info().typed_search_attributes[COLOUR],
            "due": order.due,
            "random": workflow.random().random(),
            "uuid": str(workflow.uuid4()),
        }

    @workflow.signal
    async def say(self, item: Item) -> None:
        await workflow.execute_activity(price, Order("", [item]), start_to_close_timeout=LIMIT)
        self.words.append(item.name)

    @workflow.signal
    def end(self) -> None:
        self.is_over = True

    @workflow.query
    def said(self) -> list[str]:
        return self.words

    @workflow.update
    async def add(self, item: Item) -> int:
        if item.count > 50:
            raise ApplicationError("too many of them", item, type="TooMany")
        await asyncio.sleep(0.01)
        self.words.append(item.name)
        return len(self.words)

    @add.validator
    def check(self, item: Item) -> None:
        if not item.count:
            raise ValueError("none of them")


@workflow.defn
class Child:
    """What parents start."""

    def __init__(self) -> None:
        self.text = ""

    @workflow.run
    async def run(self, does: str) -> str:
        if does == "fail":
            raise ApplicationError("child failed", 1, type="Naughty") from ValueError("deep inside")
        if does == "wait":
            await workflow.wait_condition(lambda: bool(self.text))
        if does == "sleep":
            await asyncio.sleep(1000)
        return self.text or does

    @workflow.signal
    def tell(self, text: str) -> None:
        self.text = text


@workflow.defn
class Parent:
    """Children with ids from uuid4, random and the default, their failures and cancellation; continue-as-new."""

    @workflow.run
    async def run(self, runs_left: int, found: list[Any]) -> list[Any]:
        child_id = f"{workflow.info().workflow_id}-{workflow.uuid4()}"
        found.append(await workflow.execute_child_workflow(Child.run, "one", id=child_id))
        number = workflow.random().getrandbits(60)
        found.append(await workflow.execute_child_workflow(Child.run, "two", id=f"child-{number}"))
        child = await workflow.start_child_workflow(Child.run, "wait")
        await child.signal(Child.tell, "told")
        found.append(await child)
        try:
            await workflow.execute_child_workflow(Child.run, "fail")
        except ChildWorkflowError as error:
            cause = error.cause
            if isinstance(cause, ApplicationError):
                found.append([cause.type, str(cause.cause)])
        sleeping = await workflow.start_child_workflow(Child.run, "sleep")
        await workflow.get_external_workflow_handle(sleeping.id).signal("tell", "nothing")
        sleeping.cancel()
        try:
            await sleeping
        except ChildWorkflowError as error:
            found.append(type(error.cause).__name__)
        try:
            await workflow.get_external_workflow_handle("nobody at all").signal("tell", "")
        except FailureError as error:
            found.append(str(error) != "")
        if runs_left:
            workflow.continue_as_new(args=[runs_left - 1, found])
        return found


@workflow.defn
class Cancelled:
    """Cleans up when it is cancelled."""

    @workflow.run
    async def run(self) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await workflow.execute_activity(price, Order("clean"), start_to_close_timeout=LIMIT)


@workflow.defn
class Failing:
    """Fails with an activity's failure as its cause."""

    @workflow.run
    async def run(self) -> None:
        try:
            await workflow.execute_activity(refuse, "deep", start_to_close_timeout=LIMIT)
        except ActivityError as error:
            raise ApplicationError("failed", Item("detail", 2), type="Outer") from error


WORKFLOWS: list[type] = [Activities, Messages, Child, Parent, Cancelled, Failing]
ACTIVITIES: list[Callable[..., Any]] = [price, unreliable, refuse, wait_for_cancellation]
