"""The seam between the public functions and the executor of workflow code: what a running workflow can be asked.

The running workflow is found through the event loop that is running: an attribute of the loop, so looking it up costs
next to nothing and works in every thread.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.workflow._exceptions import _NotInWorkflowEventLoopError

if TYPE_CHECKING:
    from perdure.common import MetricMeter, SearchAttributes, SearchAttributeUpdate, WorkerDeploymentVersion
    from perdure.converter import PayloadConverter
    from perdure.workflow._activities import ActivityHandle
    from perdure.workflow._children import ChildWorkflowHandle, ExternalWorkflowHandle
    from perdure.workflow._info import Info
    from perdure.workflow._nexus import NexusOperationHandle

LOOP_ATTRIBUTE = "__perdure_workflow_runtime"


class _Runtime(ABC):
    """One running workflow."""

    @staticmethod
    def current() -> _Runtime:
        """The running workflow.

        Raises:
            _NotInWorkflowEventLoopError: called outside workflow code.
        """
        runtime = _Runtime.maybe_current()
        if runtime is None:
            raise _NotInWorkflowEventLoopError
        return runtime

    @staticmethod
    def maybe_current() -> _Runtime | None:
        """The running workflow, None outside workflow code."""
        return getattr(asyncio._get_running_loop(), LOOP_ATTRIBUTE, None)

    @staticmethod
    def set_on_loop(loop: asyncio.AbstractEventLoop, runtime: _Runtime | None) -> None:
        """Makes the workflow the one that runs on this loop; None takes it away."""
        if runtime is not None:
            setattr(loop, LOOP_ATTRIBUTE, runtime)
        elif hasattr(loop, LOOP_ATTRIBUTE):
            delattr(loop, LOOP_ATTRIBUTE)

    @property
    @abstractmethod
    def logger_details(self) -> Mapping[str, Any]:
        """What log lines say about the workflow."""

    # What is known about the run

    @abstractmethod
    def info(self) -> Info: ...

    @abstractmethod
    def instance(self) -> Any: ...

    @abstractmethod
    def time_ns(self) -> int: ...

    @abstractmethod
    def is_replaying(self) -> bool: ...

    @abstractmethod
    def is_replaying_history_events(self) -> bool: ...

    @abstractmethod
    def is_read_only(self) -> bool: ...

    @abstractmethod
    def current_build_id(self) -> str: ...

    @abstractmethod
    def current_deployment_version(self) -> WorkerDeploymentVersion | None: ...

    @abstractmethod
    def current_history_length(self) -> int: ...

    @abstractmethod
    def current_history_size(self) -> int: ...

    @abstractmethod
    def is_continue_as_new_suggested(self) -> bool: ...

    @abstractmethod
    def is_target_worker_deployment_version_changed(self) -> bool: ...

    @abstractmethod
    def cancellation_reason(self) -> str | None: ...

    @abstractmethod
    def is_failure_exception(self, err: BaseException) -> bool: ...

    @abstractmethod
    def has_last_completion_result(self) -> bool: ...

    @abstractmethod
    def last_completion_result(self, type_hint: type | None) -> Any | None: ...

    @abstractmethod
    def last_failure(self) -> BaseException | None: ...

    @abstractmethod
    def all_handlers_finished(self) -> bool: ...

    # What the worker lends to the code

    @abstractmethod
    def payload_converter(self) -> PayloadConverter: ...

    @abstractmethod
    def extern_functions(self) -> Mapping[str, Callable[..., Any]]: ...

    @abstractmethod
    def metric_meter(self) -> MetricMeter: ...

    @abstractmethod
    def unguarded(self) -> AbstractContextManager[None]:
        """Lifts the guards against calls that break replay."""

    # Randomness

    @abstractmethod
    def random(self) -> Random: ...

    @abstractmethod
    def random_seed(self) -> int: ...

    @abstractmethod
    def register_random_seed_callback(self, callback: Callable[[int], None]) -> None: ...

    # Properties of the run that the code changes

    @abstractmethod
    def memo(self) -> Mapping[str, Any]: ...

    @abstractmethod
    def memo_value(self, key: str, default: Any, *, type_hint: type | None) -> Any: ...

    @abstractmethod
    def upsert_memo(self, updates: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def upsert_search_attributes(
        self, attributes: SearchAttributes | Sequence[SearchAttributeUpdate[Any]]
    ) -> None: ...

    @abstractmethod
    def current_details(self) -> str: ...

    @abstractmethod
    def set_current_details(self, details: str) -> None: ...

    @abstractmethod
    def patch(self, id: str, *, deprecated: bool) -> bool: ...

    # Handlers; the name None is the dynamic one

    @abstractmethod
    def signal_handler(self, name: str | None) -> Callable[..., Any] | None: ...

    @abstractmethod
    def set_signal_handler(self, name: str | None, handler: Callable[..., Any] | None) -> None: ...

    @abstractmethod
    def query_handler(self, name: str | None) -> Callable[..., Any] | None: ...

    @abstractmethod
    def set_query_handler(self, name: str | None, handler: Callable[..., Any] | None) -> None: ...

    @abstractmethod
    def update_handler(self, name: str | None) -> Callable[..., Any] | None: ...

    @abstractmethod
    def update_validator(self, name: str | None) -> Callable[..., Any] | None: ...

    @abstractmethod
    def set_update_handler(
        self,
        name: str | None,
        handler: Callable[..., Any] | None,
        validator: Callable[..., Any] | None,
    ) -> None: ...

    # What the code waits for; options are those of the public functions, all of them given

    @abstractmethod
    async def sleep(self, duration: float, *, summary: str | None) -> None: ...

    @abstractmethod
    async def wait_condition(
        self, fn: Callable[[], bool], *, timeout: float | None, timeout_summary: str | None
    ) -> None: ...

    @abstractmethod
    def start_activity(
        self, activity: Any, args: Sequence[Any], *, result_type: type | None, **options: Any
    ) -> ActivityHandle[Any]: ...

    @abstractmethod
    def start_local_activity(
        self, activity: Any, args: Sequence[Any], *, result_type: type | None, **options: Any
    ) -> ActivityHandle[Any]: ...

    @abstractmethod
    async def start_child_workflow(
        self, workflow: Any, args: Sequence[Any], *, result_type: type | None, **options: Any
    ) -> ChildWorkflowHandle[Any, Any]: ...

    @abstractmethod
    def external_workflow_handle(self, id: str, *, run_id: str | None) -> ExternalWorkflowHandle[Any]: ...

    @abstractmethod
    async def start_nexus_operation(self, **options: Any) -> NexusOperationHandle[Any]: ...

    @abstractmethod
    def continue_as_new(self, workflow: Any, args: Sequence[Any], **options: Any) -> NoReturn: ...
