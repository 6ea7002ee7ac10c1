"""Updates: requests to a running workflow that it may refuse, and that have an outcome.

An update that waits for a worker's word is in memory only (`UpdateRegistry`, one per run): if it is lost, its caller
asks again. What the workflow accepted is part of the run's state, and its outcome part of the history.

    admitted ── a workflow task starts ──> sent ── Acceptance ──> accepted ── Response ──> completed
                                            └───── Rejection, or no word of it ──> rejected, without a trace

Messages travel beside a workflow task's events and its completion's commands.

A reset brings accepted updates again: it writes an event for each, which is how the worker gets it, and an item of the
state that the workflow's word ends. Who waits for such an update waits in the registry as for any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError, Message

from perdure.api.common.v1 import Callback
from perdure.api.enums.v1 import EventType, UpdateAdmittedEventOrigin
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.protobuf import Any as AnyMessage
from perdure.api.protocol.v1 import Message as ProtocolMessage
from perdure.api.update.v1 import Acceptance, Rejection, Request, Response
from perdure.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    ServiceError,
    UnavailableError,
    WorkflowNotReadyError,
)
from perdure.core.run import callback, options
from perdure.core.run.callback import update_failure
from perdure.core.run.items import CALLBACK
from perdure.core.run.limits import Limits
from perdure.core.run.state import RunState, Update
from perdure.core.run.transition import Transition

_ADMITTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED")
_BY_RESET = UpdateAdmittedEventOrigin.Value("UPDATE_ADMITTED_EVENT_ORIGIN_REAPPLY")
_ACCEPTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED")
_COMPLETED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED")
_OPTIONS_UPDATED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED")
_PROTOCOL = "temporal.api.update.v1"
_CAUSE_CONCURRENT = 2
_CAUSE_BUSY_WORKFLOW = 5
_SCOPE_NAMESPACE = 1
FAILING_ATTEMPT = 3
"""From this attempt of a workflow task on, new updates are refused."""
FAILING = "Unable to perform workflow execution update due to Workflow Task in failed state."
TASK_FAILED = "Unable to perform workflow execution update due to unexpected workflow task failure."
PAUSED = "Workflow is paused. Cannot update the workflow."
CLOSING = "workflow operation can not be applied because workflow is closing"
ANSWER_LOST = "the workflow's answer to the update was lost"
ABORTED_BY_CLOSE = "workflow update was aborted by closing workflow"


UNPROCESSED = update_failure(
    "UnprocessedUpdate",
    "Workflow Update is rejected because it wasn't processed by worker. Probably, Workflow Update is not supported by "
    "the worker.",
)


@dataclass(slots=True, eq=False)
class WaitingUpdate:
    """An update from its admission until the workflow accepted or rejected it; its callers hold on to it.

    Attributes:
        request: what was asked.
        sent: a worker was told of it.
        in_history: by an event that a reset wrote; no message brings it.
        attached: callbacks of others who ask for it, by request id; events once it is accepted.
        rejection: why it was refused.
        error: why nothing will come of it.
    """

    request: Request
    sent: bool = False
    in_history: bool = False
    attached: dict[str, Sequence[Callback]] = field(default_factory=dict)
    rejection: Failure | None = None
    error: ServiceError | None = None

    @property
    def update_id(self) -> str:
        """Its id, unique in its run."""
        return self.request.meta.update_id


@dataclass(slots=True)
class UpdateChanges:
    """What a completed workflow task does to waiting updates, once it is committed.

    Attributes:
        accepted: ids.
        rejected: why, by id.
    """

    accepted: set[str] = field(default_factory=set)
    rejected: dict[str, Failure] = field(default_factory=dict)

    def __contains__(self, update_id: str) -> bool:
        return update_id in self.accepted or update_id in self.rejected


@dataclass(slots=True)
class UpdateRegistry:
    """The updates of one run that wait for the workflow's word, by id, in order of admission."""

    waiting: dict[str, WaitingUpdate] = field(default_factory=dict)

    def admit(self, state: RunState, request: Request, limits: Limits) -> WaitingUpdate | None:
        """Lets an update in; one of the same id only once.

        Returns:
            the waiting update, or None if the workflow has accepted it before.

        Raises:
            WorkflowNotReadyError: the run's workflow tasks keep failing.
            ResourceExhaustedError: the run is closing, or too many updates are under way.
            FailedPreconditionError: the run is paused, or had too many updates.
            InvalidArgumentError: callbacks without a request id.
        """
        header = state.header
        if header.paused_ns:
            raise FailedPreconditionError(PAUSED)
        if header.task_attempt >= FAILING_ATTEMPT:
            raise WorkflowNotReadyError(FAILING)
        if header.task_close_refused and header.has_started_task:
            raise ResourceExhaustedError(CLOSING, _CAUSE_BUSY_WORKFLOW, _SCOPE_NAMESPACE)
        update_id = request.meta.update_id
        kept = state.updates.get(update_id)
        if kept is not None and kept.accepted_event_id:
            check_callbacks(request)
            return None
        known = self.waiting.get(update_id)
        if known is None and kept is not None:
            known = self.watch(request)
        if known is not None:
            check_callbacks(request)
            if known.sent and request.completion_callbacks:
                known.attached.setdefault(request.request_id, request.completion_callbacks)
            return known
        self._check_limits(state, request, limits)
        check_callbacks(request)
        admitted = self.waiting[update_id] = WaitingUpdate(request)
        return admitted

    def watch(self, request: Request) -> WaitingUpdate:
        """The waiting update for one that a reset brought and that the workflow has not looked at yet."""
        update_id = request.meta.update_id
        return self.waiting.setdefault(update_id, WaitingUpdate(request, sent=True, in_history=True))

    def _check_limits(self, state: RunState, request: Request, limits: Limits) -> None:
        running = sum(1 for update in state.updates.values() if not update.completed_event_id)
        if limits.updates_in_flight and len(self.waiting) + running >= limits.updates_in_flight:
            raise ResourceExhaustedError(
                f"limit on number of concurrent in-flight updates has been reached ({limits.updates_in_flight})",
                _CAUSE_CONCURRENT,
                _SCOPE_NAMESPACE,
            )
        check_total(len(self.waiting) + len(state.updates), limits)
        size = sum(len(key) + waiting.request.ByteSize() for key, waiting in self.waiting.items())
        if 0 < limits.updates_in_flight_bytes <= size + request.ByteSize():
            raise ResourceExhaustedError(
                "limit on total payload size of in-flight updates has been reached "
                f"({limits.updates_in_flight_bytes} bytes)",
                _CAUSE_CONCURRENT,
                _SCOPE_NAMESPACE,
            )

    def send(self, started_event_id: int, *, again: bool) -> tuple[ProtocolMessage, ...]:
        """The messages that go out with a workflow task that starts.

        Args:
            started_event_id: of the task.
            again: also what was sent before and had no answer; a task that only goes on with the one before knows it.
        """
        messages = []
        for update_id, update in self.waiting.items():
            if update.in_history or (update.sent and not again):
                continue
            update.sent = True
            message = ProtocolMessage(
                id=request_message_id(update_id),
                protocol_instance_id=update_id,
                event_id=started_event_id - 1,
            )
            message.body.Pack(update.request)
            messages.append(message)
        return tuple(messages)

    def settle(self, changes: UpdateChanges) -> None:
        """Takes over what a committed workflow task did."""
        for update_id in changes.accepted:
            self.waiting.pop(update_id, None)
        for update_id, failure in changes.rejected.items():
            rejected = self.waiting.pop(update_id, None)
            if rejected is not None:
                rejected.rejection = failure

    def forget_accepted(self, state: RunState) -> None:
        """After a commit of unknown outcome: what the run turns out to have heard of does not wait any more."""
        for update_id, waiting in list(self.waiting.items()):
            kept = state.updates.get(update_id)
            if kept is not None and kept.accepted_event_id:
                del self.waiting[update_id]
            elif kept is None and waiting.in_history:
                # Rejected, and why is lost: whoever waits asks again.
                self.waiting.pop(update_id).error = UnavailableError(ANSWER_LOST)

    def fail_sent(self) -> None:
        """A workflow task failed on the server's word: what it was to look at would make the next one fail, too."""
        sent = [key for key, update in self.waiting.items() if update.sent and not update.in_history]
        for update_id in sent:
            self.waiting.pop(update_id).error = WorkflowNotReadyError(TASK_FAILED)


def check_callbacks(request: Request) -> None:
    """Checks that callbacks can be told from those of other requests.

    Raises:
        InvalidArgumentError: there is no request id.
    """
    if request.completion_callbacks and not request.request_id:
        raise InvalidArgumentError(
            "invalid *update.Request: request_id is required when completion_callbacks are set"
        )


def attach(tx: Transition, request: Request, limits: Limits) -> bool:
    """Records the callbacks that a request brings to an update which the run knows.

    Returns:
        whether that changed anything: not if the request was here before, or the update is completed.

    Raises:
        FailedPreconditionError: the run has too many callbacks.
    """
    kept = tx.updates.get(request.meta.update_id)
    if kept is None or kept.completed_event_id or _is_known(tx, request.request_id):
        return False
    if not kept.accepted_event_id:
        return False  # it waits, with what is to be attached
    most, there = limits.callbacks, len(tx.callbacks)
    if limits.update_callbacks and len(request.completion_callbacks) + there > most:
        raise FailedPreconditionError(
            f"cannot attach more than {most} callbacks to a workflow ({there} callbacks already attached)"
        )
    _attach(tx, request.meta.update_id, request.request_id, request.completion_callbacks, limits)
    return True


def _attach(
    tx: Transition, update_id: str, request_id: str, callbacks: Sequence[Callback], limits: Limits
) -> None:
    options.attach_to_update(tx, update_id, request_id, callbacks)
    if limits.update_callbacks:
        callback.register(tx, request_id, callbacks, update_id=update_id)


def register_callbacks(tx: Transition) -> None:
    """Registers what came with the updates under way of a run that a reset made; its events say it all."""
    buffered = [event for key in tx.buffered_keys() if (event := tx.buffered.get(key)) is not None]
    for event in (*tx.events, *buffered):
        for update_id, request_id, callbacks in _brought_by(event):
            kept = tx.updates.get(update_id)
            if kept is not None and not kept.completed_event_id:
                callback.register(tx, request_id, callbacks, update_id=update_id)


def _brought_by(event: HistoryEvent) -> Iterator[tuple[str, str, Sequence[Callback]]]:
    """Update, request and callbacks that an event tells of."""
    if event.event_type in (_ADMITTED, _ACCEPTED):
        admitted = event.workflow_execution_update_admitted_event_attributes.request
        accepted = event.workflow_execution_update_accepted_event_attributes.accepted_request
        request = admitted if event.event_type == _ADMITTED else accepted
        if request.completion_callbacks:
            yield request.meta.update_id, request.request_id, request.completion_callbacks
    elif event.event_type == _OPTIONS_UPDATED:
        for attached in event.workflow_execution_options_updated_event_attributes.workflow_update_options:
            yield attached.update_id, attached.attached_request_id, attached.attached_completion_callbacks


def _is_known(tx: Transition, request_id: str) -> bool:
    """Whether a request has come to the run before: the one that started it, or one that an event names."""
    return (
        request_id == tx.header.start_request_id
        or request_id in tx.attached_requests
        or any(update.request_id == request_id for update in tx.updates)
    )


def check_total(count: int, limits: Limits) -> None:
    """Checks how many updates a run had.

    Raises:
        FailedPreconditionError: as many as allowed.
    """
    if 0 < limits.updates_total <= count:
        raise FailedPreconditionError(
            "The limit on the total number of distinct updates in this workflow has been reached "
            f"({limits.updates_total}). Make sure any duplicate updates share an Update ID so the server can "
            "deduplicate them, and consider rejecting updates that you aren't going to process. You can also "
            "Continue-as-New to avoid this; we recommend you check Continue-as-New Suggested in your Workflow."
        )


def unheard(state: RunState) -> list[str]:
    """The ids of the updates that a reset brought and that the workflow has said nothing about."""
    return [update_id for update_id, update in state.updates.items() if not update.accepted_event_id]


def bring_again(tx: Transition, event: HistoryEvent) -> None:
    """Brings an update again that a run has accepted which is reset.

    Args:
        tx: of the new run.
        event: an Admitted or Accepted one. An Accepted one without the request follows an Admitted one.
    """
    if event.event_type == _ADMITTED:
        admitted = event.workflow_execution_update_admitted_event_attributes
        request, origin = admitted.request, admitted.origin
    else:
        accepted = event.workflow_execution_update_accepted_event_attributes
        if not accepted.HasField("accepted_request"):
            return
        request, origin = accepted.accepted_request, _BY_RESET
    update_id = request.meta.update_id
    if update_id in tx.updates:
        return  # two runs of the chain had updates of the same id; ids are unique in a run
    written = tx.new_event(_ADMITTED)
    attributes = written.workflow_execution_update_admitted_event_attributes
    attributes.request.CopyFrom(request)
    attributes.origin = origin
    tx.updates.put(update_id, Update(request_id=request.request_id))  # knows its event once that is numbered
    tx.append(written)


def request_message_id(update_id: str) -> str:
    """The id of the message that brings an update to a worker."""
    return f"{update_id}/request"


# --- a worker's word ---


@dataclass(slots=True)
class UpdateAnswers:
    """A worker's messages about updates, applied to a transition.

    Attributes:
        tx: the transition.
        registry: the run's waiting updates; only read.
        limits: of the run.
        changes: what is to happen to the waiting ones after the commit.
    """

    tx: Transition
    registry: UpdateRegistry
    limits: Limits
    changes: UpdateChanges = field(default_factory=UpdateChanges)

    def apply(self, message: ProtocolMessage) -> None:
        """Applies one message.

        Raises:
            InvalidArgumentError, NotFoundError: it makes no sense; the workflow task must fail.
            FailedPreconditionError: it brings an update that is one too many.
        """
        body = message.body
        update_id = message.protocol_instance_id
        if not self.tx.header.is_open and not body.Is(Rejection.DESCRIPTOR):
            return  # The workflow ended itself with the same task: the update ends with it.
        self._check_known(update_id, body)
        for kind, handle in _KINDS:
            if body.Is(kind.DESCRIPTOR):
                handle(self, update_id, unpack(body, kind()))
                return
        raise InvalidArgumentError(f"Message type {body.TypeName()} not supported")

    def reject_unprocessed(self) -> None:
        """Rejects what the worker was told of and said nothing about: it does not know updates."""
        for update_id, update in self.registry.waiting.items():
            if update.sent and update_id not in self.changes:
                self.changes.rejected[update_id] = UNPROCESSED
        for update_id in unheard(self.tx.state):
            if update_id not in self.changes.accepted:
                self.changes.rejected.setdefault(update_id, UNPROCESSED)
                self._forget(update_id, UNPROCESSED)

    def _forget(self, update_id: str, reason: Failure) -> None:
        """Only an update that a reset brought has something to forget."""
        self.tx.updates.delete(update_id)
        if self.tx.may_have(CALLBACK):
            callback.update_ended(self.tx, update_id, reason)

    @property
    def has_unsent(self) -> bool:
        """Whether a worker must be told of an update that came meanwhile."""
        return any(
            not update.sent and update_id not in self.changes
            for update_id, update in self.registry.waiting.items()
        )

    def _check_known(self, update_id: str, body: AnyMessage) -> None:
        """Checks that the update exists, or that the message says all of it: the server may have lost it meanwhile."""
        if update_id in self.registry.waiting or update_id in self.tx.updates or update_id in self.changes:
            return
        if body.Is(Rejection.DESCRIPTOR):
            return  # Nobody waits for it any more, and it leaves nothing.
        if _carries_request(body):
            check_total(len(self.registry.waiting) + self.tx.update_count, self.limits)
            return
        raise NotFoundError(
            f"update {update_id} wasn't found on the server. This is most likely a transient error which will be "
            "resolved automatically by retries"
        )

    def accept(self, update_id: str, acceptance: Acceptance) -> None:
        """The workflow begins to work on it."""
        self._check_waits(update_id, "Acceptance")
        for name in ("accepted_request_sequencing_event_id", "accepted_request_message_id"):
            _check_set(getattr(acceptance, name), "Acceptance", name)
        event = self.tx.new_event(_ACCEPTED)
        attributes = event.workflow_execution_update_accepted_event_attributes
        attributes.protocol_instance_id = update_id
        attributes.accepted_request_message_id = request_message_id(update_id)
        attributes.accepted_request_sequencing_event_id = acceptance.accepted_request_sequencing_event_id
        brought = update_id in self.tx.updates  # its event has the request
        if not brought:
            waiting = self.registry.waiting.get(update_id)
            attributes.accepted_request.CopyFrom(waiting.request if waiting else acceptance.accepted_request)
            for brought_callback in attributes.accepted_request.completion_callbacks:
                event.links.extend(brought_callback.links)
        self.tx.append(event)
        if brought:
            self.tx.updates.edit(update_id).accepted_event_id = event.event_id
        else:
            request_id = attributes.accepted_request.request_id
            self.tx.updates.put(update_id, Update(event.event_id, request_id=request_id))
            if self.limits.update_callbacks and attributes.accepted_request.completion_callbacks:
                given = attributes.accepted_request.completion_callbacks
                callback.register(self.tx, request_id, given, update_id=update_id)
        self.changes.accepted.add(update_id)
        self._attach_waiting(update_id)

    def _attach_waiting(self, update_id: str) -> None:
        waiting = self.registry.waiting.get(update_id)
        for request_id, callbacks in waiting.attached.items() if waiting is not None else ():
            if not _is_known(self.tx, request_id):
                _attach(self.tx, update_id, request_id, callbacks, self.limits)

    def reject(self, update_id: str, rejection: Rejection) -> None:
        """The workflow will not have it."""
        self._check_waits(update_id, "Rejection")
        self._forget(update_id, rejection.failure)
        self.changes.rejected[update_id] = rejection.failure

    def complete(self, update_id: str, response: Response) -> None:
        """Its handler came to an end."""
        update = self.tx.updates.get(update_id)
        if update is None or not update.accepted_event_id or update.completed_event_id:
            raise _impossible(update_id, "Response", self._state_name(update_id))
        _check_set(response.HasField("meta"), "Response", "meta")
        _check_set(response.meta.update_id, "Response", "meta.update_id")
        if response.meta.update_id != update_id:
            raise InvalidArgumentError(f"invalid *update.Response: meta.update_id != {update_id}")
        _check_set(response.HasField("outcome"), "Response", "outcome")
        event = self.tx.new_event(_COMPLETED)
        attributes = event.workflow_execution_update_completed_event_attributes
        attributes.meta.CopyFrom(response.meta)
        attributes.accepted_event_id = update.accepted_event_id
        attributes.outcome.CopyFrom(response.outcome)
        self.tx.append(event)
        self.tx.updates.edit(update_id).completed_event_id = event.event_id
        if self.tx.may_have(CALLBACK):
            callback.update_ended(self.tx, update_id)

    def _check_waits(self, update_id: str, what: str) -> None:
        update = self.tx.updates.get(update_id)
        if update_id in self.changes or (update is not None and update.accepted_event_id):
            raise _impossible(update_id, what, self._state_name(update_id))

    def _state_name(self, update_id: str) -> str:
        if update_id in self.changes.rejected:
            return "ProvisionallyCompleted"
        update = self.tx.updates.get(update_id)
        if update is not None and not update.accepted_event_id:
            return "Sent"
        if update is None:
            waiting = self.registry.waiting.get(update_id)
            return "Sent" if waiting is not None and waiting.sent else "Admitted"
        is_new = self.tx.updates.committed(update_id) != update
        return ("Provisionally" if is_new else "") + (
            "Completed" if update.completed_event_id else "Accepted"
        )


_KINDS: tuple[tuple[type[Acceptance | Rejection | Response], Callable[..., None]], ...] = (
    (Acceptance, UpdateAnswers.accept),
    (Rejection, UpdateAnswers.reject),
    (Response, UpdateAnswers.complete),
)


def check_protocol(message: ProtocolMessage) -> None:
    """Checks that a message is about updates.

    Raises:
        InvalidArgumentError: it is of another protocol.
    """
    protocol = message.body.TypeName().rpartition(".")[0]
    if protocol != _PROTOCOL:
        raise InvalidArgumentError(f"unsupported protocol type {protocol}")


def unpack(body: AnyMessage, message: Message) -> Message:
    """The message in an envelope.

    Raises:
        InvalidArgumentError: its bytes are damaged.
    """
    try:
        message.ParseFromString(body.value)
    except DecodeError as error:
        raise InvalidArgumentError(f"unable to unmarshal request: {error}") from error
    return message


def _carries_request(body: AnyMessage) -> bool:
    return body.Is(Acceptance.DESCRIPTOR) and unpack(body, Acceptance()).HasField("accepted_request")


def _check_set(value: object, kind: str, name: str) -> None:
    if not value:
        raise InvalidArgumentError(f"invalid *update.{kind}: {name} is not set")


def _impossible(update_id: str, kind: str, state: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"invalid state transition attempted for Update {update_id}: received *update.{kind} message while in state "
        f"{state}"
    )
