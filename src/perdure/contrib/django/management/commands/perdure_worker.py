"""`manage.py perdure_worker`: runs the project's workflows and activities, and sends calls that were left behind."""

from __future__ import annotations

import asyncio
import signal
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from perdure.contrib.django import bridge
from perdure.contrib.django.settings import perdure_settings
from perdure.contrib.django.worker import new_worker, sweep_for_ever
from perdure.service import ClientConnectError
from perdure.worker import WorkerValidationError


class Command(BaseCommand):
    """The command."""

    help = (
        "Run workflows and activities of the installed applications (their modules workflows and activities)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What stands behind the command's name."""
        parser.add_argument("--task-queue", default="", help="instead of PERDURE['TASK_QUEUE']")

    def handle(self, *args: Any, **options: Any) -> None:
        """Works until it is told to stop; what is under way is finished."""
        given = perdure_settings()
        try:
            asyncio.run(self._work(options["task_queue"] or given.task_queue))
        except (ClientConnectError, WorkerValidationError) as error:
            raise CommandError(f"{error} (PERDURE['ADDRESS'] is {given.address!r})") from error
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error

    async def _work(self, task_queue: str) -> None:
        client = await bridge.connect()
        worker, stopping = new_worker(client, task_queue), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        running, sweeping = asyncio.create_task(worker.run()), asyncio.create_task(sweep_for_ever())
        told = asyncio.create_task(stopping.wait())
        self.stdout.write(
            f"Working on task queue {task_queue!r}; Ctrl-C ends it when what is under way is done."
        )
        try:
            await asyncio.wait([running, told], return_when=asyncio.FIRST_COMPLETED)
            await worker.shutdown()
            await running
        finally:
            told.cancel()
            sweeping.cancel()
            await client.close()
