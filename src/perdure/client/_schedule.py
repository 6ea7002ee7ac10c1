"""The handle of a schedule.

May live here: the public methods. May not: requests (`_impl_others`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from perdure.client._inputs_other import (
    BackfillScheduleInput,
    DeleteScheduleInput,
    DescribeScheduleInput,
    PauseScheduleInput,
    TriggerScheduleInput,
    UnpauseScheduleInput,
    UpdateScheduleInput,
)
from perdure.client._schedule_description import ScheduleDescription, ScheduleUpdate, ScheduleUpdateInput
from perdure.client._schedule_spec import ScheduleBackfill, ScheduleOverlapPolicy

if TYPE_CHECKING:
    from perdure.client._client import Client


class ScheduleHandle:
    """A schedule. Made by `Client.create_schedule` and `Client.get_schedule_handle`.

    All methods raise `RPCError` if the server cannot be asked or does not know the schedule; `rpc_metadata` and
    `rpc_timeout` are metadata and limit of the call.

    Args:
        client: The client to ask with.
        id: The schedule's id.
    """

    def __init__(self, client: Client, id: str) -> None:
        self._client = client
        self.id = id

    async def backfill(
        self,
        *backfill: ScheduleBackfill,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Act for times in the past.

        Raises:
            ValueError: No times are given.
        """
        if not backfill:
            raise ValueError("At least one backfill required")
        await self._client._impl.backfill_schedule(
            BackfillScheduleInput(self.id, backfill, rpc_metadata, rpc_timeout)
        )

    async def delete(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> None:
        """Delete the schedule; what it has started runs on."""
        await self._client._impl.delete_schedule(DeleteScheduleInput(self.id, rpc_metadata, rpc_timeout))

    async def describe(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> ScheduleDescription:
        """Return what the server knows of the schedule."""
        return await self._client._impl.describe_schedule(
            DescribeScheduleInput(self.id, rpc_metadata, rpc_timeout)
        )

    async def pause(
        self,
        *,
        note: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Do not act until `unpause`.

        Args:
            note: Why; None means a text that says little.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.
        """
        await self._client._impl.pause_schedule(PauseScheduleInput(self.id, note, rpc_metadata, rpc_timeout))

    async def trigger(
        self,
        *,
        overlap: ScheduleOverlapPolicy | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Act now.

        Args:
            overlap: What happens if something runs; None means the schedule's own policy.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.
        """
        await self._client._impl.trigger_schedule(
            TriggerScheduleInput(self.id, overlap, rpc_metadata, rpc_timeout)
        )

    async def unpause(
        self,
        *,
        note: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Act again at the schedule's times.

        Args:
            note: Why; None means a text that says little.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.
        """
        await self._client._impl.unpause_schedule(
            UnpauseScheduleInput(self.id, note, rpc_metadata, rpc_timeout)
        )

    async def update(
        self,
        updater: Callable[[ScheduleUpdateInput], ScheduleUpdate | Awaitable[ScheduleUpdate | None] | None],
        *,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Change the schedule.

        Args:
            updater: Gets the schedule as it is and returns it as it shall be, or None to change nothing. It may be
                async.
            rpc_metadata: Metadata of both calls.
            rpc_timeout: Limit of each of them.
        """
        await self._client._impl.update_schedule(
            UpdateScheduleInput(self.id, updater, rpc_metadata, rpc_timeout)
        )
