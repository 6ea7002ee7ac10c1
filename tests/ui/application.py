"""The application whose runs the UI shows: one of everything that a timeline can draw."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from perdure import activity, workflow
from perdure.common import RetryPolicy
from perdure.exceptions import ApplicationError

QUEUE = "orders"
SECOND = timedelta(seconds=1)


@dataclass
class Item:
    """Something ordered."""

    name: str
    price: float = 9.5


@activity.defn
async def reserve(item: Item) -> str:
    return f"reserved {item.name}"


@activity.defn
async def charge(item: Item) -> str:
    """Works at the third attempt."""
    if activity.info().attempt < 3:
        raise ApplicationError(f"card of {item.name} declined", type="CardDeclined")
    return f"charged {item.price}"


@activity.defn
async def never_works(text: str) -> str:
    raise ApplicationError(f"{text}: the warehouse does not answer", type="WarehouseDown")


@activity.defn
async def quick(number: int) -> int:
    return number * 2


@workflow.defn
class Shipping:
    """A child."""

    @workflow.run
    async def run(self, name: str) -> str:
        await workflow.sleep(0.2)
        return f"shipped {name}"


@workflow.defn
class Order:
    """Reserves, charges with retries, ships by a child, and waits for the delivery."""

    def __init__(self) -> None:
        self._status = "new"
        self._address = "Main Street 1"
        self._is_delivered = False

    @workflow.run
    async def run(self, item: Item) -> str:
        self._status = "reserving"
        await workflow.execute_activity(reserve, item, start_to_close_timeout=60 * SECOND)
        self._status = "charging"
        await workflow.execute_activity(
            charge,
            item,
            start_to_close_timeout=60 * SECOND,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=300), backoff_coefficient=1.5),
        )
        await workflow.sleep(0.4)
        self._status = "shipping"
        await workflow.execute_child_workflow(
            Shipping.run, item.name, id=f"{workflow.info().workflow_id}-shipping"
        )
        self._status = "waiting for the delivery"
        await workflow.wait_condition(lambda: self._is_delivered)
        return f"{item.name} delivered to {self._address}"

    @workflow.signal
    def delivered(self) -> None:
        self._is_delivered = True

    @workflow.query
    def status(self) -> str:
        return self._status

    @workflow.update
    def change_address(self, address: str) -> str:
        before, self._address = self._address, address
        return before

    @change_address.validator
    def _check_address(self, address: str) -> None:
        if not address:
            raise ApplicationError("an address is needed")


@workflow.defn
class Broken:
    """Fails because of an activity."""

    @workflow.run
    async def run(self, text: str) -> str:
        return await workflow.execute_activity(
            never_works,
            text,
            start_to_close_timeout=60 * SECOND,
            retry_policy=RetryPolicy(maximum_attempts=2, initial_interval=timedelta(milliseconds=50)),
        )


@workflow.defn
class Stuck:
    """Waits for an activity that fails again and again."""

    @workflow.run
    async def run(self, text: str) -> str:
        return await workflow.execute_activity(
            never_works,
            text,
            start_to_close_timeout=60 * SECOND,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=100),
                maximum_interval=300 * SECOND,
                backoff_coefficient=8,
            ),
        )


@workflow.defn
class Wide:
    """Many activities, some at a time."""

    @workflow.run
    async def run(self, batches: int, size: int) -> int:
        total = 0
        for batch in range(batches):
            total += sum(
                await asyncio.gather(
                    *(
                        workflow.execute_activity(
                            quick, batch * size + number, start_to_close_timeout=60 * SECOND
                        )
                        for number in range(size)
                    )
                )
            )
        return total


@workflow.defn
class Nap:
    """Sleeps for a month, and counts signals meanwhile."""

    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity(quick, 1, start_to_close_timeout=60 * SECOND)
        await workflow.sleep(timedelta(days=30))
        return "awake"

    @workflow.signal
    def poke(self) -> None:
        """Nothing follows from it."""


WORKFLOWS = (Order, Shipping, Broken, Stuck, Wide, Nap)
ACTIVITIES = (reserve, charge, never_works, quick)
