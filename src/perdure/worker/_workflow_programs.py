"""The workflows that a worker has registered, and fresh code for their runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from perdure.api.failure.v1 import Failure
from perdure.common import VersioningBehavior
from perdure.core.replay.instructions import Program
from perdure.core.replay.steps import RunConfig
from perdure.exceptions import ApplicationError
from perdure.service import __version__
from perdure.worker._interceptor import Interceptor, WorkflowInterceptorClassInput
from perdure.worker._runners import WorkflowRunner
from perdure.worker.interceptor_workflow import WorkflowInboundInterceptor
from perdure.worker.workflow_code import WorkflowCodeSettings, WorkflowProgram, generations, guards
from perdure.worker.workflow_sandbox import SandboxedWorkflowRunner
from perdure.workflow import NondeterminismError, _Definition

if TYPE_CHECKING:
    from perdure.converter import DataConverter

SDK_NAME = "perdure-python"
_ACTIVATIONS_AT_ONCE = 50
"""Some milliseconds of a long replay; then the event loop, on which it runs, gets to other things."""


def register_workflows(
    workflows: Sequence[type],
    runner: WorkflowRunner,
    unsandboxed_runner: WorkflowRunner,
    *,
    must_say_versioning: bool = False,
) -> dict[str | None, _Definition]:
    """Return definitions by name; the dynamic one under None.

    Args:
        workflows: Classes with `workflow.defn`.
        runner: Is told of each definition.
        unsandboxed_runner: Is told of those that want no sandbox.
        must_say_versioning: Whether each must say how its runs are versioned.

    Raises:
        TypeError: There are two dynamic workflows.
        ValueError: A class is no workflow, a name is there twice, or a versioning behavior is missing.
        RuntimeError: A runner refuses a definition.
    """
    definitions: dict[str | None, _Definition] = {}
    generations.install()
    for workflow in workflows:
        definition = _Definition.must_from_class(workflow)
        generations.watch(workflow)
        if definition.name in definitions:
            if definition.name is None:
                raise TypeError("More than one dynamic workflow")
            raise ValueError(f"More than one workflow named {definition.name}")
        says_versioning = definition.versioning_behavior not in (None, VersioningBehavior.UNSPECIFIED)
        if must_say_versioning and not says_versioning and not definition.dynamic_config_fn:
            raise ValueError(
                f"Workflow {definition.name} must specify a versioning behavior using the `versioning_behavior` "
                "argument to `@workflow.defn` or by defining a function decorated with `@workflow.dynamic_config`."
            )
        try:
            (runner if definition.sandboxed else unsandboxed_runner).prepare_workflow(definition)
        except Exception as error:  # runners are the user's code
            raise RuntimeError(f"Failed validating workflow {definition.name}") from error
        definitions[definition.name] = definition
    return definitions


def guarded_classes(definitions: Mapping[str | None, _Definition], runner: WorkflowRunner) -> frozenset[type]:
    """Install the guards for workflows that run in the place of the official sandbox; return their classes.

    Args:
        definitions: Of all registered workflows.
        runner: The worker's; one without sandbox runs them unguarded, as do workflows that opted out.
    """
    if not isinstance(runner, SandboxedWorkflowRunner):
        return frozenset()
    classes = frozenset(definition.cls for definition in definitions.values() if definition.sandboxed)
    if classes:
        guards.install()
    for workflow in classes:
        guards.watch(workflow)
    return classes


def permits(runner: WorkflowRunner) -> guards.Permits:
    """What a worker's runner lets workflow code do; see `SandboxRestrictions`."""
    return runner.restrictions._permits() if isinstance(runner, SandboxedWorkflowRunner) else guards.Permits()


def interceptor_classes(
    interceptors: Sequence[Interceptor],
) -> tuple[list[type[WorkflowInboundInterceptor]], MutableMapping[str, Callable[..., Any]]]:
    """Return the classes that wrap workflows, outermost first, and the functions that they may call."""
    functions: dict[str, Callable[..., Any]] = {}
    class_input = WorkflowInterceptorClassInput(unsafe_extern_functions=functions)
    classes = [interceptor.workflow_interceptor_class(class_input) for interceptor in interceptors]
    return [cls for cls in classes if cls is not None], functions


class RegisteredPrograms:
    """Makes code for runs of registered workflows.

    Args:
        settings: What the worker lends to its workflow code.
        data_converter: Turns errors of the worker into failures.
        build_id: Of the worker.
        deployment_name: Of the worker; empty without one.
        records_sdk_metadata: Whether the server keeps what SDKs note with completions.
    """

    def __init__(
        self,
        settings: WorkflowCodeSettings,
        data_converter: DataConverter,
        *,
        build_id: str,
        deployment_name: str = "",
        records_sdk_metadata: bool = True,
    ) -> None:
        self.settings = settings
        self._data_converter = data_converter
        self._config = RunConfig(
            namespace=settings.namespace,
            task_queue=settings.task_queue,
            build_id=build_id,
            deployment_name=deployment_name,
            sdk_name=SDK_NAME,
            sdk_version=__version__,
            records_sdk_metadata=records_sdk_metadata,
            activations_at_once=_ACTIVATIONS_AT_ONCE,
        )
        self._configs: dict[str, RunConfig] = {}

    def config_for(self, workflow_type: str) -> RunConfig:
        """Return what a run of this type has to know about its worker."""
        config = self._configs.get(workflow_type)
        if config is None:
            definition = self._find(workflow_type)
            types = [*self.settings.failure_exception_types]
            types += definition.failure_exception_types if definition is not None else ()
            fails = any(issubclass(NondeterminismError, exception_type) for exception_type in types)
            config = replace(self._config, nondeterminism_fails_workflow=fails)
            # Dynamic and unknown workflows have names without number.
            if definition is not None and definition.name is not None:
                self._configs[workflow_type] = config
        return config

    def create(self, workflow_type: str, workflow_id: str, run_id: str) -> Program:
        """Make fresh code for a run.

        Raises:
            ApplicationError: No such workflow is registered.
        """
        definition = self._find(workflow_type)
        if definition is None:
            names = ", ".join(sorted(name for name in self.settings.definitions if name))
            raise ApplicationError(
                f"Workflow class {workflow_type} is not registered on this worker, available workflows: {names}. "
                "Pass it to Worker(workflows=[...])",
                type="NotFoundError",
            )
        return WorkflowProgram(definition, workflow_id, run_id, self.settings)

    def _find(self, workflow_type: str) -> _Definition | None:
        definitions = self.settings.definitions
        return definitions.get(workflow_type) or definitions.get(None)

    def to_failure(self, error: BaseException) -> Failure:
        """Return an error as a failure, payloads not yet encoded."""
        failure = Failure()
        try:
            self._data_converter.failure_converter.to_failure(
                error, self._data_converter.payload_converter, failure
            )
        except Exception as conversion_error:  # the converter is the user's code
            failure.Clear()
            failure.message = f"Failed converting activation exception: {conversion_error}"
            failure.application_failure_info.SetInParent()
        return failure

    def close(self, program: Program) -> None:
        """End code that is not run any more."""
        if isinstance(program, WorkflowProgram):
            program.evict()
