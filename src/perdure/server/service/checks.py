"""Checks that many RPCs share: lengths, run ids, deadlines, task queues, sizes, links.

Messages as Temporal's server words them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.message import Message

from perdure.api.common.v1 import Link, Payload, WorkflowExecution
from perdure.api.enums.v1 import WorkerVersioningMode
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.core.errors import DeadlineTooShortError, InvalidArgumentError
from perdure.core.run.limits import Limits
from perdure.server.service.call import Call

MIN_LONG_POLL_S = 2.0
_RESERVED_QUEUE_PREFIX = "/_sys/"
MAX_LINKS = 10
MAX_LINK_BYTES = 4000
MAX_BUILD_ID_BYTES = 255
_VERSIONED = WorkerVersioningMode.Value("WORKER_VERSIONING_MODE_VERSIONED")
_NAMESPACE = ("namespace", "namespace field")
_WORKFLOW_ID = ("workflow_id", "workflow ID field")
_RUN_ID = ("run_id", "run ID field")
_LINK_FIELDS: Mapping[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "workflow_event": ("workflow event", (_NAMESPACE, _WORKFLOW_ID, _RUN_ID)),
    "workflow": ("workflow", (_NAMESPACE, _WORKFLOW_ID, _RUN_ID)),
    "activity": ("activity", (_NAMESPACE, ("activity_id", "activity ID field"), _RUN_ID)),
    "nexus_operation": (
        "nexus operation",
        (_NAMESPACE, ("operation_id", "operation ID field"), _RUN_ID),
    ),
    "batch_job": ("batch job", (("job_id", "job ID"),)),
}
"""By variant of a link: its name in messages, and the fields it must have with theirs."""


_LONGEST_CHARACTER_BYTES: Final = 4
"""In UTF-8."""


def too_long(value: str, limits: Limits) -> bool:
    """Whether an id or name exceeds the limit."""
    if len(value) * _LONGEST_CHARACTER_BYTES <= limits.id_bytes:
        return False
    return len(value) > limits.id_bytes or len(value.encode()) > limits.id_bytes


def request_id(value: str, limits: Limits) -> None:
    """Checks a request id's length."""
    if too_long(value, limits):
        raise InvalidArgumentError("RequestId length exceeds limit.")


def execution(message: Message, field: str = "workflow_execution") -> WorkflowExecution:
    """The workflow execution a request names, checked.

    Raises:
        InvalidArgumentError: not set, without workflow id, or with a run id that is no UUID.
    """
    if not message.HasField(field):
        raise InvalidArgumentError("Execution is not set on request.")
    named: WorkflowExecution = getattr(message, field)
    if not named.workflow_id:
        raise InvalidArgumentError("WorkflowId is not set on request.")
    if named.run_id and not is_uuid(named.run_id):
        raise InvalidArgumentError("Invalid RunId.")
    return named


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def task_queue(queue: TaskQueue | None, limits: Limits) -> str:
    """The checked name of a task queue a request must name."""
    if queue is None:
        raise InvalidArgumentError("taskQueue is not set")
    return queue_name(queue.name, limits)


def queue_name(name: str, limits: Limits) -> str:
    """The checked name of a task queue."""
    if not name:
        raise InvalidArgumentError("missing task queue name")
    if too_long(name, limits):
        raise InvalidArgumentError("taskQueue length exceeds limit")
    if name.startswith(_RESERVED_QUEUE_PREFIX):
        raise InvalidArgumentError(
            f"task queue name cannot start with reserved prefix {_RESERVED_QUEUE_PREFIX}"
        )
    return name


def long_poll_s(call: Call, longest_s: float) -> float:
    """How long a long poll may wait so that its empty answer still reaches the caller.

    Raises:
        InvalidArgumentError: the caller set no deadline.
        DeadlineTooShortError: less than two seconds.
    """
    if call.deadline_s is None:
        raise InvalidArgumentError("Context timeout is not set.")
    if call.deadline_s < MIN_LONG_POLL_S:
        raise DeadlineTooShortError("Context timeout is too short.")
    return min(longest_s, call.deadline_s - 1.0)


def blob(size: int, limits: Limits) -> None:
    """Checks the size of a payload."""
    if size > limits.blob_bytes:
        raise InvalidArgumentError("Blob data size exceeds limit.")


def memo(fields: Mapping[str, Payload], limits: Limits) -> None:
    """Checks the size of a memo."""
    if sum(len(key) + payload.ByteSize() for key, payload in fields.items()) > limits.memo_bytes:
        raise InvalidArgumentError("Memo size exceeds limit.")


def links(values: Sequence[Link]) -> None:
    """Checks how many links a request carries, their sizes, and that each says what it points to."""
    if len(values) > MAX_LINKS:
        raise InvalidArgumentError(
            f"cannot attach more than {MAX_LINKS} links per request, got {len(values)}"
        )
    for link in values:
        if link.ByteSize() > MAX_LINK_BYTES:
            raise InvalidArgumentError(
                f"link exceeds allowed size of {MAX_LINK_BYTES}, got {link.ByteSize()}"
            )
        variant = link.WhichOneof("variant")
        if variant is None or variant not in _LINK_FIELDS:
            raise InvalidArgumentError("unsupported link variant")
        label, required = _LINK_FIELDS[variant]
        target = getattr(link, variant)
        for field, name in required:
            if not getattr(target, field):
                raise InvalidArgumentError(f"{label} link must not have an empty {name}")
        if variant == "workflow_event" and target.event_ref.event_id and not target.event_ref.event_type:
            raise InvalidArgumentError(
                "workflow event link ref cannot have an unspecified event type and a non-zero event ID"
            )
