"""Signals, queries and updates: which handler takes them, and how each runs."""

from __future__ import annotations

import asyncio
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure.api.common.v1 import Payload, Payloads
from perdure.api.sdk.v1 import EventGroupMarker
from perdure.common import RawValue
from perdure.core.replay.activation import DoUpdate, QueryWorkflow, SignalWorkflow
from perdure.core.replay.instructions import AnswerQuery, UpdateAccepted, UpdateCompleted, UpdateRejected
from perdure.exceptions import CancelledError
from perdure.worker.interceptor_workflow import HandleQueryInput, HandleSignalInput, HandleUpdateInput
from perdure.worker.workflow_code.arguments import check_arguments
from perdure.workflow import (
    ContinueAsNewError,
    HandlerUnfinishedPolicy,
    ReadOnlyContextError,
    UpdateInfo,
    _QueryDefinition,
    _set_cause,
    _set_current_update_info,
    _SignalDefinition,
    _UpdateDefinition,
)

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance

_HandlerDefinition = _SignalDefinition | _QueryDefinition | _UpdateDefinition

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RunningHandler:
    """A handler that is not done. `id` is the update's; signals have none."""

    name: str
    unfinished_policy: HandlerUnfinishedPolicy
    id: str | None = None


class Handlers:
    """The handlers of one run.

    Attributes:
        signals, queries, updates: by name; under None the dynamic one. The code may change them.
        running_signals, running_updates: those that are not done, in the order in which they began.
    """

    def __init__(
        self,
        instance: WorkflowInstance,
        signals: Mapping[str | None, _SignalDefinition],
        queries: Mapping[str | None, _QueryDefinition],
        updates: Mapping[str | None, _UpdateDefinition],
    ) -> None:
        self._instance = instance
        self.signals = dict(signals)
        self.queries = dict(queries)
        self.updates = dict(updates)
        self.running_signals: dict[int, RunningHandler] = {}
        self.running_updates: dict[str, RunningHandler] = {}
        self._signal_count = 0
        self._asked: list[tuple[QueryWorkflow, asyncio.Task[None]]] = []
        # Signals that arrived when there was no handler for them.
        self._waiting: dict[str, list[SignalWorkflow]] = {}

    @property
    def are_finished(self) -> bool:
        """Whether no signal or update handler is running."""
        return not self.running_updates and not self.running_signals

    def bound(self, definition: _HandlerDefinition | None) -> Callable[..., Any] | None:
        """The handler as something to call."""
        if definition is None:
            return None
        return definition.bind_fn(self._instance.object) if definition.is_method else definition.fn

    def validator(self, name: str | None) -> Callable[..., Any] | None:
        """The validator of an update; None if its handler has none."""
        definition = self.updates.get(name) or self.updates.get(None)
        if definition is None or definition.validator is None:
            return None
        return (
            definition.bind_validator(self._instance.object) if definition.is_method else definition.validator
        )

    # Changing handlers

    def set_signal(self, name: str | None, handler: Callable[..., Any] | None) -> None:
        """Sets or takes away a signal's handler; signals that waited for it are handled."""
        self._instance.recorder.check_writable("set signal handler")
        if handler is None:
            self.signals.pop(name, None)
            return
        definition = _SignalDefinition(name=name, fn=handler, is_method=False)
        self.signals[name] = definition
        if definition.dynamic_vararg:
            _warn_of_vararg("signals")
        names = list(self._waiting) if name is None else [name]
        for waiting in [job for name in names for job in self._waiting.pop(name, ())]:
            self._start_signal(definition, waiting)

    def set_query(self, name: str | None, handler: Callable[..., Any] | None) -> None:
        """Sets or takes away a query's handler."""
        self._instance.recorder.check_writable("set query handler")
        if handler is None:
            self.queries.pop(name, None)
            return
        if inspect.iscoroutinefunction(handler):
            warnings.warn("Queries as async def functions are deprecated", DeprecationWarning, stacklevel=4)
        definition = _QueryDefinition(name=name, fn=handler, is_method=False)
        self.queries[name] = definition
        if definition.dynamic_vararg:
            _warn_of_vararg("queries")

    def set_update(
        self, name: str | None, handler: Callable[..., Any] | None, validator: Callable[..., Any] | None
    ) -> None:
        """Sets or takes away an update's handler and validator."""
        self._instance.recorder.check_writable("set update handler")
        if handler is None:
            self.updates.pop(name, None)
            return
        definition = _UpdateDefinition(name=name, fn=handler, is_method=False)
        if validator is not None:
            definition.set_validator(validator)
        self.updates[name] = definition

    # Signals

    def take_signal(self, job: SignalWorkflow) -> None:
        """Starts the handler of a signal; without one the signal waits."""
        definition = self.signals.get(job.name) or self.signals.get(None)
        if definition is None:
            self._waiting.setdefault(job.name, []).append(job)
        else:
            self._start_signal(definition, job)

    def _start_signal(self, definition: _SignalDefinition, job: SignalWorkflow) -> None:
        instance = self._instance
        try:
            args = self._arguments(definition, job.name, job.input)
        except Exception as error:  # a signal cannot be refused any more, and the workflow must go on
            details = instance.logger_details
            _logger.error(
                "Failed deserializing signal input for %s on workflow %s with ID %s and run ID %s, "
                "dropping the signal: %r",
                job.name,
                details["workflow_type"],
                details["workflow_id"],
                details["run_id"],
                error.__cause__ or error,
                exc_info=error if _logger.isEnabledFor(logging.DEBUG) else None,
                extra={"temporal_workflow": details},
            )
            return
        self._signal_count += 1
        number = self._signal_count
        self.running_signals[number] = RunningHandler(job.name, definition.unfinished_policy)
        handled = HandleSignalInput(job.name, args, job.header.fields)
        # A handler that the code sets inside a scope runs in none: the signal is why it asks for things.
        context = copy_context()
        cause = EventGroupMarker.InboundEvent(inbound_event_id=job.event_id)
        context.run(_set_cause, EventGroupMarker(inbound_event=cause))
        task = instance.loop.create_task(
            instance.run_top_level(partial(instance.inbound.handle_signal, handled)),
            name=f"signal: {job.name}",
            context=context,
        )
        task.add_done_callback(lambda _: self.running_signals.pop(number, None))

    # Updates

    def take_update(self, job: DoUpdate) -> None:
        """Starts a task for an update: even the look for its handler waits until the code has had its turn."""
        self._instance.loop.create_task(self._run_update(job), name=f"update: {job.name}")

    async def _run_update(self, job: DoUpdate) -> None:
        instance = self._instance
        _set_current_update_info(UpdateInfo(id=job.update_id, name=job.name))
        cause = EventGroupMarker.InboundUpdate(inbound_update_id=job.update_id)
        _set_cause(EventGroupMarker(inbound_update=cause))
        # An update that is refused has its place before whatever its handler asked for.
        instance.recorder.check_writable("add command")
        is_accepted = False
        try:
            handled = self._validated(job)
            instance.recorder.add(UpdateAccepted(job.protocol_instance_id))
            is_accepted = True
            outcome = await instance.inbound.handle_update_handler(handled)
            result = Payloads(payloads=[instance.conversions.workflow.to_result(outcome)])
            instance.recorder.add(UpdateCompleted(job.protocol_instance_id, result=result))
        except ContinueAsNewError:
            # The task is nobody's that would hear of it.
            instance.loop.failure = RuntimeError("Cannot continue as new from an update handler")
        except (Exception, asyncio.CancelledError) as error:  # whatever the handler raises is the answer
            self._end_failed_update(job, error, is_accepted)
        except BaseException:  # only what ends an evicted run is expected here
            if not instance.recorder.is_evicting:
                raise
        finally:
            self.running_updates.pop(job.update_id, None)

    def _validated(self, job: DoUpdate) -> HandleUpdateInput:
        definition = self.updates.get(job.name) or self.updates.get(None)
        if definition is None:
            raise RuntimeError(
                f"Update handler for '{job.name}' expected but not found, and there is no dynamic handler. "
                f"known updates: [{_names(self.updates)}]"
            )
        self.running_updates[job.update_id] = RunningHandler(
            job.name, definition.unfinished_policy, job.update_id
        )
        handled = HandleUpdateInput(
            id=job.update_id,
            update=job.name,
            args=self._arguments(definition, job.name, job.input),
            headers=job.header.fields,
        )
        if not job.run_validator:
            return handled
        if definition.validator is not None:
            with self._instance.recorder.read_only(is_query_or_validator=True):
                self._instance.inbound.handle_update_validator(handled)
                # The handler must not see what the validator did to the arguments.
                handled.args = self._arguments(definition, job.name, job.input)
        handler = self.bound(definition)
        if handler is not None:
            # Once it is accepted, arguments that do not fit would fail its workflow task again and again.
            check_arguments(f"Update '{job.name}'", handler, handled.args)
        return handled

    def _end_failed_update(self, job: DoUpdate, error: BaseException, is_accepted: bool) -> None:
        instance = self._instance
        if isinstance(error, asyncio.CancelledError):
            error = CancelledError(f"Cancellation raised within update {error}")
        is_refusal = not is_accepted and not isinstance(error, ReadOnlyContextError)
        is_failure = not isinstance(error, ReadOnlyContextError) and instance.is_failure_exception(error)
        if not is_refusal and not is_failure:
            instance.loop.failure = error
            return
        failure = instance.conversions.workflow.to_failure(error)
        if is_accepted:
            instance.recorder.add(UpdateCompleted(job.protocol_instance_id, failure=failure))
        else:
            instance.recorder.add(UpdateRejected(job.protocol_instance_id, failure))

    # Queries

    def take_query(self, job: QueryWorkflow) -> None:
        """Starts a task for a query."""
        task = self._instance.loop.create_task(self._run_query(job), name=f"query: {job.query.query_type}")
        self._asked.append((job, task))

    def end_queries(self) -> None:
        """Answers queries whose handler has not: one that waits, as nothing more would happen to it before the next
        task, and one that ended in a cancellation which nobody asked for."""
        asked, self._asked = self._asked, []
        waiting = [(job, task) for job, task in asked if not task.done()]
        for job, task in asked:
            if task.done() and task.cancelled():
                self._answer_for(job, "raised CancelledError, although nobody cancelled it")
        if not waiting:
            return
        instance, recorder = self._instance, self._instance.recorder
        # Tasks that stand inside read-only blocks: they could not even be ended.
        recorder.end_read_only()
        asked_so_far = len(recorder.instructions)
        for _, task in waiting:
            task.cancel()
        instance.loop.run_ready(None)
        recorder.end_read_only()
        del recorder.instructions[asked_so_far:]
        for job, _ in waiting:
            self._answer_for(job, "waits for something; a query must answer at once")

    def _answer_for(self, job: QueryWorkflow, why: str) -> None:
        """The answer of a handler that gives none."""
        error = RuntimeError(f"The handler of query '{job.query.query_type}' {why}")
        failure = self._instance.conversions.workflow.to_failure(error)
        self._instance.recorder.add(AnswerQuery(job.query_id, failure=failure))

    async def _run_query(self, job: QueryWorkflow) -> None:
        instance = self._instance
        try:
            with instance.recorder.read_only(is_query_or_validator=True):
                answer = await instance.inbound.handle_query(self._query_input(job))
                result = instance.conversions.workflow.to_result(answer)
            instance.recorder.add(AnswerQuery(job.query_id, result=result))
        except Exception as error:  # whatever a handler raises is the answer
            failure = instance.conversions.workflow.to_failure(error)
            instance.recorder.add(AnswerQuery(job.query_id, failure=failure))

    def _query_input(self, job: QueryWorkflow) -> HandleQueryInput:
        query = job.query
        definition = self.queries.get(query.query_type) or self.queries.get(None)
        if definition is None:
            raise RuntimeError(
                f"Query handler for '{query.query_type}' expected but not found, "
                f"known queries: [{_names(self.queries)}]"
            )
        try:
            args = self._arguments(definition, query.query_type, query.query_args)
        except RuntimeError as error:
            # Who asked is told the message only, not what caused it.
            raise RuntimeError(f"{error}: {error.__cause__}") from error.__cause__
        return HandleQueryInput(
            id=job.query_id,
            query=query.query_type,
            args=args,
            headers=query.header.fields,
        )

    def _arguments(self, definition: _HandlerDefinition, name: str, input: Payloads) -> list[Any]:
        conversion, payloads = self._instance.conversions.workflow, input.payloads
        if definition.name:
            return conversion.from_payloads(payloads, definition.arg_types)
        if definition.dynamic_vararg:
            types = definition.arg_types[1:] if definition.arg_types else None
            return [name, *conversion.from_payloads(payloads, types)]
        return [name, raw_values(payloads)]


def raw_values(payloads: Sequence[Payload]) -> list[RawValue]:
    """What a dynamic handler or workflow gets."""
    return [RawValue(payload) for payload in payloads]


def _names(definitions: Mapping[str | None, Any]) -> str:
    return " ".join(sorted(name for name in definitions if name))


def _warn_of_vararg(kind: str) -> None:
    warnings.warn(
        f"Dynamic {kind} with vararg third param is deprecated, use Sequence[RawValue]",
        DeprecationWarning,
        stacklevel=5,
    )


def to_warn_about(handlers: Iterator[RunningHandler] | Sequence[RunningHandler]) -> list[RunningHandler]:
    """Those whose end with the workflow is worth a warning."""
    return [h for h in handlers if h.unfinished_policy is HandlerUnfinishedPolicy.WARN_AND_ABANDON]
