"""Task queues that nobody polls, and the line that says so: the usual reason why nothing happens."""

from __future__ import annotations

import asyncio
import shlex
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from perdure.api.common import v1 as common
from perdure.api.enums import v1 as enums
from perdure.api.workflowservice import v1 as service
from perdure.cli import wire
from perdure.cli.session import Session
from perdure.cli.show import enum_label
from perdure.service._waits import queues_waited_at

PATIENCE_S: Final = 3.0
"""How long a command waits before it looks for a worker."""
LIMIT_S: Final = 3.0
"""How long it may look: nobody waits for a hint."""
MAX_QUEUES: Final = 10
"""Task queues that one command asks about."""
MAX_RUNS: Final = 50
"""Open runs that are looked at, the newest."""

Wait = tuple[str, enums.TaskQueueType.ValueType]
"""Name of a task queue, and kind of tasks."""


def sentence(name: str, kind: enums.TaskQueueType.ValueType | None = None) -> str:
    """Says that nobody polls a task queue, at all or for a kind of tasks, and how to change that."""
    command = f"`perdure worker run MODULE --task-queue {shlex.quote(name)}` starts one"
    if kind is None:
        return f"No worker polls task queue {name}: {command}"
    word = enum_label(enums.TaskQueueType.Name(kind), "TaskQueueType").lower()
    return f"No worker polls task queue {name} for {word} tasks: {command}"


async def of_waits(session: Session, waits: Iterable[Wait]) -> Sequence[Wait]:
    """Those that nobody polls, sorted.

    Raises:
        RPCError: the server refused.
    """
    asked = sorted(set(waits))[:MAX_QUEUES]
    answers = await asyncio.gather(
        *(
            session.call(service.DescribeTaskQueueRequest(task_queue=wire.queue(name), task_queue_type=kind))
            for name, kind in asked
        )
    )
    return [wait for wait, answer in zip(asked, answers, strict=True) if not answer.pollers]


async def of_newest_runs(session: Session) -> Sequence[tuple[Wait, int]]:
    """Where the newest open runs wait although nobody polls, and how many wait there.

    Raises:
        RPCError: the server refused.
    """
    newest = await session.call(
        service.ListWorkflowExecutionsRequest(query="ExecutionStatus = 'Running'", page_size=MAX_RUNS)
    )
    found = await asyncio.gather(
        *(
            session.call(service.DescribeWorkflowExecutionRequest(execution=each.execution))
            for each in newest.executions
        ),
        return_exceptions=True,  # a run may be gone by now
    )
    described = [each for each in found if isinstance(each, service.DescribeWorkflowExecutionResponse)]
    waits = Counter(wait for each in described for wait in queues_waited_at(each))
    return [(wait, waits[wait]) for wait in await of_waits(session, waits)]


async def hints(session: Session, waits: Iterable[Wait]) -> Sequence[str]:
    """A sentence for each of those that nobody polls; none if that is not found out in a moment."""
    try:
        async with asyncio.timeout(LIMIT_S):
            return [sentence(*wait) for wait in await of_waits(session, waits)]
    except Exception:
        # The server may refuse this call, or not answer; what the command itself is about has been done and shown.
        return ()


@asynccontextmanager
async def told(session: Session, execution: common.WorkflowExecution) -> AsyncIterator[None]:
    """Inside, something is waited for that a worker has to do: after a moment it is said if there is none."""
    looking = asyncio.create_task(_look(session, execution))
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def _look(session: Session, execution: common.WorkflowExecution) -> None:
    await asyncio.sleep(PATIENCE_S)
    try:
        described: Any = await session.call(service.DescribeWorkflowExecutionRequest(execution=execution))
        queue = described.execution_config.task_queue.name
        waits = [(queue, enums.TASK_QUEUE_TYPE_WORKFLOW), *queues_waited_at(described)]
        for hint in await hints(session, waits):
            session.out.note(hint)
    except Exception:
        # No connection, a codec that fails, a terminal that is gone: the command meets the same, and says what it is.
        pass
