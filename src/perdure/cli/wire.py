"""Parts of requests that many commands need, and questions about answers. Nothing here prints or calls."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta
from typing import Any, Final

from perdure.api.common import v1 as common
from perdure.api.protobuf import Duration, Timestamp
from perdure.api.taskqueue import v1 as taskqueue
from perdure.cli.command import Flags
from perdure.cli.settings import user

_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MICROSECOND: Final = timedelta(microseconds=1)


def new_id() -> str:
    """A random id."""
    return str(uuid.uuid4())


def default_reason() -> str:
    """Why something is ended when nobody said."""
    return f"Requested from the command line by {user()}"


def duration(value: timedelta | None) -> Duration | None:
    """A duration for a request, None for none."""
    if value is None:
        return None
    seconds, microseconds = divmod(value // _MICROSECOND, 1_000_000)
    return Duration(seconds=seconds, nanos=microseconds * 1000)


def timestamp(value: datetime | None) -> Timestamp | None:
    """A time for a request, None for none."""
    if value is None:
        return None
    made = Timestamp()
    made.FromDatetime(value)
    return made


def execution(flags: Flags) -> common.WorkflowExecution:
    """The run that --workflow-id and --run-id name."""
    return common.WorkflowExecution(workflow_id=flags.workflow_id or "", run_id=flags.run_id or "")


def queue(name: str) -> taskqueue.TaskQueue:
    """A task queue by name."""
    from perdure.api.enums import v1 as enums

    return taskqueue.TaskQueue(name=name, kind=enums.TASK_QUEUE_KIND_NORMAL)


def snake(name: str) -> str:
    """`allow_duplicate` for `AllowDuplicate`."""
    return _WORD.sub("_", name).lower()


def enum_value(enum: Any, label: str | None) -> Any:
    """The value of an enum that a word such as `AllowDuplicate` or `not_open` means; 0 for no word."""
    if not label:
        return 0
    prefix = snake(enum.DESCRIPTOR.name).upper()
    return enum.Value(f"{prefix}_{snake(label).upper()}")


def priority(flags: Flags) -> common.Priority | None:
    """The priority of what is started, None for the usual one."""
    made = common.Priority(
        priority_key=flags.priority_key or 0,
        fairness_key=flags.fairness_key or "",
        fairness_weight=flags.fairness_weight or 0.0,
    )
    return made if made.ListFields() else None


def user_metadata(summary: str | None, details: str | None) -> Any:
    """Texts for people, None without any."""
    from perdure.api.sdk.v1 import UserMetadata
    from perdure.cli.payloads import json_payload

    if not summary and not details:
        return None
    return UserMetadata(
        summary=json_payload(summary) if summary else None, details=json_payload(details) if details else None
    )
