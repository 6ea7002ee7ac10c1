"""Workflow tasks of one run that come at once, and what a run that is loaded anew inherits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from perdure.api.common.v1 import Payload
from perdure.api.enums.v1 import WorkflowTaskFailedCause
from perdure.api.failure.v1 import Failure
from perdure.api.workflowservice.v1 import PollWorkflowTaskQueueResponse
from perdure.converter import DataConverter, PayloadCodec
from perdure.core.replay.steps import RunConfig, TaskFailure
from perdure.service import RPCError, RPCStatusCode
from perdure.worker._eager import EagerWorkflowSlots
from perdure.worker._payload_edge import WorkflowPayloads
from perdure.worker._slots import FixedSlots
from perdure.worker._workflow_cache import CachedRun, RunCache
from perdure.worker._workflow_worker import WorkflowWorker


def _worker(cache: RunCache, local_activities: Any = None, slots: FixedSlots | None = None) -> WorkflowWorker:
    environment: Any = SimpleNamespace(data_converter=DataConverter.default, task_queue="queue", metrics=None)
    programs: Any = SimpleNamespace(
        create=lambda *_: SimpleNamespace(), config_for=lambda _: RunConfig(), close=lambda _: None
    )
    worker = WorkflowWorker(
        environment,
        programs=programs,
        deadlock_timeout_s=None,
        slots=slots or FixedSlots(2),
        cache=cache,
        answers=SimpleNamespace(),  # type: ignore[arg-type]
        local_activities=local_activities,
        eager=None,
        max_eager=0,
    )
    worker.start()
    return worker


def test_a_task_that_waited_while_its_run_was_evicted_loads_it_anew() -> None:
    """What it waited for is closed, and its local activities were cancelled."""

    async def scenario() -> None:
        cache, worked_on, first_may_end = RunCache(10), list[CachedRun](), asyncio.Event()
        worker = _worker(cache)

        async def step(cached: CachedRun, *_: Any) -> Any:
            worked_on.append(cached)
            assert cache.get("run") is cached
            if len(worked_on) == 1:
                await first_may_end.wait()
                raise RPCError("gone", RPCStatusCode.NOT_FOUND, b"")

        async def answer(*_: Any) -> None: ...

        worker._step, worker._answer = step, answer  # type: ignore[method-assign, assignment]
        task = PollWorkflowTaskQueueResponse(task_token=b"token")
        task.workflow_execution.run_id = "run"
        working = [asyncio.create_task(worker._work_on_one(task)) for _ in range(3)]
        await asyncio.wait(working, timeout=0)
        first_may_end.set()
        await asyncio.wait_for(asyncio.gather(*working), 10)
        first, second, third = worked_on
        assert second is not first
        assert third is second
        assert len(cache) == 1

    asyncio.run(scenario())


def test_fresh_code_inherits_no_local_activities() -> None:
    """They belong to the code that started them: its successor gives the same numbers to its own."""

    async def scenario() -> None:
        dropped: list[Any] = []
        worker = _worker(RunCache(10), SimpleNamespace(drop=dropped.append))
        cached = CachedRun("w", "run", "W")
        before = cached.locals
        before.finished.append(SimpleNamespace())  # type: ignore[arg-type]
        worker._renew(cached)
        assert cached.locals is not before
        assert dropped == [before]
        assert cached.run is not None

    asyncio.run(scenario())


def test_a_task_that_comes_after_the_end_is_left_to_other_workers() -> None:
    """A client's start may be answered with a first task when the worker that reserved a slot for it has ended."""

    async def scenario() -> None:
        slots = FixedSlots(1)
        worker = _worker(RunCache(10), slots=slots)
        reservation = EagerWorkflowSlots(worker, slots).try_reserve()
        assert reservation is not None
        worker.stop()
        await asyncio.wait_for(worker.drain(0), 10)
        reservation.take(PollWorkflowTaskQueueResponse(task_token=b"token"))
        assert slots.free == 1
        assert not worker._tasks

    asyncio.run(scenario())


def test_a_failure_that_cannot_be_encoded_is_reported_without_its_details() -> None:
    """The codec is the user's code; without an answer the task would only time out."""

    class Refusing(PayloadCodec):
        async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
            raise KeyError("no key")

        async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
            raise KeyError("no key")

    async def scenario() -> None:
        reported: list[TaskFailure] = []
        worker = _worker(RunCache(10))
        environment = worker._environment
        environment.data_converter = replace(DataConverter.default, payload_codec=Refusing())
        environment.namespace, environment.encode_workflow_headers = "ns", False

        async def accept(*_: Any, **__: Any) -> None: ...

        environment.service = SimpleNamespace(respond_workflow_task_failed=accept)  # type: ignore[misc]
        worker._answers = SimpleNamespace(  # type: ignore[assignment]
            failed=lambda token, step: reported.append(step)
        )
        cached = CachedRun("w", "run", "W")
        cached.payloads = WorkflowPayloads(environment, "w", "run", "W")
        failure = Failure(message="secret")
        failure.application_failure_info.details.payloads.add(data=b"secret")
        failed = TaskFailure(WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNSPECIFIED, failure, "")
        failed.should_report = True
        await worker._fail(cached, PollWorkflowTaskQueueResponse(), failed, 0.0)
        assert "KeyError" in reported[0].failure.message
        assert "secret" not in str(reported[0].failure)

    asyncio.run(scenario())


def test_a_run_stays_between_a_heartbeat_and_the_task_that_comes_with_its_answer() -> None:
    """What its local activity did in between is told with that task; without the run the activity would run again."""

    async def scenario() -> None:
        cache, permit = RunCache(0), SimpleNamespace(release=lambda: None)
        worker = _worker(cache)
        tasks = [PollWorkflowTaskQueueResponse(task_token=token) for token in (b"first", b"second")]
        for task in tasks:
            task.workflow_execution.run_id = "run"
        seen: list[CachedRun] = []

        async def step(cached: CachedRun, *_: Any) -> Any:
            seen.append(cached)

        async def answer(cached: CachedRun, *_: Any) -> Any:
            # It ends while the heartbeat is on its way.
            cached.locals.finished.append(SimpleNamespace())  # type: ignore[arg-type]
            return tasks[1] if len(seen) == 1 else None

        worker._step, worker._answer = step, answer  # type: ignore[method-assign, assignment]
        worker._local_activities = SimpleNamespace(drop=lambda _: None)  # type: ignore[assignment]
        await worker._work(tasks[0], permit)  # type: ignore[arg-type]
        assert len(seen) == 2
        assert seen[0] is seen[1]
        assert len(cache) == 0

    asyncio.run(scenario())
