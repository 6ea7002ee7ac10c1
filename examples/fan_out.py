"""A fan-out with progress: many files at once, never more than a few at a time, and anybody may ask how far it is.

Run `python -m examples.fan_out`.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError
from perdure.worker import Worker

TASK_QUEUE = "thumbnails"
TWICE = RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=2)


@dataclass(frozen=True)
class Album:
    """The files to work on, and how many at a time."""

    files: list[str]
    at_once: int = 5


@dataclass(frozen=True)
class Progress:
    """How far it is."""

    done: int
    failed: list[str]
    total: int


@activity.defn
async def make_thumbnail(file: str) -> str:
    """Makes one thumbnail; a file that is no picture fails for good."""
    if not file.endswith(".jpg"):
        raise ValueError(f"{file} is no picture")
    return file.replace(".jpg", ".small.jpg")


@workflow.defn
class MakeThumbnails:
    """One activity for each file; failures are collected, not fatal."""

    @workflow.init
    def __init__(self, album: Album) -> None:
        self._done: dict[str, str] = {}
        self._failed: list[str] = []
        self._total = len(album.files)
        self._slots = asyncio.Semaphore(album.at_once)

    @workflow.run
    async def run(self, album: Album) -> Progress:
        """Returns the final progress."""
        async with asyncio.TaskGroup() as group:
            for file in album.files:
                group.create_task(self._make(file))
        return self.progress()

    async def _make(self, file: str) -> None:
        async with self._slots:
            try:
                self._done[file] = await workflow.execute_activity(
                    make_thumbnail,
                    file,
                    start_to_close_timeout=timedelta(minutes=5),
                    retry_policy=TWICE,
                    summary=file,
                )
            except ActivityError:
                self._failed.append(file)
        workflow.set_current_details(f"{len(self._done)} of {self._total} done, {len(self._failed)} failed")

    @workflow.query
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(len(self._done), sorted(self._failed), self._total)


async def main(address: str) -> None:
    """Makes the thumbnails of an album with one file that is no picture."""
    client = await Client.connect(address)
    album = Album([*(f"{number}.jpg" for number in range(20)), "notes.txt"])
    async with Worker(client, task_queue=TASK_QUEUE, workflows=[MakeThumbnails], activities=[make_thumbnail]):
        handle = await client.start_workflow(MakeThumbnails.run, album, id="album-1", task_queue=TASK_QUEUE)
        print(await handle.query(MakeThumbnails.progress))
        print(await handle.result())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite://"))
