"""What workflow code has asked for in this activation, and whether it may ask for anything now."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from perdure.api.sdk.v1 import EventGroupMarker
from perdure.core.replay.instructions import CANCELLATIONS, Instruction
from perdure.worker.workflow_code.errors import _WorkflowBeingEvictedError
from perdure.worker.workflow_code.loop import WorkflowLoop, WorkflowTask
from perdure.workflow import ReadOnlyContextError, _current_markers

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_ASYNCIO = os.path.dirname(os.path.abspath(os.__file__)) + os.sep + "asyncio" + os.sep
_BOTTOM = WorkflowLoop.run_ready.__code__
# Few files hold workflow code, so this does not grow.
_is_internal: dict[str, bool] = {}


def source_of(frame: FrameType | None) -> str | None:
    """File and line of the first frame outside Perdure and asyncio, up to the loop; None if there is none."""
    while frame is not None:
        code = frame.f_code
        if code is _BOTTOM:
            return None
        file = code.co_filename
        internal = _is_internal.get(file)
        if internal is None:
            internal = _is_internal[file] = file.startswith((_PACKAGE, _ASYNCIO, "<"))
        if not internal:
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return None


class Recorder:
    """Collects instructions in the order in which the code asks.

    Attributes:
        instructions: of the current activation.
        markers: by `id` of an instruction, the event groups that it belongs to; see `Answer`.
        is_read_only: a query, a validator or another reader runs.
        is_query_or_validator: it is one of these, which are live even during replay.
        is_evicting: the run is being thrown away.
        tracks_sources: `source` says where the code is; otherwise it costs nothing and says nothing.
    """

    __slots__ = (
        "_seqs",
        "instructions",
        "is_evicting",
        "is_query_or_validator",
        "is_read_only",
        "markers",
        "tracks_sources",
    )

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.markers: dict[int, Sequence[EventGroupMarker]] = {}
        self.is_read_only = False
        self.is_query_or_validator = False
        self.is_evicting = False
        self.tracks_sources = False
        self._seqs: dict[str, int] = {}

    def add(self, instruction: Instruction) -> None:
        """Asks for something.

        Raises:
            ReadOnlyContextError: nothing may be asked for now.
            _WorkflowBeingEvictedError: the run is being thrown away.
        """
        if self.is_read_only or self.is_evicting:
            self.check_writable("add command")
        markers = _current_markers()
        if markers is not None and type(instruction) not in CANCELLATIONS:
            self.markers[id(instruction)] = markers
        self.instructions.append(instruction)

    def add_marked(self, instruction: Instruction, markers: Sequence[EventGroupMarker] | None) -> None:
        """Asks for something that belongs to event groups of a moment ago; raises as `add` does."""
        self.add(instruction)
        if markers is None:
            self.markers.pop(id(instruction), None)
        else:
            self.markers[id(instruction)] = markers

    def check_writable(self, action: str, *, is_allowed_while_evicting: bool = False) -> None:
        """Checks that the code may change something.

        Args:
            action: what it wants to do, for the message.
            is_allowed_while_evicting: fine while the run is being thrown away.

        Raises:
            ReadOnlyContextError: it may not now.
            _WorkflowBeingEvictedError: the run is being thrown away.
        """
        if self.is_evicting and not is_allowed_while_evicting:
            raise _WorkflowBeingEvictedError(
                f"Ignoring {action} while evicting workflow. This is not an error."
            )
        if self.is_read_only:
            raise ReadOnlyContextError(f"While in read-only function, action attempted: {action}")

    def next_seq(self, kind: str) -> int:
        """The next number of its kind, from 1."""
        seq = self._seqs.get(kind, 0) + 1
        self._seqs[kind] = seq
        return seq

    def source(self) -> str | None:
        """Where in the user's code the caller was called from."""
        if not self.tracks_sources:
            return None
        source = source_of(sys._getframe(1))
        if source is None:
            # A coroutine of Perdure's that asyncio.gather, for one, runs in a task of its own.
            task = asyncio.current_task()
            source = task.source if isinstance(task, WorkflowTask) else None
        return source

    @contextmanager
    def read_only(self, *, is_query_or_validator: bool) -> Iterator[None]:
        """Lets nothing be changed for a while."""
        before = self.is_read_only, self.is_query_or_validator
        self.is_read_only, self.is_query_or_validator = True, is_query_or_validator
        try:
            yield
        finally:
            self.is_read_only, self.is_query_or_validator = before

    def end_read_only(self) -> None:
        """Lets things be changed again, whatever blocks are still open."""
        self.is_read_only = self.is_query_or_validator = False
