"""What a worker tells the server about itself from time to time, so that people see which workers live and how busy.

May live here: the message and when it is sent. May not: what is counted (`_slots`, `_pollers`, `_workflow_cache`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import socket
import time
import uuid
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from perdure import __version__
from perdure.api.enums.v1 import WorkerStatus
from perdure.api.worker.v1 import EnvironmentInfo, WorkerHeartbeat, WorkerSlotsInfo
from perdure.api.workflowservice.v1 import RecordWorkerHeartbeatRequest
from perdure.service import RPCError, RPCStatusCode
from perdure.service._config import CLIENT_NAME
from perdure.worker._assembly import Parts
from perdure.worker._pollers import PollerGroup
from perdure.worker._resources import ResourceUse
from perdure.worker._slots import SlotTally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.runtime import Runtime

logger = logging.getLogger("perdure.worker")

_CALL_TIMEOUT: Final = timedelta(seconds=5)
_POLLERS: Final = {
    ("Workflow", False): "workflow_poller_info",
    ("Workflow", True): "workflow_sticky_poller_info",
    ("Activity", False): "activity_poller_info",
    ("Nexus", False): "nexus_poller_info",
}
_MACHINES: Final = {"x86_64": "AMD64", "amd64": "AMD64", "aarch64": "ARM64", "arm64": "ARM64"}
_LIBRARIES: Final = {"glibc": "GLIBC", "musl": "MUSL"}


class WorkerHeartbeats:
    """Tells the server how a worker is.

    Args:
        parts: Of the worker.
        groups: Its polls.
        plugins: Names of its plugins.
        runtime: Says how often, and whether the environment is told.
    """

    def __init__(
        self,
        parts: Parts,
        groups: Sequence[PollerGroup[Any]],
        plugins: Sequence[str],
        runtime: Runtime,
    ) -> None:
        self._parts = parts
        self._environment = parts.environment
        self._groups = groups
        self._plugins = plugins
        storage = parts.environment.data_converter.external_storage
        # Asked once: they are the user's code, and what they raise must not end heartbeats or the shutdown.
        self._drivers = sorted({driver.type() for driver in storage.drivers}) if storage else []
        self._interval = runtime._worker_heartbeat_interval
        self._tells_environment = not runtime._disable_environment_info
        self._started_ns = time.time_ns()
        self._last_s: float | None = None
        self._use = ResourceUse()
        # Tasks and failures by field, as they were told last.
        self._told: dict[str, tuple[int, int]] = {}

    @property
    def is_on(self) -> bool:
        """Whether the user wants heartbeats and the server takes them."""
        capabilities = self._environment.capabilities
        return self._interval is not None and capabilities is not None and capabilities.worker_heartbeats

    async def run(self) -> None:
        """Send heartbeats until cancelled, or until the server says that it takes none."""
        while self.is_on and self._interval is not None:
            request = RecordWorkerHeartbeatRequest(
                namespace=self._environment.namespace,
                identity=self._environment.identity,
                worker_heartbeat=[self.message(WorkerStatus.WORKER_STATUS_RUNNING)],
            )
            try:
                await self._environment.service.record_worker_heartbeat(request, timeout=_CALL_TIMEOUT)
            except RPCError as error:
                if error.status is RPCStatusCode.UNIMPLEMENTED:
                    return
                # The next one says the same and more.
                logger.debug("A heartbeat of the worker was not accepted: %s", error.message)
            await asyncio.sleep(self._interval.total_seconds())

    def message(self, status: int) -> WorkerHeartbeat:
        """Return how the worker is; the next message counts from this one on.

        Args:
            status: A `WorkerStatus`.
        """
        environment = self._environment
        heartbeat = WorkerHeartbeat(
            worker_instance_key=environment.instance_key,
            worker_identity=environment.identity,
            task_queue=environment.task_queue,
            sdk_name=CLIENT_NAME,
            sdk_version=__version__,
        )
        heartbeat.status = status  # type: ignore[assignment]  # an enum number
        if environment.deployment is not None:
            heartbeat.deployment_version.deployment_name = environment.deployment.deployment_name
            heartbeat.deployment_version.build_id = environment.deployment.build_id
        heartbeat.start_time.FromNanoseconds(self._started_ns)
        heartbeat.heartbeat_time.FromNanoseconds(time.time_ns())
        now_s = time.monotonic()
        if self._last_s is not None:
            heartbeat.elapsed_since_last_heartbeat.FromTimedelta(timedelta(seconds=now_s - self._last_s))
        self._last_s = now_s
        self._fill_host(heartbeat)
        self._fill_work(heartbeat)
        for name in self._plugins:
            heartbeat.plugins.add(name=name)
        for driver_type in self._drivers:
            heartbeat.drivers.add(type=driver_type)
        if self._tells_environment:
            heartbeat.environment.CopyFrom(_environment_info())
        return heartbeat

    def _fill_host(self, heartbeat: WorkerHeartbeat) -> None:
        host = heartbeat.host_info
        host.host_name = socket.gethostname()
        host.worker_grouping_key = _process_key(os.getpid())
        host.process_id = str(os.getpid())
        host.current_host_mem_usage, host.current_host_cpu_usage = self._use.current()

    def _fill_work(self, heartbeat: WorkerHeartbeat) -> None:
        for field, tally in self._parts.tallies():
            self._fill_slots(getattr(heartbeat, field), field, tally)
        for group in self._groups:
            info: Any = getattr(heartbeat, _POLLERS[group.kind, group.is_sticky])
            info.current_pollers = group.open_polls
            info.is_autoscaling = group.is_autoscaling
            if group.last_task_at_s is not None:
                info.last_successful_poll_time.FromNanoseconds(int(group.last_task_at_s * 1e9))
        if self._parts.workflow_worker is not None:
            runs = self._parts.workflow_worker.cache
            heartbeat.total_sticky_cache_hit = runs.hits
            heartbeat.total_sticky_cache_miss = runs.misses
            heartbeat.current_sticky_cache_size = len(runs)

    def _fill_slots(self, info: WorkerSlotsInfo, field: str, tally: SlotTally) -> None:
        processed, failed = self._told.get(field, (0, 0))
        self._told[field] = (tally.processed, tally.failed)
        info.current_available_slots = tally.available or 0
        info.current_used_slots = tally.used
        info.slot_supplier_kind = tally.supplier_kind
        info.total_processed_tasks = tally.processed
        info.total_failed_tasks = tally.failed
        info.last_interval_processed_tasks = tally.processed - processed
        info.last_interval_failure_tasks = tally.failed - failed


@cache
def _process_key(process_id: int) -> str:
    """Names this process: workers with the same key share it."""
    return uuid.uuid4().hex


@cache
def _environment_info() -> EnvironmentInfo:
    info = EnvironmentInfo()
    runtime = info.runtimes.add(version=platform.python_version())
    runtime.type = "RUNTIME_TYPE_CPYTHON"  # type: ignore[assignment]  # by name
    system = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}.get(platform.system())
    if system is not None:
        described: Any = getattr(info.platform, system)
        described.version = platform.release()
        described.architecture = f"ARCHITECTURE_{_MACHINES.get(platform.machine().lower(), 'UNSPECIFIED')}"
        if system == "linux":
            described.libc = f"LIBC_{_LIBRARIES.get(platform.libc_ver()[0], 'UNSPECIFIED')}"
    return info
