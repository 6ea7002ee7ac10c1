"""The arguments of a worker as a dictionary, for plugins; and how its versions are told apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from perdure.common import VersioningBehavior, WorkerDeploymentVersion
from perdure.worker._tuning import slot_supplier_max

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.worker._interceptor import Interceptor
    from perdure.worker._plugin import Plugin
    from perdure.worker._poller_behavior import PollerBehavior
    from perdure.worker._runners import WorkflowRunner
    from perdure.worker._shared_state import SharedStateManager
    from perdure.worker._tuning import WorkerTuner
    from perdure.worker.workflow_code import PatchActivationInput


@dataclass
class WorkerDeploymentConfig:
    """Which deployment a worker belongs to.

    Attributes:
        version: Name of the deployment, and build id.
        use_worker_versioning: Whether the server routes tasks by it.
        default_versioning_behavior: For workflows that do not say; only with `use_worker_versioning`.
    """

    version: WorkerDeploymentVersion
    use_worker_versioning: bool
    default_versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED


class WorkerConfig(TypedDict, total=False):
    """Arguments of `Worker`.

    Attributes:
        client: Connected; its data converter, interceptors and plugins apply.
        task_queue: That is polled.
        activities: Callables with `activity.defn`.
        nexus_service_handlers: Nexus services.
        workflows: Classes with `workflow.defn`.
        activity_executor: Where `def` activities run; a ThreadPoolExecutor with at least as many threads as
            activities may run at once, or a ProcessPoolExecutor together with `shared_state_manager`.
        workflow_task_executor: Runs workflow code in its threads. Without one it runs on the event loop, which is
            cheaper; give one when workflow code may block in calls that cannot be interrupted.
        nexus_task_executor: Where `def` Nexus operations run.
        workflow_runner: Told of the workflows; there is no sandbox.
        unsandboxed_workflow_runner: The same, for workflows that opted out of the sandbox.
        plugins: Change the configuration and the run; the client's come first.
        interceptors: Wrap activities and workflows; the client's come first.
        build_id: Names the code; by default a hash over what is loaded. Use `deployment_config`.
        identity: Name of this worker for people; by default the client's.
        max_cached_workflows: So many workflows stay in memory between their tasks; 0 for none.
        max_concurrent_workflow_tasks: At once; 100 by default. At least 2 while workflows are cached. Not with
            `tuner`.
        max_concurrent_activities: At once; 100 by default. Not with `tuner`.
        max_concurrent_local_activities: At once; 100 by default. Not with `tuner`.
        max_concurrent_nexus_tasks: At once; 100 by default. Not with `tuner`.
        tuner: Decides how many tasks of each kind run at once.
        max_concurrent_workflow_task_polls: Use `workflow_task_poller_behavior`, over which it wins.
        nonsticky_to_sticky_poll_ratio: Share of the polls that goes to the common queue rather than to the
            worker's own; at least one goes to each.
        max_concurrent_activity_task_polls: Use `activity_task_poller_behavior`, over which it wins.
        no_remote_activities: Run activities only as local activities.
        sticky_queue_schedule_to_start_timeout: For which a workflow task waits for this worker before any
            worker may take it.
        max_heartbeat_throttle_interval: Longest time for which heartbeats are held back.
        default_heartbeat_throttle_interval: The same for activities without heartbeat timeout; with one it is
            80 % of that.
        max_activities_per_second: Started by this worker; all of them then come through polls.
        max_task_queue_activities_per_second: Handed out by the server for this task queue, to all workers.
        max_eager_activity_reservations_per_workflow_task: So many activities of one workflow task may come back
            with its answer, without a poll.
        graceful_shutdown_timeout: For which activities may go on after `shutdown` before they are cancelled.
        workflow_failure_exception_types: Exceptions that fail a workflow; others fail its task, which is tried
            again until the code is repaired.
        shared_state_manager: For `def` activities in other processes.
        debug_mode: Run workflow code on the event loop and never interrupt it, for a debugger; leaving that of
            `breakpoint()` with `q` lets the code go on. Also with the environment variable TEMPORAL_DEBUG.
        disable_eager_activity_execution: Activities come through polls only.
        on_fatal_error: Awaited with the error before the worker ends because of it.
        use_worker_versioning: Use `deployment_config`.
        disable_safe_workflow_eviction: No effect: workflows that leave memory are always ended properly.
        deployment_config: Which deployment and version this worker belongs to.
        patch_activation_callback: Decides whether a run that meets a patch for the first time takes the new code.
        workflow_task_poller_behavior: How many polls for workflow tasks are open.
        activity_task_poller_behavior: How many polls for activities are open.
        nexus_task_poller_behavior: How many polls for Nexus tasks are open.
        disable_payload_error_limit: Do not check sizes before the server does.
        max_workflow_task_external_storage_concurrency: Operations of external storage at once, per workflow task.
        plugin_shutdown_timeout: For which leaving `async with` waits for what plugins do after the worker has
            ended; None for ever.
        deadlock_timeout: For which workflow code may run without awaiting; longer fails its workflow task with
            its stack. None for ever.
    """

    client: Client
    task_queue: str
    activities: Sequence[Callable[..., Any]]
    nexus_service_handlers: Sequence[Any]
    workflows: Sequence[type]
    activity_executor: Executor | None
    workflow_task_executor: ThreadPoolExecutor | None
    nexus_task_executor: ThreadPoolExecutor | None
    workflow_runner: WorkflowRunner
    unsandboxed_workflow_runner: WorkflowRunner
    plugins: Sequence[Plugin]
    interceptors: Sequence[Interceptor]
    build_id: str | None
    identity: str | None
    max_cached_workflows: int
    max_concurrent_workflow_tasks: int | None
    max_concurrent_activities: int | None
    max_concurrent_local_activities: int | None
    max_concurrent_nexus_tasks: int | None
    tuner: WorkerTuner | None
    max_concurrent_workflow_task_polls: int | None
    nonsticky_to_sticky_poll_ratio: float
    max_concurrent_activity_task_polls: int | None
    no_remote_activities: bool
    sticky_queue_schedule_to_start_timeout: timedelta
    max_heartbeat_throttle_interval: timedelta
    default_heartbeat_throttle_interval: timedelta
    max_activities_per_second: float | None
    max_task_queue_activities_per_second: float | None
    max_eager_activity_reservations_per_workflow_task: int
    graceful_shutdown_timeout: timedelta
    workflow_failure_exception_types: Sequence[type[BaseException]]
    shared_state_manager: SharedStateManager | None
    debug_mode: bool
    disable_eager_activity_execution: bool
    on_fatal_error: Callable[[BaseException], Awaitable[None]] | None
    use_worker_versioning: bool
    disable_safe_workflow_eviction: bool
    deployment_config: WorkerDeploymentConfig | None
    patch_activation_callback: Callable[[PatchActivationInput], bool] | None
    workflow_task_poller_behavior: PollerBehavior
    activity_task_poller_behavior: PollerBehavior
    nexus_task_poller_behavior: PollerBehavior
    disable_payload_error_limit: bool
    max_workflow_task_external_storage_concurrency: int
    plugin_shutdown_timeout: timedelta | None
    deadlock_timeout: timedelta | None


_EAGER_MESSAGE = (
    "max_eager_activity_reservations_per_workflow_task must be positive; "
    "use disable_eager_activity_execution=True to disable eager activity execution"
)
_TUNER_MESSAGE = (
    "Cannot specify max_concurrent_workflow_tasks, max_concurrent_activities, "
    "max_concurrent_local_activities, or max_concurrent_nexus_tasks when also specifying tuner"
)


_SLOTS_MESSAGE = (
    "max_cached_workflows > 0 requires at least 2 max_concurrent_workflow_tasks (or slots of the tuner for workflow "
    "tasks): one for the poll of the task queue, one for the poll of the worker's own queue"
)


def _most_workflow_tasks(config: WorkerConfig) -> int | None:
    tuner = config.get("tuner")
    if tuner is None:
        return config.get("max_concurrent_workflow_tasks")
    return slot_supplier_max(tuner._get_workflow_task_slot_supplier())


_COUNTS = (
    "max_cached_workflows",
    "max_concurrent_workflow_tasks",
    "max_concurrent_activities",
    "max_concurrent_local_activities",
    "max_concurrent_nexus_tasks",
)


def _check_limits(config: WorkerConfig) -> None:
    """Check numbers that would else limit nothing at all.

    Raises:
        ValueError: One does.
    """
    for name in _COUNTS:
        count = config.get(name)
        if isinstance(count, int) and count < 0:
            raise ValueError(f"{name} must not be negative, and is {count}")
    rate = config.get("max_activities_per_second")
    if rate is not None and rate <= 0:
        raise ValueError(
            f"max_activities_per_second must be positive, and is {rate:g}: leave it out for no limit"
        )


def check_config(config: WorkerConfig) -> None:
    """Check what the arguments of a worker say together.

    Raises:
        ValueError: They contradict each other, or something is missing.
    """
    _check_limits(config)
    deployment = config.get("deployment_config")
    checks = (
        (
            not (config.get("activities") or config.get("nexus_service_handlers") or config.get("workflows")),
            "At least one activity, Nexus service, or workflow must be specified",
        ),
        (
            config.get("use_worker_versioning") and not config.get("build_id"),
            "build_id must be specified when use_worker_versioning is True",
        ),
        (
            deployment and (config.get("build_id") or config.get("use_worker_versioning")),
            "deployment_config cannot be used with build_id or use_worker_versioning",
        ),
        (
            deployment is not None
            and not deployment.use_worker_versioning
            and deployment.default_versioning_behavior != VersioningBehavior.UNSPECIFIED,
            "default_versioning_behavior must be UNSPECIFIED when use_worker_versioning is False",
        ),
        (
            type(config.get("activity_executor")).__name__ == "InterpreterPoolExecutor",
            "InterpreterPoolExecutor is not supported as an activity_executor. "  # noqa: ISC004
            "Use ThreadPoolExecutor or ProcessPoolExecutor instead.",
        ),
        (
            config.get("max_workflow_task_external_storage_concurrency", 3) < 1,
            "max_workflow_task_external_storage_concurrency must be positive",
        ),
        (
            config.get("max_eager_activity_reservations_per_workflow_task", 3) < 1,
            _EAGER_MESSAGE,
        ),
        (
            config.get("tuner") is not None
            and any(
                (
                    config.get("max_concurrent_workflow_tasks"),
                    config.get("max_concurrent_activities"),
                    config.get("max_concurrent_local_activities"),
                    config.get("max_concurrent_nexus_tasks"),
                )
            ),
            _TUNER_MESSAGE,
        ),
        (
            config.get("workflows")
            and config.get("max_cached_workflows", 1000) > 0
            and _most_workflow_tasks(config) == 1,
            _SLOTS_MESSAGE,
        ),
    )
    for is_wrong, message in checks:
        if is_wrong:
            raise ValueError(message)
