"""What a worker lends to all the workflow code it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from perdure.common import MetricMeter
from perdure.converter import FailureConverter, PayloadConverter
from perdure.worker.interceptor_workflow import WorkflowInboundInterceptor
from perdure.worker.workflow_code.guards import Permits
from perdure.workflow import Info, _Definition


@dataclass(frozen=True)
class PatchActivationInput:
    """What a worker's patch activation callback is asked about."""

    workflow_info: Info
    """The workflow that calls `patched`."""

    patch_id: str
    """What it calls it with."""


def _accept_any(name: str) -> None:
    """A worker that checks nothing."""


@dataclass(frozen=True)
class WorkflowCodeSettings:
    """What a worker lends to all the workflow code it runs.

    Attributes:
        namespace, task_queue: of the worker.
        definitions: by workflow type; under None the dynamic one.
        payload_converter, failure_converter: without a context.
        interceptor_classes: from the outermost to the innermost.
        extern_functions: of interceptors, by name.
        metric_meter: the worker's; None where no metrics are wanted.
        failure_exception_types: exceptions that fail the workflow rather than the workflow task.
        disable_eager_activities: activities are never to be handed back with the completion.
        patch_activation_callback: whether a run that meets a patch for the first time takes the new code.
        assert_local_activity_valid: raises if the worker has no activity of this name.
        always_tracks_sources: instructions say where in the code they come from even when nothing is replayed.
        logic_flags: behaviour flags that new runs use.
        guarded: workflow classes whose code must not do what breaks replay (see `guards`).
        permits: what the guards let through nevertheless.
    """

    namespace: str
    task_queue: str
    definitions: Mapping[str | None, _Definition]
    payload_converter: PayloadConverter
    failure_converter: FailureConverter
    interceptor_classes: Sequence[type[WorkflowInboundInterceptor]] = ()
    extern_functions: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    metric_meter: MetricMeter | None = None
    failure_exception_types: Sequence[type[BaseException]] = ()
    disable_eager_activities: bool = False
    patch_activation_callback: Callable[[PatchActivationInput], bool] | None = None
    assert_local_activity_valid: Callable[[str], None] = _accept_any
    always_tracks_sources: bool = False
    logic_flags: frozenset[int] = frozenset()
    guarded: frozenset[type] = frozenset()
    permits: Permits = field(default_factory=Permits)
