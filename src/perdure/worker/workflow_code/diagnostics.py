"""Questions about a run that the executor answers by itself: where its tasks stand, and what it can be asked."""

from __future__ import annotations

import asyncio
import linecache
import os
import traceback
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import perdure
from perdure import __version__
from perdure.api.sdk.v1 import (
    EnhancedStackTrace,
    StackTrace,
    StackTraceFileLocation,
    StackTraceFileSlice,
    StackTraceSDKInfo,
    WorkflowDefinition,
    WorkflowInteractionDefinition,
    WorkflowMetadata,
)
from perdure.workflow import _QueryDefinition, _Runtime

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance


_OURS = os.path.dirname(perdure.__file__) + os.sep


def _instance() -> WorkflowInstance:
    """The run that is asked."""
    runtime: Any = _Runtime.current()
    asked: WorkflowInstance = runtime._instance
    return asked


def _waiting_tasks(instance: WorkflowInstance) -> list[asyncio.Task[Any]]:
    """Every task that waits; the one that answers the question is none of the workflow's."""
    asking = asyncio.current_task()
    return [task for task in instance.loop.unfinished_tasks() if task is not asking]


def _frames(task: asyncio.Task[Any]) -> list[FrameType]:
    """Where a waiting task stands, from its outermost coroutine to the innermost that one waits for.

    `Task.get_stack` knows the outermost only.
    """
    frames: list[FrameType] = []
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is None:
            break
        frames.append(frame)
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return frames


def waiting(instance: WorkflowInstance) -> list[tuple[str, list[FrameType]]]:
    """Name and frames of every task that waits, oldest first; a task's frames lead to where it waits."""
    return [(task.get_name(), _frames(task)) for task in _waiting_tasks(instance)]


def _is_internal(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OURS)


def stack_trace(instance: WorkflowInstance) -> str:
    """Where every task of the workflow stands: its own code, without what is between it and the event loop."""
    stacks = []
    for task in _waiting_tasks(instance):
        frames = _frames(task)
        lines = traceback.format_list(
            [
                traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
                for frame in [frame for frame in frames if not _is_internal(frame)] or frames
            ]
        )
        stacks.append(f"Stack for {task!r} (most recent call last):\n{''.join(lines)}")
    return "\n\n".join(stacks)


def enhanced_stack_trace(instance: WorkflowInstance) -> EnhancedStackTrace:
    """Where every task of the workflow stands, with the text of the files."""
    trace = EnhancedStackTrace(sdk=StackTraceSDKInfo(name="sdk-python", version=__version__))
    for task in _waiting_tasks(instance):
        locations = []
        for frame in _frames(task):
            file = frame.f_code.co_filename
            if file not in trace.sources:
                trace.sources[file].CopyFrom(StackTraceFileSlice(line_offset=0, content=_text_of(file)))
            locations.append(
                StackTraceFileLocation(
                    file_path=file,
                    line=frame.f_lineno,
                    column=-1,
                    function_name=frame.f_code.co_name,
                    internal_code=_is_internal(frame),
                )
            )
        trace.stacks.append(StackTrace(locations=locations))
    return trace


def _text_of(file: str) -> str:
    # linecache and not open(): the guards let it read files on behalf of the interpreter.
    return "".join(linecache.getlines(file)) or "Cannot access code."


def metadata(instance: WorkflowInstance) -> WorkflowMetadata:
    """Which signals, queries and updates the workflow takes, and what it says it is at."""
    handlers = instance.handlers
    return WorkflowMetadata(
        definition=WorkflowDefinition(
            type=instance.info.workflow_type,
            query_definitions=_interactions(handlers.queries.values()),
            signal_definitions=_interactions(handlers.signals.values()),
            update_definitions=_interactions(handlers.updates.values()),
        ),
        current_details=instance.current_details,
    )


def _interactions(definitions: Iterable[Any]) -> list[WorkflowInteractionDefinition]:
    texts: Mapping[str, str] = {each.name or "": each.description or "" for each in definitions}
    return [WorkflowInteractionDefinition(name=name, description=texts[name]) for name in sorted(texts)]


QUERIES: dict[str | None, _QueryDefinition] = {
    name: _QueryDefinition(name=name, fn=answer, is_method=False, arg_types=[], ret_type=result_type)
    for name, answer, result_type in (
        ("__stack_trace", lambda: stack_trace(_instance()), str),
        ("__enhanced_stack_trace", lambda: enhanced_stack_trace(_instance()), EnhancedStackTrace),
        ("__temporal_workflow_metadata", lambda: metadata(_instance()), WorkflowMetadata),
    )
}
"""The questions, by name."""
