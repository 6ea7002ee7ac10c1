"""The handle of an activity started by a client.

May live here: the public methods. May not: requests (`_impl_activities`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic

from perdure.api.workflowservice import v1 as service_api
from perdure.client._activity_options import ActivityExecutionOptions, ActivityOptionsUpdate
from perdure.client._exceptions import ActivityFailureError
from perdure.client._inputs_activity import (
    CancelActivityInput,
    DescribeActivityInput,
    PauseActivityInput,
    TerminateActivityInput,
    UnpauseActivityInput,
    UpdateActivityOptionsInput,
)
from perdure.client._results import single_value
from perdure.client._wire import long_polled
from perdure.converter import ActivitySerializationContext, DataConverter
from perdure.types import ReturnType

if TYPE_CHECKING:
    from perdure.api.activity.v1 import ActivityExecutionOutcome
    from perdure.client._activity_execution import ActivityExecutionDescription
    from perdure.client._client import Client


class ActivityHandle(Generic[ReturnType]):
    """An activity started by a client. Made by `Client.start_activity` and `Client.get_activity_handle`.

    Args:
        client: The client to ask with.
        id: The activity's id.
        run_id: The run that is meant; None means the newest.
        result_type: What to convert the result to.
    """

    def __init__(
        self, client: Client, id: str, *, run_id: str | None = None, result_type: type | None = None
    ) -> None:
        self._client = client
        self._id = id
        self._run_id = run_id
        self._result_type = result_type
        self._known_outcome: ActivityExecutionOutcome | None = None

    @functools.cached_property
    def _data_converter(self) -> DataConverter:
        return self._client.data_converter.with_context(
            ActivitySerializationContext(
                namespace=self._client.namespace,
                activity_id=self._id,
                activity_type=None,
                activity_task_queue=None,
                is_local=False,
                workflow_id=None,
                workflow_type=None,
            )
        )

    @property
    def id(self) -> str:
        """The activity's id."""
        return self._id

    @property
    def run_id(self) -> str | None:
        """The run that is meant; None means the newest."""
        return self._run_id

    async def result(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> ReturnType:
        """Wait until the activity is over and return its result.

        Args:
            rpc_metadata: Metadata of every call.
            rpc_timeout: Limit of every call, not of waiting.

        Raises:
            ActivityFailureError: It failed, was cancelled, was terminated or timed out.
            RPCError: The server could not be asked.
        """
        outcome = await self._poll_until_outcome(rpc_metadata, rpc_timeout)
        if outcome.HasField("failure"):
            raise ActivityFailureError(cause=await self._data_converter.decode_failure(outcome.failure))
        result: ReturnType = await single_value(
            self._data_converter, outcome.result, self._result_type, "activity"
        )
        return result

    async def _poll_until_outcome(
        self, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> ActivityExecutionOutcome:
        if self._known_outcome is not None:
            return self._known_outcome
        request = service_api.PollActivityExecutionRequest(
            namespace=self._client.namespace, activity_id=self._id, run_id=self._run_id or ""
        )
        call = self._client.workflow_service.poll_activity_execution
        while True:
            response = await long_polled(
                lambda: call(request, retry=True, metadata=rpc_metadata, timeout=rpc_timeout)
            )
            if response.HasField("outcome"):
                self._known_outcome = response.outcome
                return self._known_outcome

    async def cancel(
        self,
        *,
        reason: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Ask for the activity's cancellation; its worker learns of it with the next heartbeat.

        Args:
            reason: Why.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: It could not be asked for.
        """
        await self._client._impl.cancel_activity(
            CancelActivityInput(self._id, self._run_id, reason, rpc_metadata, rpc_timeout)
        )

    async def terminate(
        self,
        *,
        reason: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """End the activity at once; what its worker reports later is refused.

        Args:
            reason: Why.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: It could not be ended.
        """
        await self._client._impl.terminate_activity(
            TerminateActivityInput(self._id, self._run_id, reason, rpc_metadata, rpc_timeout)
        )

    async def pause(
        self,
        *,
        reason: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Begin no further attempts until `unpause`.

        Args:
            reason: Why.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: It could not be paused.
        """
        await self._client._impl.pause_activity(
            PauseActivityInput(self._id, self._run_id, reason, rpc_metadata, rpc_timeout)
        )

    async def unpause(
        self,
        *,
        reason: str | None = None,
        jitter: timedelta | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Go on after `pause`.

        Args:
            reason: Why.
            jitter: Begin at a random time within this.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: It could not be resumed.
        """
        await self._client._impl.unpause_activity(
            UnpauseActivityInput(self._id, self._run_id, reason, jitter, rpc_metadata, rpc_timeout)
        )

    async def update_options(
        self,
        updates: Sequence[ActivityOptionsUpdate[Any]],
        *,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> ActivityExecutionOptions:
        """Change options of the activity.

        Args:
            updates: The changes, made with `ActivityOptionsKeys`; at most one per option.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Returns:
            All options after the change.

        Raises:
            ValueError: There are no changes, or two of the same option.
            RPCError: They could not be changed.
        """
        if not updates:
            raise ValueError(
                "update_options requires at least one update; use restore_original_options() to revert options"
            )
        return await self._client._impl.update_activity_options(
            UpdateActivityOptionsInput(self._id, self._run_id, updates, False, rpc_metadata, rpc_timeout)
        )

    async def restore_original_options(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> ActivityExecutionOptions:
        """Give the activity the options again that it was started with, and return them.

        Args:
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: They could not be changed.
        """
        return await self._client._impl.update_activity_options(
            UpdateActivityOptionsInput(self._id, self._run_id, [], True, rpc_metadata, rpc_timeout)
        )

    async def describe(
        self,
        *,
        include_input: bool = False,
        include_outcome: bool = False,
        include_heartbeat_details: bool = False,
        include_last_failure: bool = False,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> ActivityExecutionDescription:
        """Return what the server knows of the activity.

        Args:
            include_input: With its arguments.
            include_outcome: With its outcome.
            include_heartbeat_details: With the details of the last heartbeat.
            include_last_failure: With the failure of the last failed attempt.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The server could not be asked, or does not know it.
        """
        return await self._client._impl.describe_activity(
            DescribeActivityInput(
                activity_id=self._id,
                activity_run_id=self._run_id,
                include_input=include_input,
                include_outcome=include_outcome,
                include_heartbeat_details=include_heartbeat_details,
                include_last_failure=include_last_failure,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
        )
