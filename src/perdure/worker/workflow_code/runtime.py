"""What the public functions of `perdure.workflow` ask: each is handed to the part of the instance that knows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.common import MetricMeter, SearchAttributes, SearchAttributeUpdate, WorkerDeploymentVersion
from perdure.common._metrics import _NoopMetricMeter
from perdure.converter import PayloadConverter
from perdure.worker.interceptor_workflow import (
    ContinueAsNewInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    StartNexusOperationInput,
)
from perdure.worker.workflow_code import activities, children, guards, properties, waiting
from perdure.worker.workflow_code.metrics import ReplaySafeMeter
from perdure.workflow import (
    ActivityHandle,
    ChildWorkflowHandle,
    ExternalWorkflowHandle,
    Info,
    NexusOperationHandle,
    _Definition,
    _Runtime,
)

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance


class WorkflowRuntime(_Runtime):
    """One running workflow, as its code sees it."""

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._meter: MetricMeter | None = None

    @property
    def logger_details(self) -> Mapping[str, Any]:
        return self._instance.logger_details

    # What is known about the run

    def info(self) -> Info:
        return self._instance.outbound.info()

    def instance(self) -> Any:
        return self._instance.object

    def time_ns(self) -> int:
        return self._instance.activation.now_ns

    @property
    def permits(self) -> guards.Permits:
        """See `GuardedRun`."""
        return self._instance.settings.permits

    def is_replaying(self) -> bool:
        return self._instance.is_replaying

    def is_replaying_history_events(self) -> bool:
        return self._instance.is_replaying and not self._instance.recorder.is_query_or_validator

    def is_read_only(self) -> bool:
        return self._instance.recorder.is_read_only

    def current_build_id(self) -> str:
        return self._instance.activation.build_id

    def current_deployment_version(self) -> WorkerDeploymentVersion | None:
        activation = self._instance.activation
        if not activation.build_id and not activation.deployment_name:
            return None
        return WorkerDeploymentVersion(
            deployment_name=activation.deployment_name, build_id=activation.build_id
        )

    def current_history_length(self) -> int:
        return self._instance.activation.history_length

    def current_history_size(self) -> int:
        return self._instance.activation.history_size_bytes

    def is_continue_as_new_suggested(self) -> bool:
        return self._instance.activation.continue_as_new_suggested

    def is_target_worker_deployment_version_changed(self) -> bool:
        return self._instance.activation.target_worker_deployment_version_changed

    def cancellation_reason(self) -> str | None:
        return self._instance.cancel_reason

    def is_failure_exception(self, err: BaseException) -> bool:
        return self._instance.is_failure_exception(err)

    def has_last_completion_result(self) -> bool:
        return bool(self._instance.started.last_completion_result.payloads)

    def last_completion_result(self, type_hint: type | None) -> Any | None:
        payloads = self._instance.started.last_completion_result.payloads
        if len(payloads) > 1:
            warnings.warn(f"Expected single last completion result, got {len(payloads)}", stacklevel=3)
            return None
        if not payloads:
            return None
        return self._instance.conversions.workflow.payloads.from_payload(payloads[0], type_hint)

    def last_failure(self) -> BaseException | None:
        started = self._instance.started
        if not started.HasField("continued_failure"):
            return None
        return self._instance.conversions.workflow.from_failure(started.continued_failure)

    def all_handlers_finished(self) -> bool:
        return self._instance.handlers.are_finished

    # What the worker lends to the code

    def payload_converter(self) -> PayloadConverter:
        return self._instance.conversions.workflow.payloads

    def extern_functions(self) -> Mapping[str, Callable[..., Any]]:
        return self._instance.settings.extern_functions

    def metric_meter(self) -> MetricMeter:
        if self._meter is None:
            info = self._instance.info
            meter = self._instance.settings.metric_meter or _NoopMetricMeter()
            self._meter = ReplaySafeMeter(
                meter.with_additional_attributes(
                    {
                        "namespace": info.namespace,
                        "task_queue": info.task_queue,
                        "workflow_type": info.workflow_type,
                    }
                ),
                self.is_replaying,
            )
        return self._meter

    def unguarded(self) -> AbstractContextManager[None]:
        return guards.unguarded()

    # Randomness

    def random(self) -> Random:
        self._instance.recorder.check_writable("random")
        return self._instance.randomness.numbers

    def random_seed(self) -> int:
        return self._instance.randomness.seed

    def register_random_seed_callback(self, callback: Callable[[int], None]) -> None:
        self._instance.recorder.check_writable("register random seed callback")
        self._instance.randomness.on_reseed(callback)

    # Properties of the run that the code changes

    def memo(self) -> Mapping[str, Any]:
        return self._instance.memo.values()

    def memo_value(self, key: str, default: Any, *, type_hint: type | None) -> Any:
        return self._instance.memo.value(key, default, type_hint)

    def upsert_memo(self, updates: Mapping[str, Any]) -> None:
        self._instance.memo.upsert(updates)

    def upsert_search_attributes(
        self, attributes: SearchAttributes | Sequence[SearchAttributeUpdate[Any]]
    ) -> None:
        properties.upsert_search_attributes(self._instance, attributes)

    def current_details(self) -> str:
        return self._instance.current_details

    def set_current_details(self, details: str) -> None:
        self._instance.recorder.check_writable("set current details")
        self._instance.current_details = details

    def patch(self, id: str, *, deprecated: bool) -> bool:
        return self._instance.patches.ask(id, is_deprecated=deprecated)

    # Handlers

    def signal_handler(self, name: str | None) -> Callable[..., Any] | None:
        handlers = self._instance.handlers
        return handlers.bound(handlers.signals.get(name))

    def set_signal_handler(self, name: str | None, handler: Callable[..., Any] | None) -> None:
        self._instance.handlers.set_signal(name, handler)

    def query_handler(self, name: str | None) -> Callable[..., Any] | None:
        handlers = self._instance.handlers
        return handlers.bound(handlers.queries.get(name))

    def set_query_handler(self, name: str | None, handler: Callable[..., Any] | None) -> None:
        self._instance.handlers.set_query(name, handler)

    def update_handler(self, name: str | None) -> Callable[..., Any] | None:
        handlers = self._instance.handlers
        return handlers.bound(handlers.updates.get(name))

    def update_validator(self, name: str | None) -> Callable[..., Any] | None:
        return self._instance.handlers.validator(name)

    def set_update_handler(
        self,
        name: str | None,
        handler: Callable[..., Any] | None,
        validator: Callable[..., Any] | None,
    ) -> None:
        self._instance.handlers.set_update(name, handler, validator)

    # What the code waits for

    async def sleep(self, duration: float, *, summary: str | None) -> None:
        await waiting.sleep(self._instance, duration, summary)

    async def wait_condition(
        self, fn: Callable[[], bool], *, timeout: float | None, timeout_summary: str | None
    ) -> None:
        await self._instance.conditions.wait(fn, timeout_s=timeout, timeout_summary=timeout_summary)

    def start_activity(
        self, activity: Any, args: Sequence[Any], *, result_type: type | None, **options: Any
    ) -> ActivityHandle[Any]:
        self._instance.recorder.check_writable("start activity")
        name, arg_types, ret_type = activities.definition_of(activity)
        return self._instance.outbound.start_activity(
            StartActivityInput(
                activity=name,
                args=args,
                headers={},
                disable_eager_execution=self._instance.settings.disable_eager_activities,
                arg_types=arg_types,
                ret_type=result_type if isinstance(activity, str) else ret_type,
                **options,
            )
        )

    def start_local_activity(
        self, activity: Any, args: Sequence[Any], *, result_type: type | None, **options: Any
    ) -> ActivityHandle[Any]:
        name, arg_types, ret_type = activities.definition_of(activity)
        self._instance.settings.assert_local_activity_valid(name)
        return self._instance.outbound.start_local_activity(
            StartLocalActivityInput(
                activity=name,
                args=args,
                headers={},
                arg_types=arg_types,
                ret_type=result_type if isinstance(activity, str) else ret_type,
                **options,
            )
        )

    async def start_child_workflow(
        self, workflow: Any, args: Sequence[Any], *, result_type: type | None, **options: Any
    ) -> ChildWorkflowHandle[Any, Any]:
        name, arg_types, ret_type = children.definition_of(workflow)
        return await self._instance.outbound.start_child_workflow(
            StartChildWorkflowInput(
                workflow=name,
                args=args,
                headers={},
                arg_types=arg_types,
                ret_type=result_type if isinstance(workflow, str) else ret_type,
                **options,
            )
        )

    def external_workflow_handle(self, id: str, *, run_id: str | None) -> ExternalWorkflowHandle[Any]:
        return children.ExternalHandle(self._instance, id, run_id)

    async def start_nexus_operation(self, **options: Any) -> NexusOperationHandle[Any]:
        return await self._instance.outbound.start_nexus_operation(StartNexusOperationInput(**options))

    def continue_as_new(self, workflow: Any, args: Sequence[Any], **options: Any) -> NoReturn:
        self._instance.recorder.check_writable("continue as new")
        name: str | None = None
        arg_types: list[type] | None = None
        if isinstance(workflow, str):
            name = workflow
        elif callable(workflow):
            definition = _Definition.must_from_run_fn(workflow)
            name, arg_types = definition.name, definition.arg_types
        elif workflow is not None:
            raise TypeError("Workflow must be None, a string, or callable")
        self._instance.outbound.continue_as_new(
            ContinueAsNewInput(workflow=name, args=args, headers={}, arg_types=arg_types, **options)
        )
