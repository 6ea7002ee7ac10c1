"""The arguments of a worker as a dictionary, for plugins; and how its versions are told apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from perdure.common import VersioningBehavior, WorkerDeploymentVersion

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
    """Arguments of `Worker`."""

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


def check_config(config: WorkerConfig) -> None:
    """Check what the arguments of a worker say together.

    Raises:
        ValueError: They contradict each other, or something is missing.
    """
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
    )
    for is_wrong, message in checks:
        if is_wrong:
            raise ValueError(message)
