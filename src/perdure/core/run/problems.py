"""What a run's workers fail at, in its search attributes: set when tasks fail in a row, gone when one succeeds.

Source: the search attribute TemporalReportedProblems.
"""

from __future__ import annotations

import json
from typing import Final

from perdure.api.common.v1 import Payload
from perdure.api.enums.v1 import TimeoutType, WorkflowTaskFailedCause
from perdure.core.run import properties
from perdure.core.run.state import RunHeader
from perdure.core.run.transition import Transition

REPORTED_PROBLEMS: Final = "TemporalReportedProblems"
_CAUSE_PREFIX = "WORKFLOW_TASK_FAILED_CAUSE_"
_TYPE_PREFIX = "TIMEOUT_TYPE_"


def failed(header: RunHeader, cause: int) -> None:
    """A workflow task failed."""
    # A worker may know causes that this server does not: those go by their number.
    known = cause in WorkflowTaskFailedCause.values()
    name = WorkflowTaskFailedCause.Name(cause) if known else str(cause)  # type: ignore[arg-type]  # an enum number
    header.task_problem = f"Failed{_camel(name.removeprefix(_CAUSE_PREFIX))}"


def timed_out(header: RunHeader, timeout_type: int) -> None:
    """A workflow task ran out of time."""
    name = TimeoutType.Name(timeout_type)  # type: ignore[arg-type]  # an enum number
    header.task_problem = f"TimedOut{_camel(name.removeprefix(_TYPE_PREFIX))}"


def solved(header: RunHeader) -> None:
    """A workflow task succeeded."""
    header.task_failures = 0
    header.task_problem = ""


def note(tx: Transition, needed: int) -> None:
    """Brings the search attribute up to date at the end of a transition.

    Args:
        tx: the transition.
        needed: after how many failures in a row problems are shown; 0: never.
    """
    before, header = tx.state.header, tx.header
    if not needed or (not before.task_failures and not header.task_failures):
        return
    if before.task_failures == header.task_failures and before.task_problem == header.task_problem:
        return
    fields = properties.search_attributes(tx)
    if header.task_failures >= needed:
        data = json.dumps(_entries(header.task_problem), separators=(",", ":")).encode()
        payload = Payload(metadata={"encoding": b"json/plain", "type": b"KeywordList"}, data=data)
        fields.indexed_fields[REPORTED_PROBLEMS].CopyFrom(payload)
    elif REPORTED_PROBLEMS in fields.indexed_fields and not header.task_failures:
        del fields.indexed_fields[REPORTED_PROBLEMS]
    else:
        return
    tx.blobs.put(properties.SEARCH_ATTRIBUTES, fields.SerializeToString(deterministic=True))
    tx.visibility_changed = True


def _entries(problem: str) -> list[str]:
    for category in ("Failed", "TimedOut"):
        if problem.startswith(category):
            return [
                f"category=WorkflowTask{category}",
                f"cause=WorkflowTask{category}Cause{problem[len(category) :]}",
            ]
    return []


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
