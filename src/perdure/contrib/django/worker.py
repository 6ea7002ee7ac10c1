"""A worker of a Django project: what was discovered, with threads and database connections looked after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from perdure.client import Client
from perdure.contrib.django import bridge
from perdure.contrib.django.calls import is_outbox, send_waiting
from perdure.contrib.django.connections import ConnectionInterceptor, with_connections
from perdure.contrib.django.discovery import discover
from perdure.contrib.django.settings import perdure_settings
from perdure.worker import Worker

logger = logging.getLogger("perdure.django")


def new_worker(client: Client, task_queue: str = "", activities: Sequence[Callable[..., Any]] = ()) -> Worker:
    """Make the worker of this project.

    Args:
        client: Of the settings' server.
        task_queue: Instead of that of the settings.
        activities: Besides those that are found, such as methods of an object.

    Raises:
        ImproperlyConfigured: There is nothing to run.
    """
    given, found = perdure_settings(), discover()
    all_activities = [*found.activities, *activities]
    if not (found.workflows or all_activities):
        raise ImproperlyConfigured(
            "No installed application has a module `workflows` or `activities` with anything to run in it."
        )
    return Worker(
        client,
        task_queue=task_queue or given.task_queue,
        workflows=found.workflows,
        activities=all_activities,
        activity_executor=ThreadPoolExecutor(given.threads, "perdure-activity"),
        max_concurrent_activities=given.threads if all_activities else None,
        interceptors=[ConnectionInterceptor()],
    )


def sweep(older_than_s: float) -> None:
    """Send calls that were left behind, of every database; what is wrong with one does not concern the others."""
    for alias in connections:
        try:
            if is_outbox(alias):
                sent = send_waiting(older_than_s=older_than_s, using=alias)
                if sent:
                    logger.info("Sent %d calls that were left behind", sent)
        except Exception as error:  # the database or the server is away: the next round may find both
            logger.warning("Calls that wait could not be sent: %s", error)


async def sweep_for_ever() -> None:
    """Send calls whose process could not, now and then, until cancelled."""
    given = perdure_settings()
    # Thread-sensitive code would wait for asyncio's main thread in a process that has no such thread.
    sweep_all = sync_to_async(with_connections(sweep), thread_sensitive=False)
    while True:
        await sweep_all(given.sweep_after_s)
        await asyncio.sleep(given.sweep_interval_s)


@contextmanager
def working(task_queue: str = "", activities: Sequence[Callable[..., Any]] = ()) -> Iterator[None]:
    """Run a worker beside synchronous code, such as a test with Django's client.

    With `PERDURE = {"ADDRESS": "sqlite://"}` the engine is in this process and in memory.
    """

    async def start(client: Client) -> tuple[Worker, asyncio.Task[None]]:
        worker = new_worker(client, task_queue, activities)
        return worker, asyncio.create_task(worker.run())

    async def stop() -> None:
        await worker.shutdown()
        await running

    worker, running = bridge.run(start)
    try:
        yield
    finally:
        bridge.compute(stop())
