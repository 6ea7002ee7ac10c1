"""Waiting for something that the server answers, so that a cancellation becomes a request and not an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.worker.workflow_code.logic_flags import LogicFlag

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance

_T = TypeVar("_T")


def resolve(future: asyncio.Future[Any], error: BaseException) -> None:
    """Ends a future with an error that need not be looked at."""
    future.set_exception(error)
    future.exception()


async def outcome_of(future: asyncio.Future[_T]) -> _T:
    """Waits for the future without cancelling it when the waiting task is cancelled.

    `asyncio.shield` would log the error of a future that nobody waits for any more. The number of steps between the
    future's end and the waiting task's is that of `asyncio.wait`: histories depend on it.
    """
    waiter: asyncio.Future[None] = asyncio.Future(loop=future.get_loop())

    def release(_: asyncio.Future[_T]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(release)
    try:
        await waiter
    finally:
        future.remove_done_callback(release)
    return future.result()


async def await_operation(
    instance: WorkflowInstance,
    future: asyncio.Future[_T],
    request_cancel: Callable[[asyncio.CancelledError], None],
    *,
    completed_flag: LogicFlag | None = None,
    is_raised_on_workflow_cancellation: bool = False,
) -> _T:
    """Waits for an operation's outcome; each cancellation of the task becomes a request to cancel the operation.

    Args:
        instance: the workflow.
        future: the operation's outcome.
        request_cancel: asks for the operation's cancellation; gets the task's.
        completed_flag: raise a cancellation that came together with the outcome, if history allows this flag.
        is_raised_on_workflow_cancellation: raise a cancellation of the whole workflow after asking.

    Raises:
        asyncio.CancelledError: as said above.
    """
    while True:
        try:
            return await outcome_of(future)
        except asyncio.CancelledError as error:
            if future.done():
                if instance.is_single_batch:
                    raise
                if completed_flag is not None and instance.may_use_on_first_run(completed_flag):
                    raise
            request_cancel(error)
            task = asyncio.current_task()
            if task is not None:
                # The task goes on, so asyncio.timeout and TaskGroup must not count this cancellation.
                task.uncancel()
            if is_raised_on_workflow_cancellation and (
                instance.cancel_reason is not None or instance.recorder.is_evicting
            ):
                raise
