"""Activities that are completed from outside their function.

May live here: the handle to one. May not: requests (`_impl_activities`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from perdure.client._inputs_activity import (
    CompleteAsyncActivityInput,
    FailAsyncActivityInput,
    HeartbeatAsyncActivityInput,
    ReportCancellationAsyncActivityInput,
)
from perdure.common import _arg_unset
from perdure.converter import DataConverter, SerializationContext, WithSerializationContext

if TYPE_CHECKING:
    from perdure.client._client import Client


@dataclass(frozen=True)
class AsyncActivityIDReference:
    """Names an activity by ids."""

    workflow_id: str | None
    """Id of its workflow; None for an activity started by a client."""

    run_id: str | None
    """Run id of its workflow, or of the activity if it has none; None means the newest."""

    activity_id: str
    """The activity's id."""


class AsyncActivityHandle(WithSerializationContext):
    """An activity to be completed from outside. Made by `Client.get_async_activity_handle`.

    Args:
        client: The client to ask with.
        id_or_token: Which activity: by ids, or by the task token of the running attempt.
        data_converter_override: Converts its values instead of the client's converter.
    """

    def __init__(
        self,
        client: Client,
        id_or_token: AsyncActivityIDReference | bytes,
        data_converter_override: DataConverter | None = None,
    ) -> None:
        self._client = client
        self._id_or_token = id_or_token
        self._data_converter_override = data_converter_override

    async def heartbeat(
        self,
        *details: Any,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Say that the activity is alive.

        Args:
            details: Kept for the next attempt.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            AsyncActivityCancelledError: It is to be cancelled, paused or reset.
            RPCError: The server could not be told, for example because the attempt is over.
        """
        await self._client._impl.heartbeat_async_activity(
            HeartbeatAsyncActivityInput(
                id_or_token=self._id_or_token,
                details=details,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                data_converter_override=self._data_converter_override,
            )
        )

    async def complete(
        self,
        result: Any | None = _arg_unset,
        *,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Complete the activity.

        Args:
            result: Its result; left out, it has none.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The server could not be told, for example because the attempt is over.
        """
        await self._client._impl.complete_async_activity(
            CompleteAsyncActivityInput(
                id_or_token=self._id_or_token,
                result=result,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                data_converter_override=self._data_converter_override,
            )
        )

    async def fail(
        self,
        error: Exception,
        *,
        last_heartbeat_details: Sequence[Any] = [],
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Fail the attempt; the retry policy decides whether there is another.

        Args:
            error: What it failed with.
            last_heartbeat_details: Kept for the next attempt.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The server could not be told, for example because the attempt is over.
        """
        await self._client._impl.fail_async_activity(
            FailAsyncActivityInput(
                id_or_token=self._id_or_token,
                error=error,
                last_heartbeat_details=last_heartbeat_details,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                data_converter_override=self._data_converter_override,
            )
        )

    async def report_cancellation(
        self,
        *details: Any,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Say that the activity has been cancelled, after that was asked for.

        Args:
            details: Recorded with the cancellation.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The server could not be told, for example because no cancellation was asked for.
        """
        await self._client._impl.report_cancellation_async_activity(
            ReportCancellationAsyncActivityInput(
                id_or_token=self._id_or_token,
                details=details,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                data_converter_override=self._data_converter_override,
            )
        )

    def with_context(self, context: SerializationContext) -> Self:
        """Return a handle whose values are converted in a context.

        Args:
            context: The context.

        Raises:
            TypeError: A derived class has an `__init__` of its own, so it must have its own `with_context` too.
        """
        converter = self._client.data_converter.with_context(context)
        if converter is self._client.data_converter:
            return self
        if type(self).__init__ is not AsyncActivityHandle.__init__:
            raise TypeError(
                f"{type(self).__name__} has an __init__ of its own, so "
                "you must override with_context to return an instance of your class"
            )
        return type(self)(self._client, self._id_or_token, converter)
