"""What workers say of an attempt, taken by whoever the activity belongs to: a workflow's run, or itself.

Sizes and tokens are checked before; what an answer does is the core's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from perdure.api.common.v1 import Payloads, WorkerVersionStamp
from perdure.api.failure.v1 import Failure
from perdure.core.activity import machine
from perdure.core.activity.machine import Asked
from perdure.core.activity.state import ActivityRun, ActivityTransition
from perdure.core.errors import NotFoundError
from perdure.core.run import activity
from perdure.core.run.activity import ActivityToken
from perdure.core.run.records import RunKey, RunKind
from perdure.core.run.state import Activity, RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.engine import Engine, RunNotFoundError
from perdure.server.engine.histories import not_found

Result = TypeVar("Result")


class Answers(Protocol):
    """Takes workers' answers about attempts. Every method raises NotFoundError when the attempt is over."""

    async def heartbeat(self, run: RunKey, token: ActivityToken, details: Payloads | None) -> Asked:
        """The attempt is alive. Returns what the worker is to be told."""

    async def complete(
        self,
        run: RunKey,
        token: ActivityToken,
        result: Payloads | None,
        identity: str,
        version: WorkerVersionStamp | None = None,
        *,
        may_wait: bool = False,
    ) -> None:
        """The attempt succeeded; with `may_wait` also one that no worker has."""

    async def fail(
        self,
        run: RunKey,
        token: ActivityToken,
        failure: Failure | None,
        details: Payloads | None,
        identity: str,
        version: WorkerVersionStamp | None = None,
    ) -> None:
        """The attempt failed, with its last progress."""

    async def cancel(
        self, run: RunKey, token: ActivityToken, details: Payloads | None, identity: str
    ) -> None:
        """The attempt ended because its cancellation was requested."""


class WorkflowAnswers:
    """Answers about activities of workflows.

    Args:
        engine: the runs.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _update(
        self,
        run: RunKey,
        token: ActivityToken,
        change: Callable[[Transition, Activity], Result],
        start_as: str | None = None,
    ) -> Result:
        def apply(state: RunState, now_ns: int) -> tuple[Transition, Result]:
            tx = Transition(state, now_ns)
            return tx, change(tx, activity.current(tx, token, start_as=start_as))

        try:
            return await self._engine.transact(run, apply)
        except RunNotFoundError as error:
            raise not_found(run) from error

    async def heartbeat(self, run: RunKey, token: ActivityToken, details: Payloads | None) -> Asked:
        """See `Answers`."""

        def change(tx: Transition, pending: Activity) -> Asked:
            activity.heartbeat(tx, pending, details)
            return Asked(
                cancel=pending.cancel_requested_event_id != 0,
                pause=pending.paused_ns != 0,
                reset=pending.is_reset,
            )

        return await self._update(run, token, change)

    async def complete(
        self,
        run: RunKey,
        token: ActivityToken,
        result: Payloads | None,
        identity: str,
        version: WorkerVersionStamp | None = None,
        *,
        may_wait: bool = False,
    ) -> None:
        """See `Answers`."""

        def change(tx: Transition, pending: Activity) -> None:
            activity.complete(tx, pending, result, identity, version)

        await self._update(run, token, change, identity if may_wait else None)

    async def fail(
        self,
        run: RunKey,
        token: ActivityToken,
        failure: Failure | None,
        details: Payloads | None,
        identity: str,
        version: WorkerVersionStamp | None = None,
    ) -> None:
        """See `Answers`."""

        def change(tx: Transition, pending: Activity) -> None:
            if details is not None:
                activity.heartbeat(tx, pending, details)
            activity.fail(tx, pending, failure, identity, self._engine.limits.run, version)

        await self._update(run, token, change)

    async def cancel(
        self, run: RunKey, token: ActivityToken, details: Payloads | None, identity: str
    ) -> None:
        """See `Answers`."""

        def change(tx: Transition, pending: Activity) -> None:
            activity.cancel(tx, pending, details, identity)

        await self._update(run, token, change)


class StandaloneAnswers:
    """Answers about standalone activities.

    Args:
        engine: whose activities.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _update(
        self,
        run: RunKey,
        token: ActivityToken,
        change: Callable[[ActivityTransition], Result],
        *,
        may_wait: bool = False,
    ) -> Result:
        def apply(state: ActivityRun, now_ns: int) -> tuple[ActivityTransition, Result]:
            tx = ActivityTransition(state, now_ns)
            machine.check_token(tx, token, may_wait=may_wait)
            return tx, change(tx)

        return await self._engine.activity_runs.transact(run, apply)

    async def heartbeat(self, run: RunKey, token: ActivityToken, details: Payloads | None) -> Asked:
        """See `Answers`."""
        return await self._update(run, token, lambda tx: machine.heartbeat(tx, details))

    async def complete(
        self,
        run: RunKey,
        token: ActivityToken,
        result: Payloads | None,
        identity: str,
        version: WorkerVersionStamp | None = None,
        *,
        may_wait: bool = False,
    ) -> None:
        """See `Answers`."""
        await self._update(run, token, lambda tx: machine.complete(tx, result, identity), may_wait=may_wait)

    async def fail(
        self,
        run: RunKey,
        token: ActivityToken,
        failure: Failure | None,
        details: Payloads | None,
        identity: str,
        version: WorkerVersionStamp | None = None,
    ) -> None:
        """See `Answers`."""

        def change(tx: ActivityTransition) -> None:
            if details is not None:
                machine.heartbeat(tx, details)
            machine.fail(tx, failure, identity, self._engine.limits.run)

        await self._update(run, token, change)

    async def cancel(
        self, run: RunKey, token: ActivityToken, details: Payloads | None, identity: str
    ) -> None:
        """See `Answers`."""
        await self._update(run, token, lambda tx: machine.cancel(tx, details))


async def find(engine: Engine, namespace_id: str, activity_id: str, run_id: str) -> RunKey:
    """The standalone execution that a request names; without run id the newest of the activity id.

    Raises:
        NotFoundError: the id has none.
    """
    if run_id:
        return RunKey(namespace_id, activity_id, run_id, RunKind.ACTIVITY)
    current = await engine.reading(engine.store.current_run(namespace_id, activity_id, RunKind.ACTIVITY))
    if current is None:
        raise NotFoundError(f"activity not found for ID: {activity_id}")
    return current.run
