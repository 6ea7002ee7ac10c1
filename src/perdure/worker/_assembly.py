"""How a worker is put together from its configuration: each part is given what it needs; nothing runs yet."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from perdure.api.deployment.v1 import WorkerDeploymentOptions
from perdure.api.enums.v1 import WorkerVersioningMode
from perdure.common import HeaderCodecBehavior, VersioningBehavior
from perdure.worker._activity_registry import ActivityRegistry
from perdure.worker._activity_runner import ActivityRunner
from perdure.worker._activity_worker import ActivityWorker
from perdure.worker._build_id import load_default_build_id
from perdure.worker._config import WorkerConfig
from perdure.worker._eager import EagerActivitySlots
from perdure.worker._environment import Environment
from perdure.worker._interceptor import Interceptor
from perdure.worker._local_activities import LocalActivities
from perdure.worker._resources import ResourceUse
from perdure.worker._runners import UnsandboxedWorkflowRunner
from perdure.worker._slots import ReserveContext, SlotKind, Slots, SlotTally, make_slots
from perdure.worker._tuning import SlotSupplier, WorkerTuner
from perdure.worker._workflow_answers import WorkflowAnswers
from perdure.worker._workflow_cache import RunCache
from perdure.worker._workflow_programs import (
    RegisteredPrograms,
    guarded_classes,
    interceptor_classes,
    permits,
    register_workflows,
)
from perdure.worker._workflow_worker import WorkflowWorker
from perdure.worker.workflow_code import WorkflowCodeSettings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from perdure.client import Client
    from perdure.worker._nexus_worker import NexusWorker

_DEFAULT_DEADLOCK_TIMEOUT = timedelta(seconds=2)


@dataclass
class Parts:
    """The parts of a worker.

    Attributes:
        environment: What they share.
        activity_worker: None without activities.
        workflow_worker: None without workflows.
        local_activities: None without activities.
        workflow_slots: Of workflow tasks.
        sticky_queue: Name of the worker's own queue; None without workflows or without a cache.
        nexus_worker: None without Nexus services.
    """

    environment: Environment
    activity_worker: ActivityWorker | None
    workflow_worker: WorkflowWorker | None
    local_activities: LocalActivities | None
    workflow_slots: Slots
    sticky_queue: str | None
    nexus_worker: NexusWorker | None

    def tallies(self) -> Iterator[tuple[str, SlotTally]]:
        """The slots that the worker has, by their field in a heartbeat."""
        if self.workflow_worker is not None:
            yield "workflow_task_slots_info", self.workflow_slots.tally
        if self.activity_worker is not None:
            yield "activity_task_slots_info", self.activity_worker.slots.tally
        if self.local_activities is not None:
            yield "local_activity_slots_info", self.local_activities.slots.tally
        if self.nexus_worker is not None:
            yield "nexus_task_slots_info", self.nexus_worker.slots.tally


def make_environment(config: WorkerConfig, client: Client, metric_meter: Any) -> Environment:
    """Return what the parts of a worker share."""
    client_config = client.config(active_config=True)
    from_client = [item for item in client_config["interceptors"] if isinstance(item, Interceptor)]
    deployment_config = config.get("deployment_config")
    deployment = None
    build_id = config.get("build_id")
    if deployment_config is not None:
        version = deployment_config.version
        build_id = version.build_id
        deployment = WorkerDeploymentOptions(
            deployment_name=version.deployment_name,
            build_id=version.build_id,
            worker_versioning_mode=WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED
            if deployment_config.use_worker_versioning
            else WorkerVersioningMode.WORKER_VERSIONING_MODE_UNVERSIONED,
        )
    return Environment(
        client=client,
        namespace=client.namespace,
        task_queue=config["task_queue"],
        identity=config.get("identity") or client.identity,
        build_id=build_id or load_default_build_id(),
        deployment=deployment,
        instance_key=uuid.uuid4().hex,
        data_converter=client_config["data_converter"],
        interceptors=[*from_client, *config.get("interceptors", [])],
        metric_meter=metric_meter,
        uses_build_id_versioning=bool(config.get("use_worker_versioning")),
        default_versioning_behavior=deployment_config.default_versioning_behavior.value
        if deployment_config is not None
        else 0,
        encode_headers=client_config["header_codec_behavior"] == HeaderCodecBehavior.CODEC,
        encode_workflow_headers=client_config["header_codec_behavior"] != HeaderCodecBehavior.NO_CODEC,
        max_heartbeat_throttle_s=config.get(
            "max_heartbeat_throttle_interval", timedelta(seconds=60)
        ).total_seconds(),
        default_heartbeat_throttle_s=config.get(
            "default_heartbeat_throttle_interval", timedelta(seconds=30)
        ).total_seconds(),
        storage_concurrency=config.get("max_workflow_task_external_storage_concurrency", 3),
    )


def assemble(
    config: WorkerConfig, environment: Environment, on_fatal: Callable[[str, BaseException], None]
) -> Parts:
    """Make the parts of a worker.

    Args:
        config: Checked.
        environment: What the parts share.
        on_fatal: Called with "Activity" or "Nexus" when that part cannot go on.

    Raises:
        TypeError: Activities or workflows that are none.
        ValueError: Activities or workflows that do not go together, or an executor that is missing.
    """
    make = _slots_maker(config, environment)
    registry: ActivityRegistry | None = None
    activity_worker: ActivityWorker | None = None
    local_activities: LocalActivities | None = None
    activities = config.get("activities")
    tuner = config.get("tuner") or _fixed_tuner(config)
    if activities:
        most = config.get("max_concurrent_activities")
        if config.get("tuner") is not None:
            most = tuner._get_activities_max()
        _warn_about_executor(
            "activity_executor", config.get("activity_executor"), "max_concurrent_activities", most
        )
        executor, manager = config.get("activity_executor"), config.get("shared_state_manager")
        registry = ActivityRegistry(activities, executor, manager)
        runner = ActivityRunner(environment, registry, executor, manager, partial(on_fatal, "Activity"))
        activity_worker = ActivityWorker(runner, make("activity", tuner._get_activity_task_slot_supplier()))
        local_slots = make("local-activity", tuner._get_local_activity_task_slot_supplier())
        local_activities = LocalActivities(runner, local_slots)
    nexus_worker: NexusWorker | None = None
    if config.get("nexus_service_handlers"):
        slots = make("nexus", tuner._get_nexus_slot_supplier())
        nexus_worker = _nexus_worker(config, environment, slots, partial(on_fatal, "Nexus"))
    workflow_slots = make("workflow", tuner._get_workflow_task_slot_supplier())
    sticky_queue = None
    workflow_worker: WorkflowWorker | None = None
    if config.get("workflows"):
        if config.get("max_cached_workflows", 1000) > 0:
            sticky_queue = f"{environment.identity}-{environment.instance_key}"
        programs = _programs(config, environment, registry)
        workflow_worker = WorkflowWorker(
            environment,
            programs=programs,
            pool=None if is_debugged(config) else config.get("workflow_task_executor"),
            deadlock_timeout_s=_deadlock_timeout_s(config),
            slots=workflow_slots,
            cache=RunCache(config.get("max_cached_workflows", 1000)),
            answers=WorkflowAnswers(
                environment,
                sticky_queue,
                config.get("sticky_queue_schedule_to_start_timeout", timedelta(seconds=10)),
            ),
            local_activities=local_activities,
            eager=_eager(config, activity_worker, registry),
            max_eager=config.get("max_eager_activity_reservations_per_workflow_task", 3),
        )
    return Parts(
        environment,
        activity_worker,
        workflow_worker,
        local_activities,
        workflow_slots,
        sticky_queue,
        nexus_worker,
    )


def _eager(
    config: WorkerConfig, activity_worker: ActivityWorker | None, registry: ActivityRegistry | None
) -> EagerActivitySlots | None:
    is_off = (
        config.get("disable_eager_activity_execution")
        or config.get("no_remote_activities")
        or config.get("max_task_queue_activities_per_second") is not None
        # The polls keep to this rate; what comes with answers would come on top.
        or config.get("max_activities_per_second") is not None
    )
    if is_off or activity_worker is None or registry is None:
        return None
    return EagerActivitySlots(activity_worker, registry)


def _programs(
    config: WorkerConfig, environment: Environment, registry: ActivityRegistry | None
) -> RegisteredPrograms:
    deployment = config.get("deployment_config")
    runner = config.get("workflow_runner") or UnsandboxedWorkflowRunner()
    runner.set_worker_level_failure_exception_types(config.get("workflow_failure_exception_types", []))
    definitions = register_workflows(
        config.get("workflows", []),
        runner,
        config.get("unsandboxed_workflow_runner") or UnsandboxedWorkflowRunner(),
        must_say_versioning=deployment is not None
        and deployment.use_worker_versioning
        and deployment.default_versioning_behavior == VersioningBehavior.UNSPECIFIED,
    )
    classes, functions = interceptor_classes(environment.interceptors)
    settings = WorkflowCodeSettings(
        namespace=environment.namespace,
        task_queue=environment.task_queue,
        definitions=definitions,
        payload_converter=environment.data_converter.payload_converter,
        failure_converter=environment.data_converter.failure_converter,
        interceptor_classes=classes,
        extern_functions=functions,
        metric_meter=environment.metric_meter,
        failure_exception_types=config.get("workflow_failure_exception_types", []),
        disable_eager_activities=config.get("disable_eager_activity_execution", False),
        patch_activation_callback=config.get("patch_activation_callback"),
        assert_local_activity_valid=_local_activity_check(registry),
        guarded=guarded_classes(definitions, runner),
        permits=permits(runner),
    )
    return RegisteredPrograms(
        settings,
        environment.data_converter,
        build_id=environment.build_id,
        deployment_name=deployment.version.deployment_name if deployment else "",
    )


def _local_activity_check(registry: ActivityRegistry | None) -> Callable[[str], None]:
    if registry is not None:
        return registry.check_local

    def refuse(name: str) -> None:
        raise ValueError(
            f"Activity function {name} is not registered on this worker, no available activities. "
            "Pass it to Worker(activities=[...])"
        )

    return refuse


def is_debugged(config: WorkerConfig) -> bool:
    """Whether the worker is in debug mode."""
    return bool(config.get("debug_mode") or os.environ.get("TEMPORAL_DEBUG"))


def _deadlock_timeout_s(config: WorkerConfig) -> float | None:
    timeout = config.get("deadlock_timeout", _DEFAULT_DEADLOCK_TIMEOUT)
    return None if timeout is None or is_debugged(config) else timeout.total_seconds()


def _fixed_tuner(config: WorkerConfig) -> WorkerTuner:
    return WorkerTuner.create_fixed(
        workflow_slots=config.get("max_concurrent_workflow_tasks"),
        activity_slots=config.get("max_concurrent_activities"),
        local_activity_slots=config.get("max_concurrent_local_activities"),
        nexus_slots=config.get("max_concurrent_nexus_tasks"),
    )


def _slots_maker(config: WorkerConfig, environment: Environment) -> Callable[[SlotKind, SlotSupplier], Slots]:
    use = ResourceUse()
    deployment = config.get("deployment_config")

    def make(kind: SlotKind, supplier: SlotSupplier) -> Slots:
        context = ReserveContext(
            slot_type=kind,
            task_queue=environment.task_queue,
            worker_identity=environment.identity,
            worker_build_id=environment.build_id,
            worker_deployment_version=deployment.version if deployment else None,
        )
        slots = make_slots(supplier, context, use)
        metrics = environment.metrics
        if metrics is not None:
            slots.tally.on_change = partial(metrics.slots_changed, kind)
            metrics.slots_changed(kind, slots.tally)
        return slots

    return make


def _warn_about_executor(
    name: str, executor: Executor | None, concurrent_name: str, concurrent: int | None
) -> None:
    max_workers = getattr(executor, "_max_workers", None)
    if isinstance(max_workers, int) and max_workers < (concurrent or 0):
        warnings.warn(
            f"Worker {concurrent_name} is {concurrent} but {name}'s max_workers is only {max_workers}",
            stacklevel=5,
        )


def _nexus_worker(
    config: WorkerConfig, environment: Environment, slots: Slots, on_fatal: Callable[[BaseException], None]
) -> NexusWorker:
    # Here, because it needs a library that only those have who serve Nexus.
    from perdure.worker._nexus_worker import NexusWorker

    executor = config.get("nexus_task_executor")
    tuner = config.get("tuner")
    most = config.get("max_concurrent_nexus_tasks") if tuner is None else tuner._get_nexus_tasks_max()
    _warn_about_executor("nexus_task_executor", executor, "max_concurrent_nexus_tasks", most)
    return NexusWorker(environment, config["nexus_service_handlers"], executor, slots, on_fatal)


def plugins_of(client: Client, given: Sequence[Any]) -> list[Any]:
    """Return the plugins of a worker: those of its client that are for workers too, then its own."""
    from perdure.worker._plugin import Plugin

    from_client = [plugin for plugin in client.config()["plugins"] if isinstance(plugin, Plugin)]
    given_types = {type(plugin) for plugin in given}
    for plugin in from_client:
        if type(plugin) in given_types:
            warnings.warn(
                f"The same plugin type {type(plugin)} is present from both client and worker. "
                "It may run twice and may not be the intended behavior.",
                stacklevel=4,
            )
    return [*cast(list[Any], from_client), *given]
