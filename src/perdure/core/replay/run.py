"""A workflow run in a worker: workflow tasks in, completions out; between them history is held against the code.

One `WorkflowRun` with its program is one entry of the worker's sticky cache. Calls are not thread-safe: the worker lets
at most one be under way at a time (`fail` excepted).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from perdure.api.command.v1 import Command
from perdure.api.common.v1 import MeteringMetadata, Payloads
from perdure.api.enums.v1 import QueryResultType, WorkflowTaskFailedCause
from perdure.api.failure.v1 import ApplicationFailureInfo, Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.query.v1 import WorkflowQuery, WorkflowQueryResult
from perdure.core.replay.activation import (
    Activation,
    DoUpdate,
    InitializeWorkflow,
    Job,
    NotifyHasPatch,
    QueryWorkflow,
    ResolveActivity,
    SignalWorkflow,
    UpdateRandomSeed,
)
from perdure.core.replay.dispatch import take
from perdure.core.replay.errors import HistoryError, NondeterminismError
from perdure.core.replay.events import (
    WORKFLOW_EXECUTION_STARTED,
    WORKFLOW_TASK_COMPLETED,
    WORKFLOW_TASK_STARTED,
)
from perdure.core.replay.instructions import Answer, AnswerQuery, FailWorkflow, Program
from perdure.core.replay.ledger import Ledger
from perdure.core.replay.machines import completion, local_activity, update
from perdure.core.replay.machines.base import Machine
from perdure.core.replay.steps import (
    PAUSE,
    CacheMissError,
    LocalActivityOutcome,
    LocalActivityWork,
    Pause,
    RunConfig,
    Step,
    TaskCompletion,
    TaskFailure,
    WorkflowTask,
)
from perdure.core.replay.walk import Walk

DEFAULT_CONFIG = RunConfig()
LEGACY_QUERY_ID: Final = "legacy"
HEARTBEAT_FRACTION: Final = 0.8
"""A task with running local activities is handed in after this part of its time-out."""

_UNHANDLED: Final = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
_NON_DETERMINISTIC: Final = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
_ORDER: Final[dict[type, int]] = {
    InitializeWorkflow: 0,
    NotifyHasPatch: 1,
    UpdateRandomSeed: 2,
    SignalWorkflow: 3,
    DoUpdate: 3,
}
_OTHERS: Final = 4


class _CodeFailedError(Exception):
    """The code could not be run to where it waits."""

    def __init__(self, failure: Failure, error: BaseException | None) -> None:
        self.failure = failure
        self.error = error
        super().__init__(failure.message)


class WorkflowRun:
    """Holds one run's history against its code.

    Args:
        workflow_id: of the run.
        run_id: of the run; the random seed comes from the *original* run id in its first event.
        program: the code under execution, fresh (never activated).
        config: what the run has to know about its worker.

    Attributes:
        activation_count: grows by one before each call of `program.activate`; a deadlock watch compares it between
            looks, because one task may activate many times (replay).
        is_complete: the code asked to close the run (or history shows it closed); questions can still be answered.
        has_task: a task is in hand: its Step was LocalActivityWork and no completion has been handed out yet.
        last_event_id: the last event this run has seen; the next sticky task goes on after it.
        started_event_id: of the last workflow task that the code saw.
        workflow_type, workflow_task_timeout_s, task_queue: from the first event (empty/10.0 before the first task).
        eviction: why the run must leave the cache, None while it may stay.
    """

    def __init__(
        self, workflow_id: str, run_id: str, program: Program, config: RunConfig = DEFAULT_CONFIG
    ) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.program = program
        self.config = config
        self.activation_count = 0
        self.has_task = False
        self.eviction: str | None = None
        self._ledger = Ledger(workflow_id, run_id, config)
        self._walk = Walk(self._ledger)
        self._attempt = 1
        self._legacy_query: WorkflowQuery | None = None
        self._queries: dict[str, WorkflowQuery] = {}
        self._results: dict[str, WorkflowQueryResult] = {}
        self._local_retries = 0
        self._versioning_behavior = 0
        self._held_jobs: list[ResolveActivity] | None = None

    @property
    def is_complete(self) -> bool:
        return self._ledger.is_complete or self._walk.has_ended

    @property
    def last_event_id(self) -> int:
        return self._walk.last_event_id

    @property
    def started_event_id(self) -> int:
        return self._walk.started_event_id

    @property
    def workflow_type(self) -> str:
        started = self._ledger.started
        return started.workflow_type.name if started is not None else ""

    @property
    def task_queue(self) -> str:
        started = self._ledger.started
        return started.task_queue.name if started is not None else ""

    @property
    def workflow_task_timeout_s(self) -> float:
        started = self._ledger.started
        if started is None or not started.HasField("workflow_task_timeout"):
            return 10.0
        return float(started.workflow_task_timeout.seconds + started.workflow_task_timeout.nanos / 1e9)

    # --- calls of the worker ---

    def handle(self, task: WorkflowTask) -> Step:
        """Takes a polled workflow task; blocks while workflow code runs (call it in the workflow thread).

        Returns: the completion, the failure, local activities to run first, or a pause.
        Raises: CacheMissError when the events do not go on where this run stands.
        """
        self._attempt = task.attempt
        self._legacy_query = task.query
        self._queries = dict(task.queries)
        self._results = {}
        walk = self._walk
        self.has_task = True

        def begin() -> Step:
            walk.add(task.events, task.previous_started_event_id)
            walk.add_requests([update.Request.of_message(message) for message in task.messages])
            walk.next_window()
            if task.query is None:
                return self._advance()
            # A question alone records nothing: what was done since the last task is told in the next one.
            ledger = self._ledger
            self._held_jobs, ledger.local_jobs = ledger.local_jobs, []
            return self._advance()

        return self._guarded(begin)

    def check_end(self) -> None:
        """Lets a saved history's last completed task count, too, if something follows it: no task may come after it."""
        self._walk.checks_end = True

    def watch(self, before_event: Callable[[HistoryEvent], None]) -> None:
        """Has something called before each event is applied, when what the previous one led to is done; for debuggers.

        Events between two activations change nothing that the code sees, whoever looks in between.
        """
        self._walk.before_event = before_event

    @property
    def waiting_jobs(self) -> Sequence[Job]:
        """What the code will be told with its next activation, as far as events have brought it."""
        return [*self._ledger.jobs, *self._ledger.local_jobs]

    @property
    def waiting_commands(self) -> Sequence[tuple[Machine, int]]:
        """What the code has asked for and no event has recorded yet, each with the type of the event that will."""
        return [entry for entry in self._ledger.commands if not entry[0].dropped]

    def resume(self) -> Step:
        """Goes on after a `Pause`; blocks while workflow code runs."""
        return self._guarded(self._advance)

    def local_activity_resolved(self, seq: int, outcome: LocalActivityOutcome) -> Step | None:
        """Reports the end of a local activity; blocks while workflow code runs.

        Returns: the next step of the task in hand; None when there is no task in hand (the heartbeat's follower has
            not come yet), or the local activity is not awaited any more.
        """
        ledger = self._ledger
        was_running = seq in ledger.local_running
        is_awaited = local_activity.resolved(ledger, seq, outcome)
        if not self.has_task or not (was_running or is_awaited):
            return None
        return self._guarded(self._advance)

    def local_activity_retried(self) -> None:
        """Counts one retry of a local activity inside this worker, for the metering metadata."""
        self._local_retries += 1

    def heartbeat(self) -> TaskCompletion | TaskFailure | None:
        """Hands in the task in hand although local activities are running, asking for a new task at once.

        Blocks while workflow code runs: it is told what local activities did so far, and asked the task's questions.

        Returns: the completion (or what went wrong); None when there is no task in hand.
        """
        if not self.has_task:
            return None

        def hand_in() -> Step:
            while self._has_jobs():
                self._activate_jobs()
            self._answer_queries()
            return self._completion(is_heartbeat=self._must_wait())

        step = self._guarded(hand_in)
        return None if isinstance(step, (LocalActivityWork, Pause)) else step

    def reset_to(self, started_event_id: int) -> None:
        """The server discarded the task just completed (it was speculative): stand where `started_event_id` left off.

        Args:
            started_event_id: `reset_history_event_id` of the RespondWorkflowTaskCompleted response; 0 does nothing.
        """
        if started_event_id:
            self._walk.reset_to(started_event_id)

    def fail(self, cause: WorkflowTaskFailedCause.ValueType, failure: Failure, message: str) -> TaskFailure:
        """Gives up the task in hand for a reason seen from outside (deadlock, a payload that does not decode).

        Sets `eviction`; `legacy_query` and `should_report` are set for the task in hand. Safe to call while another
        thread is stuck inside `handle`: that call's outcome must then be thrown away.
        """
        return self._failure(cause, failure, message)

    # --- from one activation to the next ---

    def _guarded(self, action: Callable[[], Step]) -> Step:
        """Runs an action; what goes wrong between history and code becomes the task's failure."""
        try:
            step = action()
        except CacheMissError:
            self.has_task = False
            self.eviction = "cache miss"
            raise
        except NondeterminismError as error:
            if self.config.nondeterminism_fails_workflow and self._legacy_query is None:
                return self._fail_workflow(error)
            failure = _application_failure(str(error), "NondeterminismError")
            return self._failure(_NON_DETERMINISTIC, failure, str(error), error)
        except HistoryError as error:
            return self._failure(
                _UNHANDLED, _application_failure(str(error), "HistoryError"), str(error), error
            )
        except _CodeFailedError as error:
            return self._failure(_UNHANDLED, error.failure, str(error), error.error)
        if not isinstance(step, (LocalActivityWork, Pause)):
            self.has_task = False
            self._walk.forget_events()
        return step

    def _advance(self) -> Step:
        """Activates the code until history is used up and nothing is left to tell it.

        What a local activity did is told when it is done, although others are still running.
        """
        ledger = self._ledger
        at_once = self.config.activations_at_once
        pause_at = self.activation_count + at_once
        while True:
            if at_once and self.activation_count >= pause_at:
                return PAUSE
            if ledger.is_complete:
                # What the code would still ask for could not be sent: the command that closes the run is the last.
                ledger.jobs, ledger.local_jobs = [], []
                ledger.local_due.clear()
            if self._has_jobs():
                self._activate_jobs()
            else:
                self._walk_on()
                if not self._has_jobs():
                    break
        if self._must_wait():
            return self._local_work()
        self._answer_queries()
        step = self._completion(is_heartbeat=False)
        if self._held_jobs is not None:
            ledger.local_jobs, self._held_jobs = self._held_jobs, None
        return step

    def _walk_on(self) -> None:
        """Walks over windows that bring nothing to the code."""
        walk, ledger = self._walk, self._ledger
        while walk.next_window() and ledger.replaying and not self._has_jobs():
            pass
        if walk.has_ended:
            ledger.replaying = False

    def _has_jobs(self) -> bool:
        ledger = self._ledger
        return bool(ledger.jobs or ledger.local_jobs or ledger.local_due)

    def _must_wait(self) -> bool:
        ledger = self._ledger
        if ledger.is_complete or self._legacy_query is not None:
            return False
        return bool(ledger.local_queue or ledger.local_running)

    def _activate_jobs(self) -> None:
        ledger = self._ledger
        if ledger.local_due:
            local_activity.tell_due(ledger)
        jobs: list[Job] = ledger.jobs
        if len(jobs) > 1:
            jobs.sort(key=lambda job: _ORDER.get(type(job), _OTHERS))
        if ledger.local_jobs:
            jobs = self._with_local_jobs(jobs)
        ledger.jobs = []
        if not jobs:
            return
        ledger.activation_index += 1
        answer = self._activate(jobs, ledger.replaying)
        self._versioning_behavior = answer.versioning_behavior or self._versioning_behavior
        if answer.used_flags:
            ledger.flags.use_lang(answer.used_flags)
        take(ledger, answer.instructions, answer.markers)

    def _with_local_jobs(self, jobs: list[Job]) -> list[Job]:
        """What local activities did, behind the other jobs of the same activation."""
        ledger = self._ledger
        told: list[ResolveActivity] = ledger.local_jobs
        if ledger.replaying and ledger.flags.tells_local_activities_apart:
            if jobs:
                return jobs
            told.sort(key=_seq)
        elif ledger.local_places:
            # Workers that told several together told them in the order in which they ended.
            places, last = ledger.local_places, len(ledger.local_places)
            told.sort(key=lambda job: places.get(job.seq, last))
        ledger.advance_to(ledger.local_time_ns)
        ledger.local_jobs = []
        return [*jobs, *told]

    def _activate(self, jobs: Sequence[Job], is_replaying: bool) -> Answer:
        walk, ledger = self._walk, self._ledger
        if not is_replaying:
            walk.build_id, walk.deployment_name = self.config.build_id, self.config.deployment_name
        activation = Activation(
            now_ns=ledger.now_ns,
            is_replaying=is_replaying,
            history_length=walk.last_event_id,
            jobs=jobs,
            build_id=walk.build_id,
            deployment_name=walk.deployment_name,
            available_flags=ledger.flags.lang,
            last_sdk_version=ledger.flags.sdk_version,
            history_size_bytes=walk.history_size_bytes,
            continue_as_new_suggested=walk.continue_as_new_suggested,
            suggest_continue_as_new_reasons=walk.suggest_reasons,
            target_worker_deployment_version_changed=walk.deployment_changed,
        )
        self.activation_count += 1
        answer = self.program.activate(activation)
        if answer.task_failure is not None:
            raise _CodeFailedError(answer.task_failure, answer.task_error)
        return answer

    def _answer_queries(self) -> None:
        """Asks the code the task's questions, in an activation of their own; what else it asks for is ignored."""
        questions = list(self._queries.items())
        if self._legacy_query is not None:
            questions.append((LEGACY_QUERY_ID, self._legacy_query))
        self._queries = {}
        if not questions:
            return
        answer = self._activate(
            [QueryWorkflow(query_id, query) for query_id, query in questions], is_replaying=True
        )
        for instruction in answer.instructions:
            if isinstance(instruction, AnswerQuery):
                self._results[instruction.query_id] = _query_result(instruction)

    # --- outcomes ---

    def _local_work(self) -> LocalActivityWork:
        ledger = self._ledger
        start = [ledger.local_activities[seq].work() for seq in ledger.local_queue]
        ledger.local_running.update(ledger.local_queue)
        cancel = [seq for seq in ledger.local_cancels if seq in ledger.local_running]
        ledger.local_queue, ledger.local_cancels = [], []
        return LocalActivityWork(start, cancel, self.workflow_task_timeout_s * HEARTBEAT_FRACTION)

    def _completion(self, is_heartbeat: bool) -> TaskCompletion:
        ledger = self._ledger
        self.has_task = False
        if self._legacy_query is not None:
            self._legacy_query = None
            missing = WorkflowQueryResult(
                result_type=QueryResultType.QUERY_RESULT_TYPE_FAILED,
                error_message="The workflow code did not answer the question.",
            )
            return TaskCompletion([], legacy_query_result=self._results.get(LEGACY_QUERY_ID, missing))
        if self._walk.has_ended:
            return TaskCompletion([], query_results=self._results, is_complete=True)
        commands: list[Command] = []
        for machine, kind in ledger.commands:
            if not machine.dropped:
                command = machine.command(ledger, kind)
                if machine.markers is not None:
                    command.event_group_markers.extend(machine.markers)
                commands.append(command)
        messages, ledger.outbox = ledger.outbox, []
        retries, self._local_retries = self._local_retries, 0
        if ledger.is_complete:
            self.eviction = self.eviction or "the workflow has ended"
        walk = self._walk
        walk.sent_live = True
        ledger.activation_index = 0
        walk.build_id, walk.deployment_name = self.config.build_id, self.config.deployment_name
        return TaskCompletion(
            commands,
            messages,
            self._results,
            sdk_metadata=ledger.flags.for_completion(),
            metering_metadata=(
                MeteringMetadata(nonfirst_local_activity_execution_attempts=retries) if retries else None
            ),
            force_create_new_workflow_task=is_heartbeat,
            versioning_behavior=self._versioning_behavior,
            is_complete=ledger.is_complete,
            cancel_local_activities=(
                sorted(ledger.local_running | ledger.local_abandoned) if ledger.is_complete else []
            ),
        )

    def _failure(
        self,
        cause: WorkflowTaskFailedCause.ValueType,
        failure: Failure,
        message: str,
        error: BaseException | None = None,
    ) -> TaskFailure:
        self.has_task = False
        self.eviction = message
        is_query = self._legacy_query is not None
        return TaskFailure(cause, failure, message, is_query, is_query or self._attempt <= 1, error)

    def _fail_workflow(self, error: NondeterminismError) -> TaskCompletion:
        """As the user wishes, a non-determinism error ends the workflow instead of blocking it."""
        ledger = self._ledger
        self.has_task = False
        self.eviction = str(error)
        instruction = FailWorkflow(_application_failure(str(error), "NondeterminismError"))
        ledger.commands.clear()
        completion.close(ledger, instruction)
        commands = [machine.command(ledger, kind) for machine, kind in ledger.commands]
        return TaskCompletion(commands, sdk_metadata=ledger.flags.for_completion(), is_complete=True)


def _seq(job: ResolveActivity) -> int:
    return job.seq


def _application_failure(message: str, kind: str) -> Failure:
    return Failure(message=message, application_failure_info=ApplicationFailureInfo(type=kind))


def _query_result(answer: AnswerQuery) -> WorkflowQueryResult:
    if answer.failure is not None:
        return WorkflowQueryResult(
            result_type=QueryResultType.QUERY_RESULT_TYPE_FAILED,
            error_message=answer.failure.message,
            failure=answer.failure,
        )
    payloads = [answer.result] if answer.result is not None else []
    return WorkflowQueryResult(
        result_type=QueryResultType.QUERY_RESULT_TYPE_ANSWERED, answer=Payloads(payloads=payloads)
    )


def replay_history(
    program: Program,
    events: Sequence[HistoryEvent],
    *,
    workflow_id: str,
    run_id: str = "",
    config: RunConfig = DEFAULT_CONFIG,
) -> TaskFailure | None:
    """Replays a saved history against the code and compares.

    Args:
        program: the code, fresh.
        events: the whole history from event 1, payloads decoded; it may end anywhere. What its last completed task
            asked for is compared in full only if another event follows: else the history may be cut within it.
        workflow_id: of the run.
        run_id: of the run; empty: the original run id of the first event.
        config: `build_id` and the like; local activities not in history are not run.

    Returns: None when the code agrees with history; otherwise what the workflow task would have failed with
        (`error` is a NondeterminismError when history and code differ).
    Raises: HistoryError when the events are no history (wrong first event, gaps).
    """
    run, task = begin_replay(program, events, workflow_id=workflow_id, run_id=run_id, config=config)
    step = run.handle(task)
    while isinstance(step, Pause):
        step = run.resume()
    return step if isinstance(step, TaskFailure) else None


def begin_replay(
    program: Program,
    events: Sequence[HistoryEvent],
    *,
    workflow_id: str,
    run_id: str = "",
    config: RunConfig = DEFAULT_CONFIG,
) -> tuple[WorkflowRun, WorkflowTask]:
    """Makes the run and the one task that replay a saved history; see `replay_history`.

    Raises: HistoryError when the events are no history (wrong first event, gaps).
    """
    if not events or events[0].event_type != WORKFLOW_EXECUTION_STARTED:
        raise HistoryError(
            "A history starts with WorkflowExecutionStarted; this one does not: is it complete?"
        )
    ids = [event.event_id for event in events]
    if ids != list(range(1, len(ids) + 1)):
        raise HistoryError("The history has gaps: its events are not numbered one by one from 1.")
    if not run_id:
        run_id = events[0].workflow_execution_started_event_attributes.original_execution_run_id
    previous = started = 0
    for index, event in enumerate(events):
        if event.event_type == WORKFLOW_TASK_STARTED:
            is_last = index + 1 == len(events)
            if is_last or events[index + 1].event_type == WORKFLOW_TASK_COMPLETED:
                previous, started = started, event.event_id
    if events[-1].event_type != WORKFLOW_TASK_STARTED:
        previous = started
    run = WorkflowRun(workflow_id, run_id, program, config)
    run.check_end()
    return run, WorkflowTask(events, previous, started)
