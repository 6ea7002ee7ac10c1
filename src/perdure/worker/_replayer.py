"""Replaying saved histories against today's code: does it still ask for what history recorded?"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, cast

from perdure.common import HeaderCodecBehavior, MetricMeter
from perdure.converter import DataConverter
from perdure.converter._failure_converter import message_of
from perdure.core.replay.errors import NondeterminismError as CoreNondeterminismError
from perdure.core.replay.run import WorkflowRun, begin_replay
from perdure.core.replay.steps import Pause, Step, TaskFailure, WorkflowTask
from perdure.exceptions import TemporalError
from perdure.runtime import Runtime
from perdure.worker._environment import Environment
from perdure.worker._interceptor import Interceptor
from perdure.worker._payload_edge import WorkflowPayloads, has_effect
from perdure.worker._plugin import Plugin
from perdure.worker._runners import UnsandboxedWorkflowRunner, WorkflowRunner
from perdure.worker._workflow_executors import WorkflowExecutor, make_executor
from perdure.worker._workflow_programs import (
    RegisteredPrograms,
    guarded_classes,
    interceptor_classes,
    permits,
    register_workflows,
)
from perdure.worker._workflow_watch import DeadlockError
from perdure.worker.workflow_code import WorkflowCodeSettings
from perdure.worker.workflow_sandbox import SandboxedWorkflowRunner
from perdure.workflow import NondeterminismError

if TYPE_CHECKING:
    from perdure.client import WorkflowHistory

_RUNNER = SandboxedWorkflowRunner()
_UNSANDBOXED_RUNNER = UnsandboxedWorkflowRunner()
_DEADLOCK_TIMEOUT_S = 2.0


class ReplayFailedError(TemporalError, RuntimeError):
    """A history could not be replayed for another reason than a difference from the code."""


class ReplayerConfig(TypedDict, total=False):
    """Arguments of `Replayer`."""

    workflows: Sequence[type]
    workflow_task_executor: ThreadPoolExecutor | None
    workflow_runner: WorkflowRunner
    unsandboxed_workflow_runner: WorkflowRunner
    namespace: str
    data_converter: DataConverter
    interceptors: Sequence[Interceptor]
    build_id: str | None
    identity: str | None
    workflow_failure_exception_types: Sequence[type[BaseException]]
    debug_mode: bool
    runtime: Runtime | None
    disable_safe_workflow_eviction: bool
    header_codec_behavior: HeaderCodecBehavior


@dataclass(frozen=True)
class WorkflowReplayResult:
    """How the replay of one history went.

    Attributes:
        history: What was replayed.
        replay_failure: Why the code does not fit the history, such as NondeterminismError; None if it does. A
            workflow that failed when it ran, and fails the same way again, is no replay failure.
    """

    history: WorkflowHistory
    replay_failure: Exception | None


@dataclass(frozen=True)
class WorkflowReplayResults:
    """How the replay of several histories went.

    Attributes:
        replay_failures: By run id; by workflow id where a history does not begin with its start, and names no run.
    """

    replay_failures: Mapping[str, Exception]


class Replayer:
    """Replays histories. The arguments are those that the worker had which ran the workflows."""

    def __init__(
        self,
        *,
        workflows: Sequence[type],
        workflow_task_executor: ThreadPoolExecutor | None = None,
        workflow_runner: WorkflowRunner = _RUNNER,
        unsandboxed_workflow_runner: WorkflowRunner = _UNSANDBOXED_RUNNER,
        namespace: str = "ReplayNamespace",
        data_converter: DataConverter = DataConverter.default,
        interceptors: Sequence[Interceptor] = [],
        plugins: Sequence[Plugin] = [],
        build_id: str | None = None,
        identity: str | None = None,
        workflow_failure_exception_types: Sequence[type[BaseException]] = [],
        debug_mode: bool = False,
        runtime: Runtime | None = None,
        disable_safe_workflow_eviction: bool = False,
        header_codec_behavior: HeaderCodecBehavior = HeaderCodecBehavior.NO_CODEC,
    ) -> None:
        """Make a replayer; see `Worker` for the arguments.

        Raises:
            ValueError: No workflow is given, or one is no workflow.
        """
        arguments = dict(locals())
        del arguments["self"], arguments["plugins"]
        self._config = cast(ReplayerConfig, {**arguments, "workflows": list(workflows)})
        self._initial_config = self._config.copy()
        self.plugins = plugins
        for plugin in plugins:
            self._config = plugin.configure_replayer(self._config)
        if not self._config.get("workflows"):
            raise ValueError("At least one workflow must be specified")

    def config(self, *, active_config: bool = False) -> ReplayerConfig:
        """Return the arguments this replayer was made with, as a shallow copy.

        Args:
            active_config: As plugins have changed them, rather than as given.
        """
        config = self._config.copy() if active_config else self._initial_config.copy()
        config["workflows"] = list(config.get("workflows", []))
        return config

    async def replay_workflow(
        self, history: WorkflowHistory, *, raise_on_replay_failure: bool = True
    ) -> WorkflowReplayResult:
        """Replay one history.

        Args:
            history: Fetched from a server, or read with `WorkflowHistory.from_json` from what the web UI or the
                command line has saved.
            raise_on_replay_failure: Raise the failure, if there is one.

        Raises:
            NondeterminismError: The code asks for something else than history recorded.
        """

        async def only() -> AsyncIterator[WorkflowHistory]:
            yield history

        async with self.workflow_replay_iterator(only()) as results:
            async for result in results:
                if raise_on_replay_failure and result.replay_failure is not None:
                    raise result.replay_failure
                return result
        raise RuntimeError("No histories")

    async def replay_workflows(
        self, histories: AsyncIterator[WorkflowHistory], *, raise_on_replay_failure: bool = True
    ) -> WorkflowReplayResults:
        """Replay several histories.

        Args:
            histories: One after the other.
            raise_on_replay_failure: Raise the first failure.
        """
        failures: dict[str, Exception] = {}
        async with self.workflow_replay_iterator(histories) as results:
            async for result in results:
                if result.replay_failure is None:
                    continue
                if raise_on_replay_failure:
                    raise result.replay_failure
                history = result.history
                failures[history.run_id if _has_start(history) else history.workflow_id] = (
                    result.replay_failure
                )
        return WorkflowReplayResults(replay_failures=failures)

    def workflow_replay_iterator(
        self, histories: AsyncIterator[WorkflowHistory]
    ) -> AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]]:
        """Replay several histories, and give each result when it is there.

        Args:
            histories: One after the other.

        Returns:
            For `async with`; its value for `async for`.
        """
        run: _RunReplayer = Replayer._replay_iterator
        for plugin in reversed(self.plugins):
            run = _around(plugin, run)
        return run(self, histories)

    @asynccontextmanager
    async def _replay_iterator(
        self, histories: AsyncIterator[WorkflowHistory]
    ) -> AsyncIterator[AsyncIterator[WorkflowReplayResult]]:
        programs = self._programs()
        is_debug = self._config.get("debug_mode") or bool(os.environ.get("TEMPORAL_DEBUG"))
        executor = make_executor(
            None if is_debug else self._config.get("workflow_task_executor"),
            None if is_debug else _DEADLOCK_TIMEOUT_S,
        )

        async def results() -> AsyncIterator[WorkflowReplayResult]:
            async for history in histories:
                yield WorkflowReplayResult(history, await self._replay(programs, executor, history))

        yield results()
        await executor.drain()

    async def _replay(
        self, programs: RegisteredPrograms, executor: WorkflowExecutor, history: WorkflowHistory
    ) -> Exception | None:
        try:
            failure = await self._replay_one(programs, executor, history)
        except Exception as error:  # whatever keeps a history from being replayed is the result of its replay
            return _with_cause(ReplayFailedError(_with_notes(error)), error)
        if failure is None:
            return None
        if isinstance(failure.error, CoreNondeterminismError):
            return _with_cause(NondeterminismError(str(failure.error)), failure.error)
        if isinstance(failure.error, NondeterminismError):
            return failure.error
        return _with_cause(ReplayFailedError(failure.message), failure.error)

    async def _replay_one(
        self, programs: RegisteredPrograms, executor: WorkflowExecutor, history: WorkflowHistory
    ) -> TaskFailure | None:
        events = list(history.events)
        if not _has_start(history):
            raise ValueError(
                "The history does not begin with the start of a workflow: save it again, from its first event on"
            )
        started = events[0].workflow_execution_started_event_attributes
        workflow_type, run_id = started.workflow_type.name, started.original_execution_run_id
        program = programs.create(workflow_type, history.workflow_id, run_id)
        environment = self._environment(programs)
        if has_effect(environment.data_converter):
            payloads = WorkflowPayloads(environment, history.workflow_id, run_id, workflow_type)
            events = await payloads.decoded_events(events)
        close = partial(programs.close, program)
        is_running = False
        try:
            run, task = begin_replay(
                program,
                events,
                workflow_id=history.workflow_id,
                run_id=run_id,
                config=programs.config_for(workflow_type),
            )
            step = await self._run(run, task, executor, close)
            return step if isinstance(step, TaskFailure) else None
        except DeadlockError as error:
            is_running = error.is_running
            raise
        finally:
            if not is_running:
                executor.end(close)

    async def _run(
        self, run: WorkflowRun, task: WorkflowTask, executor: WorkflowExecutor, close: Callable[[], None]
    ) -> Step:
        step = await executor.run(partial(run.handle, task), run, close)
        while isinstance(step, Pause):
            await asyncio.sleep(0)
            step = await executor.run(run.resume, run, close)
        return step

    def _programs(self) -> RegisteredPrograms:
        config = self._config
        runner = config.get("workflow_runner") or _RUNNER
        runner.set_worker_level_failure_exception_types(config.get("workflow_failure_exception_types", []))
        definitions = register_workflows(
            config.get("workflows", []),
            runner,
            config.get("unsandboxed_workflow_runner") or _UNSANDBOXED_RUNNER,
        )
        classes, functions = interceptor_classes(config.get("interceptors", []))
        converter = config.get("data_converter") or DataConverter.default
        settings = WorkflowCodeSettings(
            namespace=config.get("namespace", "ReplayNamespace"),
            task_queue=f"replay-{config.get('build_id')}",
            definitions=definitions,
            payload_converter=converter.payload_converter,
            failure_converter=converter.failure_converter,
            interceptor_classes=classes,
            extern_functions=functions,
            metric_meter=(config.get("runtime") or Runtime.default()).metric_meter,
            failure_exception_types=config.get("workflow_failure_exception_types", []),
            always_tracks_sources=True,
            guarded=guarded_classes(definitions, runner),
            permits=permits(runner),
        )
        return RegisteredPrograms(settings, converter, build_id=config.get("build_id") or "")

    def _environment(self, programs: RegisteredPrograms) -> Environment:
        settings = programs.settings
        no_client: Any = None
        return Environment(
            client=no_client,
            namespace=settings.namespace,
            task_queue=settings.task_queue,
            identity=self._config.get("identity") or "",
            build_id=self._config.get("build_id") or "",
            deployment=None,
            instance_key="",
            data_converter=self._config.get("data_converter") or DataConverter.default,
            interceptors=[],
            metric_meter=settings.metric_meter or MetricMeter.noop,
            encode_workflow_headers=self._config.get("header_codec_behavior", HeaderCodecBehavior.NO_CODEC)
            != HeaderCodecBehavior.NO_CODEC,
        )


def _has_start(history: WorkflowHistory) -> bool:
    return bool(history.events) and history.events[0].HasField("workflow_execution_started_event_attributes")


def _with_notes(error: BaseException) -> str:
    """What it says, and what was noted on its way, such as which storage driver raised it."""
    return " ".join([message_of(error), *getattr(error, "__notes__", ())])


def _with_cause(error: Exception, cause: BaseException | None) -> Exception:
    error.__cause__ = cause
    return error


_RunReplayer = Callable[
    [Replayer, "AsyncIterator[WorkflowHistory]"],
    AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]],
]


def _around(plugin: Plugin, run: _RunReplayer) -> _RunReplayer:
    return lambda replayer, histories: plugin.run_replayer(replayer, histories, run)
