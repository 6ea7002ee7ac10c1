"""Questions about a run that the executor answers by itself: where its tasks stand, and what it can be asked."""

from __future__ import annotations

import asyncio
import linecache
import traceback
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

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


def _instance() -> WorkflowInstance:
    """The run that is asked."""
    runtime: Any = _Runtime.current()
    asked: WorkflowInstance = runtime._instance
    return asked


def _waiting_tasks(instance: WorkflowInstance) -> list[asyncio.Task[Any]]:
    return instance.loop.unfinished_tasks()


def stack_trace(instance: WorkflowInstance) -> str:
    """Where every task of the workflow stands."""
    stacks = []
    for task in _waiting_tasks(instance):
        frames = [
            traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
            for frame in task.get_stack()
        ]
        lines = "\n".join(traceback.format_list(frames))
        stacks.append(f"Stack for {task!r} (most recent call last):\n{lines}")
    return "\n\n".join(stacks)


def enhanced_stack_trace(instance: WorkflowInstance) -> EnhancedStackTrace:
    """Where every task of the workflow stands, with the text of the files."""
    trace = EnhancedStackTrace(sdk=StackTraceSDKInfo(name="sdk-python", version=__version__))
    for task in _waiting_tasks(instance):
        locations = []
        for frame in task.get_stack():
            file = frame.f_code.co_filename
            if file not in trace.sources:
                trace.sources[file].CopyFrom(StackTraceFileSlice(line_offset=0, content=_text_of(file)))
            locations.append(
                StackTraceFileLocation(
                    file_path=file,
                    line=frame.f_lineno,
                    column=-1,
                    function_name=frame.f_code.co_name,
                    internal_code=False,
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
