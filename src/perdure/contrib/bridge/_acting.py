"""Carrying out a decision: the calls to the server, under ids that follow from the message's id.

May live here: what is asked of the server, and what its answers mean for the message. May not: brokers; when to try
again.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, Final

from perdure.api.enums.v1 import EventType
from perdure.api.errordetails.v1 import NamespaceNotFoundFailure
from perdure.client import Client
from perdure.client._inputs_workflow import SignalWorkflowInput
from perdure.client._links import Backing
from perdure.common import WorkflowIDReusePolicy
from perdure.contrib.bridge._decisions import SignalWorkflow, StartWorkflow
from perdure.contrib.bridge._messages import Message
from perdure.exceptions import WorkflowAlreadyStartedError
from perdure.service import ClientConnectError, RPCError, RPCStatusCode
from perdure.service._errors import detail_of, is_too_large

WORKFLOW_ID_LIMIT: Final = 255
"""Characters of a workflow id made from a message id; a longer one is replaced by the request id."""

RUNS_LOOKED_AT: Final = 10
"""Runs of a workflow, newest first, in which a signal that comes again is looked for."""

_CLOCKS_APART: Final = timedelta(minutes=5)
"""How much earlier the broker's clock may be than the server's."""

_FOR_GOOD: Final = frozenset(
    {
        RPCStatusCode.INVALID_ARGUMENT,
        RPCStatusCode.NOT_FOUND,
        RPCStatusCode.ALREADY_EXISTS,
        RPCStatusCode.FAILED_PRECONDITION,
    }
)
"""Refusals that are about this message: the same request would be refused again. All others may pass."""

_SIGNALED: Final = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED")


class Outcome(enum.Enum):
    """What came of a message that was not refused."""

    ACTED = "acted"
    REPEATED = "repeated"


class RefusedError(Exception):
    """The message is poison; the text says why."""


class NotNowError(Exception):
    """The server can not take anything now; the text says why."""


def request_id_of(message: Message) -> str:
    """The request id of whatever is done for a message."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"perdure-bridge:{message.source}\n{message.id}"))


def workflow_id_of(message: Message, decision: StartWorkflow | SignalWorkflow) -> str:
    """The workflow that a decision is about."""
    if isinstance(decision, SignalWorkflow):
        return decision.workflow_id
    if decision.id is not None:
        return decision.id
    made = f"{message.source}-{message.id}"
    return (
        made
        if len(made.encode()) <= WORKFLOW_ID_LIMIT
        else f"{message.source[:200]}-{request_id_of(message)}"
    )


class Acting:
    """Carries out decisions.

    Args:
        client: Connected to the server; its interceptors see the calls.
        rpc_timeout: Of each call.
    """

    def __init__(self, client: Client, rpc_timeout: timedelta) -> None:
        self._client = client
        self._rpc_timeout = rpc_timeout

    async def act(self, message: Message, decision: StartWorkflow | SignalWorkflow) -> Outcome:
        """Carry out a decision, once however often it is asked for.

        Raises:
            RefusedError: It can not be done, now or ever.
            NotNowError: The server can not be reached, or takes nothing.
        """
        workflow_id, request_id = workflow_id_of(message, decision), request_id_of(message)
        try:
            if message.redelivered and await self._was_done(message, workflow_id, request_id, decision):
                return Outcome.REPEATED
            if isinstance(decision, StartWorkflow):
                await self._start(workflow_id, request_id, decision, WorkflowIDReusePolicy.REJECT_DUPLICATE)
            elif decision.start is None:
                await self._signal(workflow_id, request_id, decision)
            else:
                await self._start(
                    workflow_id,
                    request_id,
                    decision.start,
                    WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    signal=decision.signal,
                    signal_args=decision.args,
                )
        except WorkflowAlreadyStartedError as error:
            if isinstance(decision, SignalWorkflow):
                raise RefusedError(
                    f"the workflow {workflow_id!r} is over, and may not be started again"
                ) from error
            return Outcome.REPEATED
        except RPCError as error:
            if _is_for_good(error):
                raise RefusedError(f"{error.status.name}: {error}") from error
            raise NotNowError(f"{error.status.name}: {error}") from error
        except (
            ClientConnectError,
            OSError,
        ) as error:  # TimeoutError is one: also of a payload codec's own service
            raise NotNowError(f"{type(error).__name__}: {error}") from error
        return Outcome.ACTED

    async def _start(
        self,
        workflow_id: str,
        request_id: str,
        start: StartWorkflow,
        reuse: WorkflowIDReusePolicy,
        *,
        signal: str | None = None,
        signal_args: Sequence[Any] = (),
    ) -> None:
        await self._client.start_workflow(  # type: ignore[call-overload]  # `backing` is not for everybody
            start.workflow,
            args=start.args,
            id=workflow_id,
            task_queue=start.task_queue,
            start_signal=signal,
            start_signal_args=signal_args,
            rpc_timeout=self._rpc_timeout,
            backing=Backing(request_id, (), ()),
            **{"id_reuse_policy": reuse, **start.options},
        )

    async def _signal(self, workflow_id: str, request_id: str, decision: SignalWorkflow) -> None:
        await self._client._impl.signal_workflow(
            SignalWorkflowInput(
                id=workflow_id,
                run_id=None,
                signal=decision.signal,
                args=decision.args,
                headers={},
                rpc_metadata={},
                rpc_timeout=self._rpc_timeout,
                request_id=request_id,
            )
        )

    async def _was_done(
        self, message: Message, workflow_id: str, request_id: str, decision: StartWorkflow | SignalWorkflow
    ) -> bool:
        """Whether a message that may have been delivered before has been acted on.

        The server recognises the request by itself while the run that has it is the newest. This look is for those that
        it does not, and for the count.
        """
        try:
            newest = await self._client.get_workflow_handle(workflow_id).describe(
                rpc_timeout=self._rpc_timeout
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND and _is_for_good(error):
                return False
            raise
        known = newest.raw_description.workflow_extended_info.request_id_infos
        if request_id in known:
            return True
        if isinstance(decision, StartWorkflow):
            return False
        if await self._has_signal(workflow_id, newest.run_id, request_id):
            return True
        async for run_id in self._earlier_runs(message, workflow_id):
            if run_id != newest.run_id and await self._has_signal(workflow_id, run_id, request_id):
                return True
        return False

    async def _earlier_runs(self, message: Message, workflow_id: str) -> AsyncIterator[str]:
        """Runs that may have been running when the message was delivered first."""
        quoted = workflow_id.replace("\\", "\\\\").replace("'", "\\'")
        runs = self._client.list_workflows(
            f"WorkflowId = '{quoted}'", limit=RUNS_LOOKED_AT, rpc_timeout=self._rpc_timeout
        )
        async for run in runs:
            if (
                message.sent_at is None
                or run.close_time is None
                or run.close_time > message.sent_at - _CLOCKS_APART
            ):
                yield run.run_id

    async def _has_signal(self, workflow_id: str, run_id: str, request_id: str) -> bool:
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        async for event in handle.fetch_history_events(rpc_timeout=self._rpc_timeout):
            if event.event_type == _SIGNALED:
                if event.workflow_execution_signaled_event_attributes.request_id == request_id:
                    return True
        return False


def _is_for_good(error: RPCError) -> bool:
    if is_too_large(error):
        return True
    if detail_of(error, NamespaceNotFoundFailure) is not None:
        # Nothing that a message could help: the namespace is not there yet, or misspelt.
        return False
    return error.status in _FOR_GOOD
