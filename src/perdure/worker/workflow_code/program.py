"""Workflow code as the run sees it: made before anything is known, comes to life with its first activation."""

from __future__ import annotations

import threading
from contextvars import Context
from types import FrameType

from perdure.api.failure.v1 import Failure
from perdure.core.invariant import present
from perdure.core.replay.activation import Activation, InitializeWorkflow
from perdure.core.replay.instructions import Answer, FailWorkflow
from perdure.exceptions import ApplicationError
from perdure.worker.workflow_code import diagnostics
from perdure.worker.workflow_code.instance import WorkflowInstance, unconverted
from perdure.worker.workflow_code.settings import WorkflowCodeSettings
from perdure.workflow import Info, _Definition


class WorkflowProgram:
    """Implements `perdure.core.replay.instructions.Program` with the workflow classes of a worker.

    One at a time, in any thread: the worker lets at most one activation be under way. Whoever drops a program calls
    `evict` first.

    Args:
        definition: of the workflow class.
        workflow_id, run_id: of the run.
        settings: what the worker lends.

    Attributes:
        workflow_id: of the run.
        thread_id: of the thread that runs the code now; None while none does.
    """

    def __init__(
        self, definition: _Definition, workflow_id: str, run_id: str, settings: WorkflowCodeSettings
    ) -> None:
        self._definition = definition
        self._settings = settings
        self._run_id = run_id
        self.workflow_id = workflow_id
        self._instance: WorkflowInstance | None = None
        # The workflow's own context variables: nothing of the worker's task or thread is to be seen by its code.
        self._context = Context()
        self.thread_id: int | None = None

    @property
    def info(self) -> Info | None:
        """What the run knows about itself; None before its first activation."""
        return self._instance.info if self._instance is not None else None

    def waiting(self) -> list[tuple[str, list[FrameType]]]:
        """Name and frames of every task of the code that waits; for debuggers, between two activations."""
        return diagnostics.waiting(self._instance) if self._instance is not None else []

    def activate(self, activation: Activation) -> Answer:
        """Applies the jobs, runs the code until it waits for something, and says what it asked for.

        Never raises for anything that the user's code does: the answer's `task_failure` says it.
        """
        self.thread_id = threading.get_ident()
        try:
            return self._context.run(self._activate, activation)
        finally:
            self.thread_id = None

    def _activate(self, activation: Activation) -> Answer:
        if self._instance is None:
            try:
                self._instance = self._new_instance(activation)
            except (
                Exception
            ) as error:  # whatever an interceptor or a converter raises while the run is set up
                return self._cannot_start(error)
        return self._instance.activate(activation)

    def _new_instance(self, activation: Activation) -> WorkflowInstance:
        start = next((job for job in activation.jobs if isinstance(job, InitializeWorkflow)), None)
        start = present(start, "the first activation of a run does not start it", run_id=self._run_id)
        return WorkflowInstance(self._settings, self._definition, self._run_id, start, activation)

    def _cannot_start(self, error: Exception) -> Answer:
        failure = Failure()
        try:
            self._settings.failure_converter.to_failure(error, self._settings.payload_converter, failure)
        except Exception as conversion_error:  # whatever a custom converter raises
            return Answer(task_failure=unconverted(conversion_error), task_error=error)
        if isinstance(error, ApplicationError) and error.non_retryable:
            return Answer([FailWorkflow(failure)])
        return Answer(task_failure=failure, task_error=error)

    def evict(self) -> None:
        """Throws the run away. Must not be called while an activation is under way."""
        instance, self._instance = self._instance, None
        if instance is not None:
            self._context.run(instance.evict)
