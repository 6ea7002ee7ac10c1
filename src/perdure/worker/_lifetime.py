"""From the first poll of a worker to its last answer."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure.api.enums.v1 import TaskQueueType, WorkerStatus
from perdure.api.workflowservice.v1 import ShutdownWorkerRequest
from perdure.service import RPCError
from perdure.service.eager_workflows import sign_off, sign_up
from perdure.worker._assembly import Parts
from perdure.worker._config import WorkerConfig
from perdure.worker._eager import EagerWorkflowSlots
from perdure.worker._pollers import PollerGroup
from perdure.worker._polls import activity_pollers, nexus_pollers, workflow_pollers
from perdure.worker._worker_heartbeats import WorkerHeartbeats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.runtime import Runtime
    from perdure.worker._plugin import Plugin

logger = logging.getLogger("perdure.worker")

_SAY_GOODBYE_TIMEOUT = timedelta(seconds=5)
# A server that ends polls by itself does it at once; one that does not is not waited for.
_POLLS_END_S = 2.0


class WorkerLifetime:
    """Runs the parts of a worker.

    Args:
        parts: Of the worker.
        config: Of the worker.
        runtime: Of the worker's client.
        plugins: Of the client and the worker.
    """

    def __init__(
        self, parts: Parts, config: WorkerConfig, runtime: Runtime, plugins: Sequence[Plugin]
    ) -> None:
        self._parts = parts
        self._grace_s = config.get("graceful_shutdown_timeout", timedelta()).total_seconds()
        self._groups: list[PollerGroup[Any]] = []
        self._polling: list[asyncio.Task[None]] = []
        environment = parts.environment
        self._service = environment.client.service_client
        self._eager: EagerWorkflowSlots | None = None
        if parts.workflow_worker is not None:
            parts.workflow_worker.start()
            self._groups += workflow_pollers(
                environment, config, parts.workflow_worker, parts.workflow_slots, parts.sticky_queue
            )
            self._eager = EagerWorkflowSlots(parts.workflow_worker, parts.workflow_slots)
            sign_up(self._service, *self._queue, self._eager)
        if parts.activity_worker is not None and not config.get("no_remote_activities"):
            self._groups += activity_pollers(environment, config, parts.activity_worker)
        if parts.nexus_worker is not None:
            self._groups += nexus_pollers(environment, config, parts.nexus_worker)
        names = [plugin.name() for plugin in plugins]
        self._heartbeats = WorkerHeartbeats(parts, self._groups, names, runtime)
        self._beating: asyncio.Task[None] | None = None

    @property
    def _queue(self) -> tuple[str, str]:
        return self._parts.environment.namespace, self._parts.environment.task_queue

    def abandon(self) -> None:
        """End before the first poll."""
        self._sign_off()

    def _sign_off(self) -> None:
        if self._eager is not None:
            sign_off(self._service, *self._queue, self._eager)

    async def run_until(
        self, shutdown: asyncio.Event, fatal: list[tuple[str, BaseException]]
    ) -> BaseException | None:
        """Poll until the shutdown is asked for or a part cannot go on.

        Args:
            shutdown: Set when the worker is to end.
            fatal: The parts and errors because of which it was set.

        Returns:
            Why the worker has to end; None if it was asked to.
        """
        loop = asyncio.get_running_loop()
        self._polling = [loop.create_task(group.run()) for group in self._groups]
        self._beating = loop.create_task(self._heartbeats.run())
        if self._parts.environment.metrics is not None:
            self._parts.environment.metrics.started()
        asked = loop.create_task(shutdown.wait())
        try:
            await asyncio.wait([*self._polling, asked], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        if fatal:
            return _failed(*fatal[0])
        for group, task in zip(self._groups, self._polling, strict=True):
            error = task.exception() if task.done() else None
            if error is not None:
                return _failed(group.kind, error)
        return None

    async def shut_down(self) -> None:
        """End: no new tasks; those under way finish, or are cancelled when their time of grace is over."""
        logger.info(
            "Beginning worker shutdown, will wait %s before cancelling activities",
            timedelta(seconds=self._grace_s),
        )
        self._sign_off()
        for group in self._groups:
            group.stop()
        try:
            if self._beating is not None:
                self._beating.cancel()
                await asyncio.wait([self._beating])
            await self._end_everything()
        except BaseException:  # cancelled too: then nothing more is waited for
            self._end_at_once()
            raise

    def _end_at_once(self) -> None:
        """No time is left to end in order; but nothing may be polled, or go on, for a worker that is gone."""
        parts = self._parts
        for polling in self._polling:
            polling.cancel()
        if parts.workflow_worker is not None:
            parts.workflow_worker.stop()
        if parts.activity_worker is not None:
            parts.activity_worker.cancel()
        if parts.nexus_worker is not None:
            parts.nexus_worker.cancel()
        if parts.local_activities is not None:
            parts.local_activities.abandon()

    async def _end_everything(self) -> None:
        parts = self._parts
        if parts.activity_worker is not None:
            parts.activity_worker.notify_shutdown()
        if parts.nexus_worker is not None:
            parts.nexus_worker.notify_shutdown()
        ends_polls = await self._say_goodbye()
        await self._end_polls(_POLLS_END_S if ends_polls else 0.0)
        endings = []
        if parts.activity_worker is not None:
            endings.append(parts.activity_worker.drain(self._grace_s))
        if parts.nexus_worker is not None:
            endings.append(parts.nexus_worker.drain(self._grace_s))
        if parts.workflow_worker is not None:
            parts.workflow_worker.stop()
            endings.append(parts.workflow_worker.drain(self._grace_s))
        await asyncio.gather(*endings)
        if parts.activity_worker is not None:
            # The last workflow tasks may have brought activities with their answers.
            await parts.activity_worker.drain(0.0)
        if parts.local_activities is not None:
            parts.local_activities.abandon()
            await parts.local_activities.drain()

    async def _say_goodbye(self) -> bool:
        """Tell the server that this worker's queue is gone, and return whether it ends the polls by itself."""
        parts = self._parts
        environment = parts.environment
        types = []
        if parts.workflow_worker is not None:
            types.append(TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)
        if parts.activity_worker is not None:
            types.append(TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
        if parts.nexus_worker is not None:
            types.append(TaskQueueType.TASK_QUEUE_TYPE_NEXUS)
        request = ShutdownWorkerRequest(
            namespace=environment.namespace,
            sticky_task_queue=parts.sticky_queue or "",
            identity=environment.identity,
            reason="graceful shutdown",
            worker_instance_key=environment.instance_key,
            task_queue=environment.task_queue,
            task_queue_types=types,
        )
        if self._heartbeats.is_on:
            # Servers strike the worker from the list of those that live.
            last = self._heartbeats.message(WorkerStatus.WORKER_STATUS_SHUTTING_DOWN)
            request.worker_heartbeat.CopyFrom(last)
        try:
            await environment.service.shutdown_worker(request, timeout=_SAY_GOODBYE_TIMEOUT)
        except RPCError as error:
            logger.debug("The server was not told of the shutdown: %s", error.message)
            return False
        capabilities = environment.capabilities
        return capabilities is not None and capabilities.worker_poll_complete_on_shutdown

    async def _end_polls(self, timeout_s: float) -> None:
        if timeout_s and self._polling:
            await asyncio.wait(self._polling, timeout=timeout_s)
        await asyncio.gather(*(group.cancel() for group in self._groups))
        await asyncio.gather(*self._polling, return_exceptions=True)


def _failed(kind: str, cause: BaseException) -> RuntimeError:
    error = RuntimeError(f"{kind} worker failed")
    error.__cause__ = cause
    return error
