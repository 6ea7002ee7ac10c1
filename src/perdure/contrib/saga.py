"""Sagas: a workflow whose steps are undone, newest first, when a later one fails or the workflow is cancelled.

    async with Saga() as saga:
        car = await saga.step(book_car, trip, undo=cancel_car, start_to_close_timeout=timedelta(seconds=10))
        hotel = await saga.step(book_hotel, trip, undo=cancel_hotel, start_to_close_timeout=timedelta(seconds=10))

Here: what makes undoing hard to get wrong. Not here: anything that plain workflow code could not do itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, TypedDict, TypeVar, Unpack, overload

from perdure import activity, workflow
from perdure.common import Priority, RetryPolicy
from perdure.exceptions import ApplicationError

ReturnType = TypeVar("ReturnType")
SelfType = TypeVar("SelfType", bound="Saga")

SAGA_UNDO_FAILED: Final = "SagaUndoFailed"
"""`type` of the error of a saga that could not be undone completely."""

_UNDO: Final = "undo:"
_UNSET: Final = object()


class StepOptions(TypedDict, total=False):
    """Options of `Saga.step` that it hands to the activity; those of its undo are the same where they fit.

    The id, the summary and the kind of cancellation are the saga's own.
    """

    task_queue: str | None
    schedule_to_close_timeout: Any
    schedule_to_start_timeout: Any
    start_to_close_timeout: Any
    heartbeat_timeout: Any
    retry_policy: RetryPolicy | None
    priority: Priority


def idempotency_key() -> str:
    """The name of the step that the running activity does or undoes: the same in every attempt, and in the undo.

    Give it to the other system as its idempotency key, or as the booking's own id: then a repeated attempt changes
    nothing, and the undo knows what to undo even when nobody ever heard the step's answer.

    Returns:
        The step's name and a random part, such as `book_car-7f3c…`; a retried or reset workflow has others for what
        it does anew.

    Raises:
        RuntimeError: No activity runs here, or it is not a step of a saga.
    """
    activity_id = activity.info().activity_id
    key = activity_id.removeprefix(_UNDO)
    if "-" not in key:
        raise RuntimeError(
            f"The activity {activity_id!r} is not a step of a saga: start it by Saga.step, or make a key of your own."
        )
    return key


class Saga:
    """The steps of a workflow that have to be undone if it fails.

    Use it as a context manager around the steps. When the block ends with an error that fails the workflow (a
    `FailureError`, or what the worker or `undo_on` adds), a cancellation or a `TimeoutError`, everything is undone and
    the error goes on. Any other exception is a defect: the workflow task fails, nothing is undone, and the workflow
    goes on from there once the code is repaired. A block that ends normally keeps everything.

    What it sees to, so that nobody else must: an undo is noted before its step begins, because an attempt that was
    not heard of may have taken effect all the same; a step that is under way when the workflow is cancelled, or when
    another step fails beside it, is told, and awaited, before it is undone; undoing goes on when the workflow is
    cancelled again; an undo is retried for as long as its retry policy says, by default for ever; one that cannot be
    done does not keep the others from it.

    Args:
        undo_on: Further exceptions that mean failure; for those that are caught around the saga.
    """

    def __init__(self, *, undo_on: tuple[type[BaseException], ...] = ()) -> None:
        self._undo_on: tuple[type[BaseException], ...] = (asyncio.CancelledError, TimeoutError, *undo_on)
        self._undos: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    @overload
    async def step(
        self,
        activity: Callable[..., Awaitable[ReturnType]],
        arg: Any = ...,
        *,
        undo: Callable[..., Any] | str,
        args: Sequence[Any] = ...,
        undo_args: Sequence[Any] | None = ...,
        undo_retry_policy: RetryPolicy | None = ...,
        result_type: type | None = ...,
        **options: Unpack[StepOptions],
    ) -> ReturnType: ...

    @overload
    async def step(
        self,
        activity: Callable[..., ReturnType],
        arg: Any = ...,
        *,
        undo: Callable[..., Any] | str,
        args: Sequence[Any] = ...,
        undo_args: Sequence[Any] | None = ...,
        undo_retry_policy: RetryPolicy | None = ...,
        result_type: type | None = ...,
        **options: Unpack[StepOptions],
    ) -> ReturnType: ...

    @overload
    async def step(
        self,
        activity: str,
        arg: Any = ...,
        *,
        undo: Callable[..., Any] | str,
        args: Sequence[Any] = ...,
        undo_args: Sequence[Any] | None = ...,
        undo_retry_policy: RetryPolicy | None = ...,
        result_type: type | None = ...,
        **options: Unpack[StepOptions],
    ) -> Any: ...

    async def step(
        self,
        activity: Any,
        arg: Any = _UNSET,
        *,
        undo: Any,
        args: Sequence[Any] = (),
        undo_args: Sequence[Any] | None = None,
        undo_retry_policy: RetryPolicy | None = None,
        result_type: type | None = None,
        **options: Unpack[StepOptions],
    ) -> Any:
        """Do one step: run an activity, having noted the one that undoes it.

        Args:
            activity: The activity: a function, a method of a class, or its name.
            arg: Its only argument; or `args`.
            undo: The activity that takes it back. It runs even if the step failed, was cancelled or never began, so it
                must not mind that there is nothing to undo; `idempotency_key` tells it which step.
            args: Its arguments.
            undo_args: Those of `undo`; by default the step's.
            undo_retry_policy: Of `undo`; by default it is tried until it succeeds.
            result_type: The type of the result, where `activity` is a name.
            options: Of the activity, as `workflow.start_activity` takes them; `undo` has the same task queue, timeouts
                of an attempt and priority.

        Returns:
            What the activity returned.

        Raises:
            ActivityError: The step failed for good.
            ValueError: Both `arg` and `args` are given.
        """
        given = list(args) if arg is _UNSET else [arg]
        if arg is not _UNSET and args:
            raise ValueError("Give one argument, or args, but not both.")
        name = _name_of(activity)
        key = f"{name}-{workflow.uuid4()}"
        undo_given = given if undo_args is None else list(undo_args)
        undo_options = _undo_options(options)
        doing: Any = None

        async def undo_it() -> None:
            if doing is not None and not doing.done():
                doing.cancel()  # another step failed beside it
                await _end_of(doing)
            await workflow.execute_activity(
                undo,
                args=undo_given,
                activity_id=_UNDO + key,
                summary=f"undo {name}",
                retry_policy=undo_retry_policy,
                **undo_options,
            )

        self.add_undo(name, undo_it)
        doing = workflow.start_activity(
            activity,
            args=given,
            result_type=result_type,
            activity_id=key,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            **options,
        )
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            doing.cancel()
            await _end_of(doing)
            raise

    def add_undo(self, name: str, undo: Callable[[], Awaitable[object]]) -> None:
        """Note how something that no activity did is undone, such as a child workflow. Call it before doing it.

        Args:
            name: What is undone, for messages.
            undo: Workflow code that undoes it, harmlessly if there is nothing to undo.
        """
        self._undos.append((name, undo))

    def keep(self) -> None:
        """Forget every undo: from here on, what was done so far stays, whatever happens."""
        self._undos.clear()

    async def undo(self) -> None:
        """Undo everything now, newest first; done once, however often it is called.

        Raises:
            ApplicationError: Of type `SagaUndoFailed`, whose details name what could not be undone.
        """
        undoing = asyncio.ensure_future(self._undo_all())
        cancelled = await _end_of(undoing)
        failed = undoing.result()
        if failed:
            reasons = "; ".join(f"{name}: {_reason(error)}" for name, error in failed)
            raise ApplicationError(
                f"The saga could not be undone completely: {reasons}. Undo it by hand.",
                [name for name, _ in failed],
                type=SAGA_UNDO_FAILED,
                non_retryable=True,
            ) from failed[0][1]
        if cancelled is not None:
            raise cancelled

    async def _undo_all(self) -> list[tuple[str, BaseException]]:
        failed: list[tuple[str, BaseException]] = []
        while self._undos:
            name, undo = self._undos.pop()
            try:
                await undo()
            except (Exception, asyncio.CancelledError) as error:
                # The user decides which mean failure; a defect goes on. That an undo ends as cancelled, because it
                # waits for something that was, is a failure of it; that this task is cancelled is the run's eviction.
                if not self._is_failure(error) or _is_cancelled():
                    raise
                workflow.logger.error("Undoing %s failed: %s", name, _reason(error))
                failed.append((name, error))
        return failed

    def _is_failure(self, error: BaseException) -> bool:
        return isinstance(error, self._undo_on) or workflow.is_failure_exception(error)

    async def __aenter__(self: SelfType) -> SelfType:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Keep everything, or undo everything."""
        if error is None:
            self.keep()
        elif self._is_failure(error):
            await self.undo()


async def _end_of(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Waits until a task has ended, also while the workflow is being cancelled; returns the last such request."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await workflow.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


def _is_cancelled() -> bool:
    """Whether the running task was told to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__


def _undo_options(options: StepOptions) -> Any:
    """Those options of a step that its undo shares."""
    shared = ("task_queue", "start_to_close_timeout", "heartbeat_timeout", "priority")
    kept: dict[str, Any] = {name: value for name, value in options.items() if name in shared}
    kept.setdefault("start_to_close_timeout", options.get("schedule_to_close_timeout"))
    return kept


def _name_of(step: Any) -> str:
    if isinstance(step, str):
        return step
    return str(getattr(step, "__name__", None) or type(step).__name__)
