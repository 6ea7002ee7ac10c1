"""A worker in a process of its own: `python -m tests.e2e.worker.worker_process ADDRESS TASK_QUEUE MARKS`.

Each attempt of an activity adds one line to the file MARKS, so that a test sees what ran.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy
from perdure.worker import Worker

STEPS = 3


def make_mark(marks: Path) -> Callable[[str], Awaitable[str]]:
    """Return the activity that adds a line to a file."""

    @activity.defn(name="mark")
    async def mark(text: str) -> str:
        with marks.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
        return text

    return mark


@workflow.defn
class Steps:
    """Runs an activity a few times, one after the other."""

    @workflow.run
    async def run(self, name: str) -> list[str]:
        return [
            await workflow.execute_activity(
                "mark",
                f"{name}-{step}",
                start_to_close_timeout=timedelta(seconds=2),
                retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
                result_type=str,
            )
            for step in range(STEPS)
        ]


async def main(address: str, task_queue: str, marks: Path) -> None:
    """Run the worker until the process ends."""
    client = await Client.connect(address)
    await Worker(
        client,
        task_queue=task_queue,
        workflows=[Steps],
        activities=[make_mark(marks)],
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    ).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
