"""A worker process for the tests that kill it: `python -m tests.e2e.sdk_worker ADDRESS QUEUE MARKER`."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from tests.e2e.sdk_activities import HANG_LIMIT_S
from tests.e2e.sdk_workflows import Collector, RunActivity


class Doomed:
    """An activity that says in a file that it began, heartbeats once, and never ends."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    @activity.defn(name="survive")
    async def survive(self) -> str:
        """Write the marker and hang."""
        activity.heartbeat("before the kill")
        self._marker.write_text(str(activity.info().attempt), encoding="utf-8")
        await asyncio.sleep(HANG_LIMIT_S)
        return "survived"


async def main(address: str, task_queue: str, marker: Path) -> None:
    """Work until killed."""
    client = await Client.connect(address)
    worker = Worker(
        client,
        task_queue=task_queue,
        workflows=[RunActivity, Collector],
        activities=[Doomed(marker).survive],
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
    )
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
