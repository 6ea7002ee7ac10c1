"""What the worker of the command's scenarios runs. No test code here: the sandbox imports it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

_LONG: Final = timedelta(hours=1)


@activity.defn
async def echo(text: str) -> str:
    """Answer what was given."""
    return text


@activity.defn
async def broken() -> None:
    """Fail for good."""
    raise ApplicationError("broken on purpose", type="Odd")


@activity.defn
async def attended() -> None:
    """Leave the completion to somebody else."""
    activity.raise_complete_async()


@workflow.defn
class Echo:
    """Answer what was given."""

    @workflow.run
    async def run(self, text: str) -> str:
        """At once."""
        return text


@workflow.defn
class Broken:
    """Fail with the type that was given."""

    @workflow.run
    async def run(self, kind: str) -> None:
        """At once."""
        raise ApplicationError("failed on purpose", {"page": 1}, type=kind)


@workflow.defn
class Everyday:
    """Collect what signals and updates bring, until told to stop."""

    def __init__(self) -> None:
        self._items: list[str] = []
        self._stopped = False

    @workflow.run
    async def run(self) -> list[str]:
        """Wait for the signal to stop."""
        workflow.set_current_details("waits for **items**")
        await workflow.wait_condition(lambda: self._stopped)
        return self._items

    @workflow.signal(description="adds an item")
    def add(self, item: str) -> None:
        """One more."""
        self._items.append(item)

    @workflow.signal
    def stop(self) -> None:
        """Enough."""
        self._stopped = True

    @workflow.query
    def items(self) -> list[str]:
        """What was collected."""
        return self._items

    @workflow.update
    async def put(self, item: str) -> int:
        """Add an item and answer how many there are."""
        if item == "fail":
            raise ApplicationError("not this one", type="Odd")
        self._items.append(item)
        return len(self._items)

    @put.validator
    def _check(self, item: str) -> None:
        if not item:
            raise ApplicationError("an empty item")


@workflow.defn
class Parent:
    """Run a child."""

    @workflow.run
    async def run(self, child_id: str) -> str:
        """With the id that was given."""
        return await workflow.execute_child_workflow(Echo.run, "from the child", id=child_id)


@workflow.defn
class Busy:
    """Have an activity, a timer and a child under way, the first and the last on a queue that nobody serves."""

    @workflow.run
    async def run(self, queue: str) -> None:
        """Wait for all of them."""
        await asyncio.gather(
            workflow.execute_activity(
                "Nothing",
                task_queue=queue,
                activity_id="a",
                start_to_close_timeout=_LONG,
                summary="an activity",
            ),
            workflow.sleep(_LONG, summary="a timer"),
            workflow.execute_child_workflow(
                "Nothing",
                id=f"{workflow.info().workflow_id}-child",
                task_queue=queue,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            ),
        )


@workflow.defn
class Attended:
    """Run an activity that somebody else completes."""

    @workflow.run
    async def run(self) -> str:
        """Answer its result."""
        return str(await workflow.execute_activity("attended", activity_id="a", start_to_close_timeout=_LONG))
