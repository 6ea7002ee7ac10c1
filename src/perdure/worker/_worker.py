"""The worker: its arguments, and its life from `run` to the end of `shutdown`.

What it does in between is in the parts that `_assembly` puts together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, cast

from perdure.runtime import Runtime
from perdure.server import collector
from perdure.worker._assembly import assemble, is_debugged, make_environment, plugins_of
from perdure.worker._config import WorkerConfig, WorkerDeploymentConfig, check_config
from perdure.worker._interceptor import Interceptor
from perdure.worker._lifetime import WorkerLifetime
from perdure.worker._logs import one_line
from perdure.worker._metrics import WorkerMetrics
from perdure.worker._plugin import Plugin
from perdure.worker._poller_behavior import DEFAULT_POLLER_BEHAVIOR, PollerBehavior
from perdure.worker._runners import UnsandboxedWorkflowRunner, WorkflowRunner
from perdure.worker._shared_state import SharedStateManager
from perdure.worker._sizes import limits_of
from perdure.worker._tuning import WorkerTuner
from perdure.worker._validation import validate
from perdure.worker.workflow_code import PatchActivationInput
from perdure.worker.workflow_sandbox import SandboxedWorkflowRunner

if TYPE_CHECKING:
    from perdure.client import Client

logger = logging.getLogger("perdure.worker")

_RUNNER = SandboxedWorkflowRunner()
_UNSANDBOXED_RUNNER = UnsandboxedWorkflowRunner()


class Worker:
    """Runs workflows and activities of one task queue.

    Run it with `run` and end it with `shutdown`, or use it with `async with`.
    """

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str,
        activities: Sequence[Callable[..., Any]] = [],
        nexus_service_handlers: Sequence[Any] = [],
        workflows: Sequence[type] = [],
        activity_executor: Executor | None = None,
        workflow_task_executor: ThreadPoolExecutor | None = None,
        nexus_task_executor: ThreadPoolExecutor | None = None,
        workflow_runner: WorkflowRunner = _RUNNER,
        unsandboxed_workflow_runner: WorkflowRunner = _UNSANDBOXED_RUNNER,
        plugins: Sequence[Plugin] = [],
        interceptors: Sequence[Interceptor] = [],
        build_id: str | None = None,
        identity: str | None = None,
        max_cached_workflows: int = 1000,
        max_concurrent_workflow_tasks: int | None = None,
        max_concurrent_activities: int | None = None,
        max_concurrent_local_activities: int | None = None,
        max_concurrent_nexus_tasks: int | None = None,
        tuner: WorkerTuner | None = None,
        max_concurrent_workflow_task_polls: int | None = None,
        nonsticky_to_sticky_poll_ratio: float = 0.2,
        max_concurrent_activity_task_polls: int | None = None,
        no_remote_activities: bool = False,
        sticky_queue_schedule_to_start_timeout: timedelta = timedelta(seconds=10),
        max_heartbeat_throttle_interval: timedelta = timedelta(seconds=60),
        default_heartbeat_throttle_interval: timedelta = timedelta(seconds=30),
        max_activities_per_second: float | None = None,
        max_task_queue_activities_per_second: float | None = None,
        max_eager_activity_reservations_per_workflow_task: int = 3,
        graceful_shutdown_timeout: timedelta = timedelta(),
        workflow_failure_exception_types: Sequence[type[BaseException]] = [],
        shared_state_manager: SharedStateManager | None = None,
        debug_mode: bool = False,
        disable_eager_activity_execution: bool = False,
        on_fatal_error: Callable[[BaseException], Awaitable[None]] | None = None,
        use_worker_versioning: bool = False,
        disable_safe_workflow_eviction: bool = False,
        deployment_config: WorkerDeploymentConfig | None = None,
        patch_activation_callback: Callable[[PatchActivationInput], bool] | None = None,
        workflow_task_poller_behavior: PollerBehavior = DEFAULT_POLLER_BEHAVIOR,
        activity_task_poller_behavior: PollerBehavior = DEFAULT_POLLER_BEHAVIOR,
        nexus_task_poller_behavior: PollerBehavior = DEFAULT_POLLER_BEHAVIOR,
        disable_payload_error_limit: bool = False,
        max_workflow_task_external_storage_concurrency: int = 3,
        plugin_shutdown_timeout: timedelta | None = timedelta(seconds=60),
        deadlock_timeout: timedelta | None = timedelta(seconds=2),
    ) -> None:
        """Make a worker; it does nothing before `run`.

        Args: those that `WorkerConfig` explains, one by one.

        Raises:
            TypeError: Something among activities or workflows is none.
            ValueError: The arguments contradict each other, or something is missing.
            AssertionError: The client was connected by the process that this one was forked from.
        """
        arguments = dict(locals())
        del arguments["self"]
        self._prepare(client, cast(WorkerConfig, arguments))

    def _prepare(self, client: Client, config: WorkerConfig) -> None:
        self._plugins: list[Plugin] = plugins_of(client, config["plugins"])
        self._initial_config = config.copy()
        for plugin in self._plugins:
            config = plugin.configure_worker(config)
        check_config(config)
        _refuse_forked("create", client)
        self._config = config
        self._started = False
        self._shutdown_event = asyncio.Event()
        self._shutdown_complete_event = asyncio.Event()
        self._fatal: list[tuple[str, BaseException]] = []
        self._lifetime: WorkerLifetime | None = None
        self._inner_task: asyncio.Task[Any] | None = None
        self._run_task: asyncio.Task[None] | None = None
        self._run_error: BaseException | None = None
        self._is_exiting = False
        self._has_cancelled_block = False
        self._runtime = client.service_client.config.runtime or Runtime.default()
        self._environment = make_environment(config, client, self._runtime.metric_meter)
        meter = self._runtime._internal_meter
        if meter is not None:
            self._environment.metrics = WorkerMetrics(
                meter, self._environment.namespace, self._environment.task_queue
            )
        storage = self._environment.data_converter.external_storage
        self._storage_drivers = list(storage.drivers) if storage else []
        if is_debugged(config):
            from perdure.worker._breakpoints import let_quit_go_on  # imports pdb, which no other worker needs

            let_quit_go_on()
        self._parts = assemble(config, self._environment, self._on_fatal)
        self._activity_worker = self._parts.activity_worker
        self._workflow_worker = self._parts.workflow_worker

    def config(self, *, active_config: bool = False) -> WorkerConfig:
        """Return the arguments this worker was made with, as a shallow copy.

        Args:
            active_config: As plugins have changed them, rather than as given.
        """
        config: WorkerConfig = (self._config if active_config else self._initial_config).copy()
        config["activities"] = list(config.get("activities", []))
        config["workflows"] = list(config.get("workflows", []))
        return config

    @property
    def task_queue(self) -> str:
        """Task queue that is polled."""
        return self._environment.task_queue

    @property
    def client(self) -> Client:
        """Client whose connection is used. When it is replaced, calls under way end on the old one."""
        return self._environment.client

    @client.setter
    def client(self, value: Client) -> None:
        if (value.service_client.config.runtime or Runtime.default()) is not self._runtime:
            raise ValueError("New client is not on the same runtime as the existing client")
        self._config["client"] = value
        self._environment.client = value

    @property
    def is_running(self) -> bool:
        """Whether the worker was started and has not ended."""
        return self._started and not self.is_shutdown

    @property
    def is_shutdown(self) -> bool:
        """Whether the worker has ended. Not yet while `shutdown` waits."""
        return self._shutdown_complete_event.is_set()

    async def run(self) -> None:
        """Run the worker until it has shut down: activities have ended, or were cancelled and have ended.

        Cancelling this call shuts the worker down too; `shutdown` is the better way.

        Raises:
            WorkerValidationError: There is no such namespace, or the server cannot be reached.
            RuntimeError: It was started before, or a part of it cannot go on.
            AssertionError: This process was forked from the one that made the worker.
        """
        run: Callable[[Worker], Awaitable[None]] = Worker._run
        for plugin in reversed(self._plugins):
            run = _around(plugin, run)
        try:
            await run(self)
        finally:
            if not self._started:
                # A plugin kept it from running.
                self._started = True
                if self._lifetime is not None:
                    self._lifetime.abandon()
                self._shutdown_complete_event.set()

    def _start_taking(self) -> WorkerLifetime:
        # Workflows that are started now may hand their first task over at once.
        if self._lifetime is None:
            self._lifetime = WorkerLifetime(self._parts, self._config, self._runtime, self._plugins)
        return self._lifetime

    async def _run(self) -> None:
        if self._started:
            raise RuntimeError("Already started")
        _refuse_forked("use", self.client)
        self._started = True
        lifetime = self._start_taking()
        try:
            namespace = await validate(self._environment)
            self._environment.capabilities = namespace.capabilities
            if not self._config.get("disable_payload_error_limit"):
                self._environment.payload_limits = limits_of(namespace.limits)
        except BaseException:
            # Nothing polls yet, so nothing has to be shut down.
            lifetime.abandon()
            self._shutdown_complete_event.set()
            raise
        collector.started()
        try:
            await self._poll(lifetime)
        finally:
            collector.stopped()
            # Also when it is cancelled while it shuts down.
            self._shutdown_complete_event.set()

    async def _poll(self, lifetime: WorkerLifetime) -> None:
        error: BaseException | None = None
        try:
            error = await lifetime.run_until(self._shutdown_event, self._fatal)
            if error is not None:
                logger.error("Worker failed, shutting down: %s", one_line(error))
                logger.debug("Worker failed", exc_info=error)
                await self._tell(error)
        except asyncio.CancelledError as cancelled:
            logger.info("Worker cancelled, shutting down")
            error = cancelled
        await lifetime.shut_down()
        if error is not None:
            raise error

    def _on_fatal(self, part: str, error: BaseException) -> None:
        self._fatal.append((part, error))
        self._shutdown_event.set()

    async def _tell(self, error: BaseException) -> None:
        on_fatal_error = self._config.get("on_fatal_error")
        if on_fatal_error is None:
            return
        try:
            await on_fatal_error(error)
        except Exception:  # the handler is the user's code; the shutdown goes on
            logger.warning("Fatal error handler failed", exc_info=True)

    async def shutdown(self) -> None:
        """Shut the worker down and wait until it has ended. May be called often, and before `run`."""
        self._shutdown_event.set()
        await self._shutdown_complete_event.wait()

    async def __aenter__(self) -> Self:
        """Run the worker in the background.

        If it fails, the task inside `async with` is cancelled, and the error is raised where the block ends.
        """
        if self._inner_task is not None:
            raise RuntimeError("Already started")
        self._inner_task = asyncio.current_task()
        if self._inner_task is None:
            raise RuntimeError("Can only use async with inside a task")
        self._start_taking()
        self._run_task = asyncio.create_task(self._run_for_block(self._inner_task))
        return self

    async def _run_for_block(self, inner_task: asyncio.Task[Any]) -> None:
        try:
            await self.run()
        except BaseException as error:  # raised where the block ends
            self._run_error = error
            if not self._is_exiting:
                self._has_cancelled_block = inner_task.cancel()

    async def __aexit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        """Shut the worker down, and wait for it and its plugins.

        Raises what made the worker fail if the block was cancelled because of it; an error of the block itself, or of a
        worker that fails while it shuts down, does not take the place of how the block ended.
        """
        if self._run_task is None:
            raise RuntimeError("Never started")
        self._is_exiting = True
        await self.shutdown()
        # What plugins do after the worker has ended is waited for, not cancelled.
        timeout = self._config.get("plugin_shutdown_timeout", timedelta(seconds=60))
        try:
            await asyncio.wait([self._run_task], timeout=timeout.total_seconds() if timeout else None)
        except asyncio.CancelledError:
            self._run_task.cancel()
            raise
        if not self._run_task.done():
            self._run_task.cancel()
        if self._has_cancelled_block and self._inner_task is not None:
            # A task group around the block would take it for cancelled by others, and keep its errors to itself.
            self._inner_task.uncancel()
        if exc_type is asyncio.CancelledError and self._run_error is not None:
            raise self._run_error


def _around(plugin: Plugin, run: Callable[[Worker], Awaitable[None]]) -> Callable[[Worker], Awaitable[None]]:
    return lambda worker: plugin.run_worker(worker, run)


def _refuse_forked(verb: str, client: Client) -> None:
    if client.service_client._is_from_other_process():
        # The class is the official SDK's choice.
        raise AssertionError(
            f"Cannot {verb} worker across forks: its client was connected by the process that this one was forked "
            "from. Connect a client in each process."
        )
