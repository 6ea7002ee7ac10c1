"""Starting runs: workflow ids, reuse and conflict policies, repeated requests, signal-with-start, eager first tasks.

A workflow id has at most one open run. Which run is current is decided by the store in the commit that starts one; what
is read before is only a guess, and a lost race is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perdure.api.deployment.v1 import WorkerDeploymentOptions
from perdure.api.enums.v1 import WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest
from perdure.core.deployment.routes import UNVERSIONED, version_text
from perdure.core.errors import (
    CurrentRunConflictError,
    FailedPreconditionError,
    NotFoundError,
    UnavailableError,
    VersionConflictError,
    WorkflowAlreadyStartedError,
)
from perdure.core.run import lifecycle, options, versioning, workflow_task
from perdure.core.run.protos import text_payloads
from perdure.core.run.records import QueueKey, RunKey, Task, TaskKey, TaskKind
from perdure.core.run.state import RUNNING, RunHeader, RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.deliveries import WorkflowTaskDelivery
from perdure.server.engine.engine import CONFLICT_RETRIES, Engine
from perdure.server.engine.pending import Pending
from perdure.server.engine.runs import RunSlot
from perdure.server.namespaces import Namespace
from perdure.store.protocol import CurrentRun, StoredSchedule

_FAILED_STATUSES = frozenset(
    (
        lifecycle.STATUS_FAILED,
        lifecycle.STATUS_CANCELED,
        lifecycle.STATUS_TERMINATED,
        lifecycle.STATUS_TIMED_OUT,
    )
)
_REJECT = WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE")
_FAILED_ONLY = WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY")
_USE_EXISTING = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING")
_TERMINATE_EXISTING = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING")


@dataclass(frozen=True, slots=True)
class NewRun:
    """What else is to happen to a run that a request starts.

    Attributes:
        in_first_transition: done in its first transition before its first workflow task, such as recording a signal.
        once_committed: called with its slot after the commit, before its first workflow task is handed over.
    """

    in_first_transition: Callable[[Transition], None] | None = None
    once_committed: Callable[[RunSlot], None] | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The answer to a start.

    Attributes:
        run: the run that the workflow id stands for now.
        first_run_id: the first of its chain.
        started: this request started it (now, or an earlier time it was sent).
        status: of the run.
        eager_task: the first workflow task, when it was asked for with the answer.
        attached: the request's id is attached to the run, which was open before.
    """

    run: RunKey
    first_run_id: str
    started: bool
    status: int = RUNNING
    eager_task: WorkflowTaskDelivery | None = None
    attached: bool = False


class Starts:
    """Starts runs on an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def start(
        self, namespace: Namespace, request: StartWorkflowExecutionRequest, on_new: NewRun | None = None
    ) -> Started:
        """Starts a run, or finds the one that the policies let stand for it.

        What the store was given is finished even if the caller is cancelled meanwhile.

        Args:
            namespace: where.
            request: checked, with policies and timeouts filled in.
            on_new: what else happens to the run if it is a new one.

        Raises:
            WorkflowAlreadyStartedError: the policies forbid it.
            NamespaceNotFoundError: the namespace was deleted meanwhile.
            UnavailableError: the store could not do it, or others kept starting the same id.
        """
        engine = self._engine
        workflow = (namespace.namespace_id, request.workflow_id)
        for _ in range(CONFLICT_RETRIES):
            while (ahead := engine.commits.starting.get(workflow)) is not None:
                await asyncio.wait((ahead,))
            current = await engine.reading(engine.store.current_run(*workflow))
            try:
                if current is not None:
                    found = await self._attach(current, request) or self.existing(current, request)
                    if found is not None:
                        return found
                return await self._create(namespace, request, current, on_new)
            except (CurrentRunConflictError, VersionConflictError):
                continue
        raise UnavailableError(f"workflow id {request.workflow_id} is being started by others; try again")

    async def _attach(self, current: CurrentRun, request: StartWorkflowExecutionRequest) -> Started | None:
        """Leaves on the run that stands for the request what the request wants left, once per request id.

        Returns:
            the answer, or None when it is not the current run that stands for the request, or nothing is to be left.

        Raises:
            CurrentRunConflictError: the run closed meanwhile; look again.
        """
        if not request.HasField("on_conflict_options") or current.start_request_id == request.request_id:
            return None
        wanted = request.on_conflict_options
        request_id = request.request_id if wanted.attach_request_id else ""
        uses_existing = current.status == RUNNING and request.workflow_id_conflict_policy == _USE_EXISTING

        def apply(state: RunState, now_ns: int) -> tuple[Transition | None, Started | None]:
            header = state.header
            found = Started(
                current.run, current.first_run_id, False, header.status, attached=bool(request_id)
            )
            if request_id in state.attached_requests:
                return None, found
            if not uses_existing:
                return None, None
            if not header.is_open:
                raise CurrentRunConflictError("the current run closed")
            tx = Transition(state, now_ns)
            callbacks = request.completion_callbacks if wanted.attach_completion_callbacks else ()
            limit = self._engine.limits.run.callbacks
            if callbacks and len(callbacks) + len(tx.callbacks) > limit:
                raise FailedPreconditionError(
                    f"cannot attach more than {limit} callbacks to a workflow ({len(tx.callbacks)} callbacks already "
                    "attached)"
                )
            links = request.links if wanted.attach_links else ()
            options.attach(tx, request_id=request_id, links=links, callbacks=callbacks)
            return tx, found

        try:
            return await self._engine.transact(current.run, apply)
        except NotFoundError as error:
            raise CurrentRunConflictError("the current run was deleted") from error

    def existing(self, current: CurrentRun, request: StartWorkflowExecutionRequest) -> Started | None:
        """What the current run means for the request: the answer, or None to start a new run (in its place).

        Raises:
            WorkflowAlreadyStartedError: the policies forbid it.
        """
        if current.start_request_id == request.request_id:
            return Started(current.run, current.first_run_id, True, current.status)
        if current.status == RUNNING:
            if request.workflow_id_conflict_policy == _USE_EXISTING:
                return Started(current.run, current.first_run_id, False, current.status)
            if request.workflow_id_conflict_policy == _TERMINATE_EXISTING:
                return None
            raise _already(
                current,
                "Workflow execution is already running. WorkflowId: {}, RunId: {}.",
                request.workflow_id,
            )
        if request.workflow_id_reuse_policy == _REJECT:
            raise _already(
                current,
                "Workflow execution already finished. WorkflowId: {}, RunId: {}. Workflow Id reuse policy: reject "
                "duplicate workflow Id.",
                request.workflow_id,
            )
        if request.workflow_id_reuse_policy == _FAILED_ONLY and current.status not in _FAILED_STATUSES:
            raise _already(
                current,
                "Workflow execution already finished successfully. WorkflowId: {}, RunId: {}. Workflow Id reuse "
                "policy: allow duplicate workflow Id if last run failed.",
                request.workflow_id,
            )
        return None

    async def _create(
        self,
        namespace: Namespace,
        request: StartWorkflowExecutionRequest,
        current: CurrentRun | None,
        on_new: NewRun | None,
    ) -> Started:
        if current is not None and current.status == RUNNING:
            return await self._engine.finish_anyway(self._replace(namespace, request, current, on_new))
        return await self._commit_new(namespace, request, current, on_new, [])

    async def _replace(
        self,
        namespace: Namespace,
        request: StartWorkflowExecutionRequest,
        current: CurrentRun,
        on_new: NewRun | None,
    ) -> Started:
        """Terminates the current run and starts the new one, in one commit."""
        engine = self._engine
        slot = engine.runs.pin(current.run)
        try:
            async with slot.alone():
                try:
                    state = await engine.load(slot)
                except NotFoundError as error:
                    raise CurrentRunConflictError("the current run was deleted") from error
                if not state.header.is_open:
                    raise CurrentRunConflictError("the current run closed")
                return await self._commit_new(namespace, request, current, on_new, [(slot, state)])
        finally:
            engine.runs.unpin(slot)

    async def _commit_new(
        self,
        namespace: Namespace,
        request: StartWorkflowExecutionRequest,
        current: CurrentRun | None,
        on_new: NewRun | None,
        replaced: list[tuple[RunSlot, RunState]],
    ) -> Started:
        engine = self._engine
        slot = self._new_slot(namespace, request)
        run = slot.key
        try:
            now_ns = engine.runtime.now_ns()
            unit = [self.terminated(old_slot, state, now_ns, run) for old_slot, state in replaced]
            tx, eager = self._first_transition(slot, namespace, request, on_new)
            pending = engine.commits.prepare(slot, tx)
            pending.becomes_current = True
            if on_new is not None and on_new.once_committed is not None:
                pending.on_commit, pending.is_patient = on_new.once_committed, True
            pending.expected_current_run_id = current.run.run_id if current is not None else None
            await engine.commits.submit([*unit, pending])
            task = self._eager_task(slot, tx) if eager else None
            return Started(run, run.run_id, True, RUNNING, task)
        finally:
            engine.runs.unpin(slot)

    def _new_slot(self, namespace: Namespace, request: StartWorkflowExecutionRequest) -> RunSlot:
        """The slot of a new run, pinned.

        Raises:
            CurrentRunConflictError: another one of the same id is on its way.
            NamespaceNotFoundError: the namespace was deleted meanwhile.
        """
        engine = self._engine
        engine.namespaces.check_exists(namespace.namespace_id, namespace.name)
        if (namespace.namespace_id, request.workflow_id) in engine.commits.starting:
            raise CurrentRunConflictError("another start was faster")
        return engine.runs.pin(
            RunKey(namespace.namespace_id, request.workflow_id, engine.runtime.new_run_id())
        )

    def _first_transition(
        self,
        slot: RunSlot,
        namespace: Namespace,
        request: StartWorkflowExecutionRequest,
        on_new: NewRun | None = None,
    ) -> tuple[Transition, bool]:
        """How a run begins, and whether its first workflow task goes back with the answer."""
        eager = request.request_eager_execution
        tx = Transition(RunState(slot.key, 0, RunHeader()), self._engine.runtime.now_ns())
        lifecycle.start(tx, request, lifecycle.StartContext(namespace.name, namespace.retention_ns, eager))
        if on_new is not None and on_new.in_first_transition is not None:
            on_new.in_first_transition(tx)
        workflow_task.schedule_if_needed(tx)
        eager = (
            eager
            and tx.header.has_pending_task
            and self._goes_to(tx, request.eager_worker_deployment_options)
        )
        if eager:
            workflow_task.start(tx, request.request_id, request.identity, self._engine.limits.run)
        return tx, eager

    def start_with(
        self,
        namespace: Namespace,
        requests: Sequence[StartWorkflowExecutionRequest],
        following: Callable[[Sequence[RunKey]], StoredSchedule],
    ) -> asyncio.Future[None]:
        """Starts runs of workflow ids that had none yet, in one commit with the schedule whose action they are.

        Args:
            namespace: where.
            requests: checked, with policies and timeouts filled in; each names another workflow id.
            following: the schedule's row, from the runs that are started.

        Returns:
            resolves when all is durable and published. It raises CurrentRunConflictError: there is a run of one of the
            ids already, nothing was written; VersionConflictError: the schedule's row is not the one before, nothing
            was written; UnavailableError: the store could not do it, the outcome may be unknown.

        Raises:
            CurrentRunConflictError: a run of one of the ids is on its way; nothing was written.
            NamespaceNotFoundError: the namespace was deleted meanwhile.
        """
        engine = self._engine
        slots: list[RunSlot] = []
        unit: list[Pending] = []
        try:
            for request in requests:
                slots.append(self._new_slot(namespace, request))
                tx, _ = self._first_transition(slots[-1], namespace, request)
                unit.append(engine.commits.prepare(slots[-1], tx))
                unit[-1].becomes_current = True
            return engine.commits.submit(unit, schedule=following([slot.key for slot in slots]))
        except BaseException:  # whatever it was: pollers that were to get the tasks go on waiting
            engine.commits.drop(unit)
            raise
        finally:
            for slot in slots:
                engine.runs.unpin(slot)

    def terminated(self, slot: RunSlot, state: RunState, now_ns: int, new_run: RunKey) -> Pending:
        """The end of a run that makes room for a new one of its id. The slot's lock must be held."""
        tx = Transition(state, now_ns)
        lifecycle.terminate(
            tx,
            reason="TerminateIfRunning WorkflowIdReusePolicy",
            details=text_payloads(f"terminated by new runID: {new_run.run_id}"),
            identity=lifecycle.SERVER_IDENTITY,
        )
        return self._engine.commits.prepare(slot, tx)

    def _goes_to(self, tx: Transition, worker: WorkerDeploymentOptions) -> bool:
        """Whether the first workflow task is for workers of this version; then the run begins there."""
        is_versioned = worker.worker_versioning_mode == versioning.VERSIONED
        wanted = version_text(worker.deployment_name, worker.build_id) if is_versioned else UNVERSIONED
        run, header = tx.state.run, tx.header
        routes = self._engine.routes(run.namespace_id)
        if versioning.workflow_task_version(header, run.workflow_id, routes) != wanted:
            return False
        header.task_version = wanted
        versioning.taken_by(tx, wanted, routes)
        return True

    def _eager_task(self, slot: RunSlot, tx: Transition) -> WorkflowTaskDelivery:
        header = tx.header
        queue = QueueKey(tx.state.run.namespace_id, header.task_queue, TaskKind.WORKFLOW)
        key = TaskKey(TaskKind.WORKFLOW, header.task_scheduled_event_id)
        task = Task(tx.state.run, key, queue, header.task_scheduled_ns)
        return self._engine.hand_over.workflow_task(slot, tx, task)


def _already(current: CurrentRun, message: str, workflow_id: str) -> WorkflowAlreadyStartedError:
    return WorkflowAlreadyStartedError(
        message.format(workflow_id, current.run.run_id),
        start_request_id=current.start_request_id,
        run_id=current.run.run_id,
        first_run_id=current.first_run_id,
    )
