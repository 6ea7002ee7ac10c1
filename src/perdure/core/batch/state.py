"""The state of a batch job: what was asked, how far it has come; and its encoding as JSON. Plain data only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from perdure.api.enums.v1 import BatchOperationState

RUNNING: Final = BatchOperationState.Value("BATCH_OPERATION_STATE_RUNNING")
COMPLETED: Final = BatchOperationState.Value("BATCH_OPERATION_STATE_COMPLETED")
FAILED: Final = BatchOperationState.Value("BATCH_OPERATION_STATE_FAILED")


class Target(NamedTuple):
    """An execution that the operation is done to; an empty run id means the current run."""

    execution_id: str
    run_id: str


class BatchState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A job.

    Attributes:
        request: the StartBatchOperationRequest, serialised.
        incarnation: sets it apart from another job of the same id; ids of requests follow from it.
        type: `temporal.api.enums.v1.BatchOperationType` number.
        start_ns, close_ns: nanoseconds since the epoch; no `close_ns` while it runs.
        state: `temporal.api.enums.v1.BatchOperationState` number.
        total: executions counted at its start.
        completed, failed: of the pages that are done.
        page: the executions under way, or None; a crash does them again and counts them as it would have.
        cursor: where the page after them begins: a page token, or the place in the list of executions; empty: nowhere.
        stop_reason, stop_identity: who stopped it and why.
    """

    request: bytes
    incarnation: str
    type: int
    identity: str
    start_ns: int
    total: int
    state: int = RUNNING
    close_ns: int = 0
    completed: int = 0
    failed: int = 0
    page: tuple[Target, ...] | None = None
    cursor: bytes = b""
    stop_reason: str = ""
    stop_identity: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it still runs."""
        return self.state == RUNNING

    def encode(self) -> bytes:
        """The stored form."""
        return msgspec.json.encode(self)


def decode(data: bytes) -> BatchState:
    """Reads what `encode` wrote."""
    return msgspec.json.decode(data, type=BatchState)


def with_page(state: BatchState, page: Sequence[Target], next_cursor: bytes | None) -> BatchState:
    """The job with the executions to do next, and where the page after them begins (None: nowhere)."""
    return msgspec.structs.replace(state, page=tuple(page), cursor=next_cursor or b"")


def page_done(state: BatchState, completed: int, failed: int, now_ns: int) -> BatchState:
    """The job after its page; it is complete if that was the last.

    Args:
        state: the job before it.
        completed, failed: of the page.
        now_ns: the time.
    """
    after = msgspec.structs.replace(
        state, completed=state.completed + completed, failed=state.failed + failed, page=None
    )
    if after.cursor:
        return after
    total = after.completed + after.failed
    return msgspec.structs.replace(after, state=COMPLETED, close_ns=now_ns, total=total)


def stopped(
    state: BatchState, completed: int, failed: int, reason: str, identity: str, now_ns: int
) -> BatchState:
    """The job after somebody stopped it; `completed` and `failed` are of the page under way."""
    return msgspec.structs.replace(
        state,
        completed=state.completed + completed,
        failed=state.failed + failed,
        state=FAILED,
        page=None,
        close_ns=now_ns,
        stop_reason=reason,
        stop_identity=identity,
    )
