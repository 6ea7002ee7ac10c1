"""Updates: a request comes as a message (or out of history), the answers go as messages with a command each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from perdure.api.command.v1 import Command, ProtocolMessageCommandAttributes
from perdure.api.enums.v1 import CommandType
from perdure.api.history.v1 import HistoryEvent, WorkflowExecutionUpdateAcceptedEventAttributes
from perdure.api.protobuf import Any
from perdure.api.protocol.v1 import Message
from perdure.api.update.v1 import Acceptance, Outcome, Rejection, Response
from perdure.api.update.v1 import Request as WireRequest
from perdure.core.replay.activation import DoUpdate
from perdure.core.replay.errors import HistoryError
from perdure.core.replay.events import WORKFLOW_EXECUTION_UPDATE_ACCEPTED, WORKFLOW_EXECUTION_UPDATE_COMPLETED
from perdure.core.replay.instructions import UpdateAccepted, UpdateCompleted, UpdateRejected
from perdure.core.replay.machines.base import Machine

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger

_TYPE_URL: Final = "type.googleapis.com/temporal.api.update.v1."


@dataclass(slots=True)
class Request:
    """A request to update, wherever it came from.

    Attributes:
        sequencing_event_id: it is delivered behind this event.
    """

    message_id: str
    protocol_instance_id: str
    sequencing_event_id: int
    request: WireRequest

    @staticmethod
    def of_message(message: Message) -> Request:
        """From a message that came with a task."""
        if not message.body.Is(WireRequest.DESCRIPTOR):
            raise HistoryError(
                f"The server sent a message this worker does not know: {message.body.type_url}."
            )
        request = WireRequest()
        message.body.Unpack(request)
        return Request(message.id, message.protocol_instance_id, message.event_id, request)

    @staticmethod
    def of_accepted(attributes: WorkflowExecutionUpdateAcceptedEventAttributes) -> Request:
        """As it must have been, from the event that says it was accepted."""
        return Request(
            attributes.accepted_request_message_id,
            attributes.protocol_instance_id,
            attributes.accepted_request_sequencing_event_id,
            attributes.accepted_request,
        )

    @staticmethod
    def of_admitted(event: HistoryEvent) -> Request:
        """From the event that says the server keeps it (a reset run)."""
        request = event.workflow_execution_update_admitted_event_attributes.request
        update_id = request.meta.update_id
        return Request(f"{update_id}/request", update_id, event.event_id, request)


class UpdateMachine(Machine):
    """One update, from its delivery to its completion."""

    __slots__ = ("request",)

    is_message = True

    def __init__(self, request: Request) -> None:
        super().__init__(None)
        self.request = request

    def accept(self, ledger: Ledger) -> None:
        """The validator let it pass."""
        request = self.request
        body = Acceptance(
            accepted_request_message_id=request.message_id,
            accepted_request_sequencing_event_id=request.sequencing_event_id,
            accepted_request=request.request,
        )
        self._send(ledger, "accept", body)
        ledger.commands.append((self, WORKFLOW_EXECUTION_UPDATE_ACCEPTED))

    def reject(self, ledger: Ledger, instruction: UpdateRejected) -> None:
        """The validator raised: no event is written, so there is no command either."""
        request = self.request
        body = Rejection(
            rejected_request_message_id=request.message_id,
            rejected_request_sequencing_event_id=request.sequencing_event_id,
            rejected_request=request.request,
            failure=instruction.failure,
        )
        self._send(ledger, "reject", body)

    def complete(self, ledger: Ledger, instruction: UpdateCompleted) -> None:
        """The handler ended."""
        if instruction.failure is not None:
            outcome = Outcome(failure=instruction.failure)
        else:
            outcome = Outcome(success=instruction.result)
            outcome.success.SetInParent()
        self._send(ledger, "complete", Response(meta=self.request.request.meta, outcome=outcome))
        ledger.commands.append((self, WORKFLOW_EXECUTION_UPDATE_COMPLETED))

    def _send(self, ledger: Ledger, what: str, body: Acceptance | Rejection | Response) -> None:
        if ledger.replaying:
            return
        message = Message(
            id=f"{self.request.message_id}/{what}",
            protocol_instance_id=self.request.protocol_instance_id,
            body=Any(type_url=_TYPE_URL + type(body).DESCRIPTOR.name, value=body.SerializeToString()),
        )
        ledger.outbox.append(message)

    def recorded(self, ledger: Ledger, event: HistoryEvent, kind: int) -> None:
        if kind == WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            accepted = event.workflow_execution_update_accepted_event_attributes
            if accepted.protocol_instance_id != self.request.protocol_instance_id:
                raise ledger.differs(event, self, kind)
        else:
            completed = event.workflow_execution_update_completed_event_attributes
            if completed.meta.update_id != self.request.request.meta.update_id:
                raise ledger.differs(event, self, kind)

    def command(self, ledger: Ledger, kind: int) -> Command:
        what = "accept" if kind == WORKFLOW_EXECUTION_UPDATE_ACCEPTED else "complete"
        return Command(
            command_type=CommandType.COMMAND_TYPE_PROTOCOL_MESSAGE,
            protocol_message_command_attributes=ProtocolMessageCommandAttributes(
                message_id=f"{self.request.message_id}/{what}"
            ),
        )

    def asked(self, kind: int) -> str:
        what = "accepted" if kind == WORKFLOW_EXECUTION_UPDATE_ACCEPTED else "completed"
        request = self.request.request
        return f"update {request.input.name!r} {what} (update_id {request.meta.update_id!r})"


def deliver(ledger: Ledger, request: Request) -> None:
    """Hands a request to the code; history has already validated what is replayed."""
    ledger.updates[request.protocol_instance_id] = UpdateMachine(request)
    wire = request.request
    ledger.jobs.append(
        DoUpdate(
            protocol_instance_id=request.protocol_instance_id,
            update_id=wire.meta.update_id,
            name=wire.input.name,
            input=wire.input.args,
            header=wire.input.header,
            identity=wire.meta.identity,
            run_validator=not ledger.replaying,
        )
    )


def update_accepted(ledger: Ledger, instruction: UpdateAccepted) -> None:
    """The code accepts an update."""
    machine = ledger.updates.get(instruction.protocol_instance_id)
    if machine is not None:
        machine.accept(ledger)


def update_rejected(ledger: Ledger, instruction: UpdateRejected) -> None:
    """The code rejects an update."""
    machine = ledger.updates.pop(instruction.protocol_instance_id, None)
    if machine is not None:
        machine.reject(ledger, instruction)


def update_completed(ledger: Ledger, instruction: UpdateCompleted) -> None:
    """The code's handler of an update ended."""
    machine = ledger.updates.pop(instruction.protocol_instance_id, None)
    if machine is not None:
        machine.complete(ledger, instruction)
