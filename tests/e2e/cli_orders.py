"""A workflow with an activity that is tried twice, a timer and a child, for tests of the command line."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from perdure import activity, workflow
from perdure.common import RetryPolicy


@activity.defn
async def charge(name: str) -> str:
    """Fails the first time."""
    if activity.info().attempt == 1:
        raise ValueError("card refused")
    return f"charged {name}"


@workflow.defn
class Parcel:
    """The child."""

    @workflow.run
    async def run(self, name: str) -> str:
        """Nothing to do."""
        return name


@workflow.defn
class Order:
    """The parent."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @workflow.run
    async def run(self, name: str) -> str:
        """One of everything."""
        charged = await workflow.execute_activity(
            charge,
            name,
            start_to_close_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1)),
        )
        await asyncio.sleep(0.01)
        await workflow.execute_child_workflow(Parcel.run, name, id=f"{workflow.info().workflow_id}-parcel")
        await workflow.wait_condition(lambda: bool(self.notes))
        return charged

    @workflow.signal
    def note(self, text: str) -> None:
        """What the workflow waits for at the end."""
        self.notes.append(text)
