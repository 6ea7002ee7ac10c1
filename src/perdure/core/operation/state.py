"""The state of a standalone Nexus operation: a header, the request that started it, links, and its outcome.

The request never changes and is written once; the header is small and written with every transition. Times and
durations are integer nanoseconds; 0 means "none" where a field allows none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from perdure.api.common.v1 import Link
from perdure.api.workflowservice.v1 import (
    PollNexusOperationExecutionResponse,
    StartNexusOperationExecutionRequest,
)
from perdure.core.invariant import invariant
from perdure.core.run import nexus_attempts
from perdure.core.run.records import ItemChange, RunKey, RunWrite, VisibilityRecord
from perdure.core.run.state import RUNNING, NexusOperation, Record, clone, encode

Outcome = PollNexusOperationExecutionResponse
"""How it ended: the message whose `result` or `failure` is told to those who wait for it."""
_REQUEST = "request"
_OUTCOME = "outcome"
_LINKS = "links"
_ONLY = ""


class OperationHeader(Record):
    """Everything of an execution that changes."""

    operation: NexusOperation = msgspec.field(default_factory=NexusOperation)
    """The requests to its handler, and its timeouts. It has no scheduled event."""
    status: int = RUNNING
    """temporal.api.enums.v1.WorkflowExecutionStatus number, so that filters of lists read all runs alike."""
    start_request_id: str = ""
    close_ns: int = 0
    retention_ns: int = 0
    """How long it is kept after it closed."""
    transition_count: int = 0
    is_outcome_last_failure: bool = False
    """An attempt to start it ended it, so its outcome's failure is that attempt's too."""

    cancel_asked_ns: int = 0
    """When a client asked for its cancellation; 0: nobody did. The handler is asked once the operation runs."""
    cancel_request_id: str = ""
    cancel_reason: str = ""
    terminate_request_id: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it has not closed."""
        return self.status == RUNNING

    @property
    def is_started(self) -> bool:
        """Whether it has come to run: its end is to come as a completion, or has come as one."""
        return self.operation.started_ns != 0


@dataclass(frozen=True, slots=True)
class OperationRun:
    """An execution as last committed; never changed.

    Attributes:
        run: which one; its `workflow_id` is the operation's id.
        version: 0 when it is not stored yet.
        header: what changes.
        request: what started it, normalised.
        outcome: how it ended; None while it is open.
        links: to what its handler made of it.
        wakeup_ns: when it must be looked at again at the latest.
    """

    run: RunKey
    version: int
    header: OperationHeader
    request: StartNexusOperationExecutionRequest
    outcome: Outcome | None = None
    links: tuple[Link, ...] = ()
    wakeup_ns: int | None = None


_decode_header = msgspec.json.Decoder(OperationHeader).decode


def decode_operation(
    run: RunKey, version: int, header: bytes, items: Iterable[tuple[str, str, bytes]], wakeup_ns: int | None
) -> OperationRun:
    """An execution's state from what the store keeps of it."""
    request = StartNexusOperationExecutionRequest()
    outcome: Outcome | None = None
    links: tuple[Link, ...] = ()
    for kind, _, data in items:
        if kind == _REQUEST:
            request.ParseFromString(data)
        elif kind == _OUTCOME:
            outcome = Outcome.FromString(data)
        elif kind == _LINKS:
            links = tuple(StartNexusOperationExecutionRequest.FromString(data).links)
        else:
            invariant(False, "unknown kind of item", kind=kind, run=run)
    return OperationRun(run, version, _decode_header(header), request, outcome, links, wakeup_ns)


class OperationTransition:
    """One transition of one execution at one moment. Dropping it undoes everything.

    Args:
        state: the committed state.
        now_ns: the moment, nanoseconds since the epoch.

    Attributes:
        header, operation: copies, free to modify.
        outcome: set by whatever closes the execution.
        links: replaced by whatever adds some.
        visibility_changed: what lists show changed.
    """

    def __init__(self, state: OperationRun, now_ns: int) -> None:
        self.state = state
        self.now_ns = now_ns
        self.header = clone(state.header)
        self.operation = self.header.operation = clone(state.header.operation)
        self.outcome: Outcome | None = state.outcome
        self.links = state.links
        self.visibility_changed = not state.version
        self._wakeup_ns: int | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether there is nothing to commit."""
        return (
            self.state.version > 0
            and self.header == self.state.header
            and self.outcome is self.state.outcome
            and self.links is self.state.links
        )

    def finish(
        self, visibility: VisibilityRecord | None, *, expected_current_run_id: str | None = None
    ) -> RunWrite:
        """The record to commit.

        Args:
            visibility: how lists show it, if that changed.
            expected_current_run_id: for a new one, see `RunWrite`.
        """
        state, header = self.state, self.header
        header.transition_count += 1
        self._wakeup_ns = next_wakeup_ns(header)
        return RunWrite(
            run=state.run,
            expected_version=state.version,
            status=header.status,
            header=encode(header),
            wakeup_ns=self._wakeup_ns,
            items=tuple(self._item_changes()),
            visibility=visibility,
            becomes_current=not state.version,
            expected_current_run_id=expected_current_run_id,
            start_request_id="" if state.version else header.start_request_id,
            first_run_id="" if state.version else state.run.run_id,
        )

    def _item_changes(self) -> Iterable[ItemChange]:
        if not self.state.version:
            yield ItemChange(_REQUEST, _ONLY, self.state.request.SerializeToString())
        if self.outcome is not None and self.outcome is not self.state.outcome:
            yield ItemChange(_OUTCOME, _ONLY, self.outcome.SerializeToString())
        if self.links is not self.state.links:
            data = StartNexusOperationExecutionRequest(links=self.links).SerializeToString()
            yield ItemChange(_LINKS, _ONLY, data)

    def committed(self) -> OperationRun:
        """The state that `finish`'s record leads to, once it is committed."""
        return replace(
            self.state,
            version=self.state.version + 1,
            header=self.header,
            outcome=self.outcome,
            links=self.links,
            wakeup_ns=self._wakeup_ns,
        )


# --- time


def start_due_ns(header: OperationHeader) -> int:
    """Since when, or from when on, the handler is to be asked to start; 0: it is not."""
    return nexus_attempts.start_due_ns(header.operation) if header.is_open else 0


def cancel_due_ns(header: OperationHeader) -> int:
    """Since when, or from when on, the handler is to be asked to cancel; 0: it is not."""
    return nexus_attempts.cancel_due_ns(header.operation) if header.is_open else 0


def next_wakeup_ns(
    header: OperationHeader, *, is_starting: bool = False, is_canceling: bool = False
) -> int | None:
    """When the execution must be looked at again at the latest; a closed one at the end of its retention.

    Args:
        header: the execution.
        is_starting, is_canceling: these requests to the handler are seen to already: they are left out.
    """
    if not header.is_open:
        return header.close_ns + header.retention_ns
    times = [time_ns for time_ns, _ in nexus_attempts.deadlines(header.operation)]
    times.append(0 if is_starting else start_due_ns(header))
    times.append(0 if is_canceling else cancel_due_ns(header))
    return min((time_ns for time_ns in times if time_ns), default=None)
