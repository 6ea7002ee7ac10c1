"""Time that skips for single workflows, on servers that can do that; the client's side of it (experimental).

The server keeps a clock for each workflow (`TimeSkippingConfig` in the request that starts it, `TimeSkippingInfo` in
its description). Perdure's own server has one clock for all, see `WorkflowEnvironment.start_time_skipping`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from perdure.api.common.v1 import FastForwardConfig as WireFastForward
from perdure.api.common.v1 import TimeSkippingConfig as WireConfig
from perdure.api.common.v1 import TimeSkippingInfo, WorkflowExecution
from perdure.api.enums.v1 import FastForwardPollingResult
from perdure.api.protobuf import FieldMask
from perdure.api.workflow.v1 import WorkflowExecutionOptions
from perdure.api.workflowservice.v1 import (
    PollWorkflowExecutionTimeSkippingRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from perdure.client import Client, Interceptor, OutboundInterceptor, WorkflowHandle, WorkflowUpdateHandle
from perdure.client._inputs_workflow import StartWorkflowInput, StartWorkflowUpdateWithStartInput

_COMPLETED = FastForwardPollingResult.FAST_FORWARD_POLLING_RESULT_FAST_FORWARD_COMPLETED
_FAILED = FastForwardPollingResult.FAST_FORWARD_POLLING_RESULT_FAST_FORWARD_FAILED
# How the server says that another fast-forward took the place of the one that is asked about.
_OVERRIDDEN = "fast_forward_id does not match"


@dataclass(frozen=True)
class FastForwardConfig:
    """One jump of a workflow's clock, after which it is real again.

    Attributes:
        id: Names the jump, for `PollWorkflowExecutionTimeSkipping`.
        duration: How far it goes.
    """

    id: str
    duration: timedelta


@dataclass(frozen=True)
class TimeSkippingConfig:
    """How time skips for a workflow.

    Attributes:
        enabled: Whether it does.
        fast_forward_config: One jump; None for skipping to the workflow's end.
        disable_propagation: Children begin at the workflow's time, but their own does not skip.
        max_session_skip_count: After so many skips the server ends it; 0 for the server's own limit.

    Raises:
        ValueError: there is a jump, and it is not enabled.
    """

    enabled: bool = True
    fast_forward_config: FastForwardConfig | None = None
    disable_propagation: bool = False
    max_session_skip_count: int = 0

    def __post_init__(self) -> None:
        """Checks that the parts agree."""
        if not self.enabled and self.fast_forward_config is not None:
            raise ValueError("fast_forward_config cannot be set when enabled is False")

    def _to_proto(self) -> WireConfig:
        config = WireConfig(
            enabled=self.enabled,
            disable_propagation=self.disable_propagation,
            max_session_skip_count=self.max_session_skip_count,
        )
        jump = self.fast_forward_config
        if jump is not None:
            config.fast_forward_config.CopyFrom(WireFastForward(id=jump.id))
            config.fast_forward_config.duration.FromTimedelta(jump.duration)
        return config


_SKIPPING = TimeSkippingConfig()


class TimeSkipper:
    """Lets time skip for the workflows that its client starts, each by its own clock.

    The server must be able to: a Temporal dev server with `frontend.WorkflowTimeSkippingEnabled=true`, for one. Others
    refuse, with an RPCError that says so.
    """

    def __init__(self, client: Client, *, config: TimeSkippingConfig = _SKIPPING) -> None:
        """Makes the skipper and its client.

        Args:
            client: Is copied; it stays as it is.
            config: For workflows that are started from now on.
        """
        self._config = config
        self._unstamped = 0
        options = client.config()
        options["interceptors"] = [*options["interceptors"], _Stamping(self)]
        self._client = Client(**options)

    @property
    def client(self) -> Client:
        """The client whose workflows skip time."""
        return self._client

    @property
    def config(self) -> TimeSkippingConfig:
        """For workflows that are started from now on."""
        return self._config

    @config.setter
    def config(self, value: TimeSkippingConfig) -> None:
        self._config = value

    async def fast_forward(
        self, handle: WorkflowHandle[Any, Any], duration: timedelta | float | None = None, /
    ) -> bool:
        """Moves a workflow's clock, and waits until it has moved.

        Args:
            handle: Of the workflow.
            duration: How far, in seconds if a number; None: to the workflow's end.

        Returns:
            Whether it moved that far; False if the workflow, with all its runs, ended before, and for None.

        Raises:
            RuntimeError: another call moved the clock in its stead.
            RPCError: the server cannot do this, or knows no such workflow.
        """
        if duration is None:
            await self._reconfigure(handle, replace(self._config, enabled=True, fast_forward_config=None))
            # What `result` would do, without its value.
            async for event in handle.fetch_history_events(wait_new_event=True):
                if event.WhichOneof("attributes") in _ENDS:
                    break
            return False
        distance = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
        jump = FastForwardConfig(str(uuid.uuid4()), distance)
        await self._reconfigure(handle, replace(self._config, enabled=True, fast_forward_config=jump))
        return await self._has_moved(handle, jump.id)

    async def _has_moved(self, handle: WorkflowHandle[Any, Any], jump_id: str) -> bool:
        # Without a run id the server follows the workflow from run to run.
        request = PollWorkflowExecutionTimeSkippingRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id),
            fast_forward_id=jump_id,
        )
        while True:
            answer = await self._client.workflow_service.poll_workflow_execution_time_skipping(
                request, retry=True
            )
            if answer.fast_forward_polling_result == _COMPLETED:
                return True
            if answer.fast_forward_polling_result == _FAILED:
                if _OVERRIDDEN in answer.failed_reason:
                    raise RuntimeError(
                        f"The fast-forward of workflow {handle.id} was overridden by a later fast-forward: "
                        f"{answer.failed_reason}"
                    )
                return False

    async def get_time_skipping_info(self, handle: WorkflowHandle[Any, Any]) -> TimeSkippingInfo | None:
        """What the server knows of a workflow's clock; None if it never skipped."""
        extended = (await handle.describe()).raw_description.workflow_extended_info
        return extended.time_skipping_info if extended.HasField("time_skipping_info") else None

    async def get_current_time(self, handle: WorkflowHandle[Any, Any]) -> datetime:
        """A workflow's time, in UTC; the system's if it never skipped."""
        known = await self.get_time_skipping_info(handle)
        if known is None:
            return datetime.now(UTC)
        now: datetime = known.current_time.ToDatetime(UTC)
        return now

    @contextmanager
    def with_time_skipping_disabled(self) -> Iterator[None]:
        """Time does not skip for workflows that are started in this block."""
        # Counted: blocks of several tasks need not end in the order in which they began.
        self._unstamped += 1
        try:
            yield
        finally:
            self._unstamped -= 1

    def _stamp(self) -> WireConfig | None:
        return None if self._unstamped else self._config._to_proto()

    async def _reconfigure(self, handle: WorkflowHandle[Any, Any], config: TimeSkippingConfig) -> None:
        await self._client.workflow_service.update_workflow_execution_options(
            UpdateWorkflowExecutionOptionsRequest(
                namespace=self._client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.run_id or ""),
                workflow_execution_options=WorkflowExecutionOptions(time_skipping_config=config._to_proto()),
                update_mask=FieldMask(paths=["time_skipping_config"]),
                identity=self._client.identity,
            ),
            retry=True,
        )


_ENDS = frozenset(
    f"workflow_execution_{end}_event_attributes"
    for end in ("completed", "failed", "timed_out", "terminated", "canceled", "continued_as_new")
)


class _Stamping(Interceptor):
    """Says in every request that starts a workflow how time skips for it."""

    def __init__(self, skipper: TimeSkipper) -> None:
        self._skipper = skipper

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Outbound(next, self._skipper)


class _Outbound(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, skipper: TimeSkipper) -> None:
        super().__init__(next)
        self._skipper = skipper

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        input.time_skipping_config = self._skipper._stamp()
        return await super().start_workflow(input)

    async def start_update_with_start_workflow(
        self, input: StartWorkflowUpdateWithStartInput
    ) -> WorkflowUpdateHandle[Any]:
        input.start_workflow_input.time_skipping_config = self._skipper._stamp()
        return await super().start_update_with_start_workflow(input)
