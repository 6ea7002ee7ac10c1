"""What the scenarios must show of the official server: event types, commands, RPCs; and what it cannot show, with why.

`test_differential` compares these tables with what was recorded on the official server, in both directions;
docs/compatibility.md shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.message import Message

from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE, rpcs
from perdure.server.service.refused_rpcs import REFUSED
from perdure.server.service.service import snake_case
from tests.support.proto import enums, workflowservice
from tests.support.rpc import RawClient

EVENT_PREFIX = "EVENT_TYPE_"
COMMAND_PREFIX = "COMMAND_TYPE_"

NO_EVENTS: dict[str, str] = {
    "ACTIVITY_PROPERTIES_MODIFIED_EXTERNALLY": "the official server has nothing that writes it",
    "WORKFLOW_EXECUTION_TIME_SKIPPING_TRANSITIONED": "time skipping is turned off by default in the official server",
    "WORKFLOW_EXECUTION_UPDATE_REJECTED": "a rejected update leaves no event: the official server never writes it",
    "WORKFLOW_PROPERTIES_MODIFIED_EXTERNALLY": "the official server has nothing that writes it",
}
"""Event types that the official server, as it is configured by default, never writes; and why."""

NO_COMMANDS: dict[str, str] = {}
"""Command types that the official server never takes; and why."""

NO_SUCCESS: dict[str, str] = {
    "AddOrUpdateRemoteCluster": "there is no other cluster to connect to",
    "ListArchivedWorkflowExecutions": "neither server archives, and says so",
    "RemoveRemoteCluster": "there is no other cluster to remove",
    "StopBatchOperation": "a job as small as a scenario's is done before; see `tests/unit/server/test_batches.py`",
    "ValidateWorkerDeploymentVersionComputeConfig": "neither server has a compute provider, and nothing else is valid",
}
"""RPCs that Perdure serves and no scenario is answered by without an error; and why."""


def event_types() -> list[str]:
    """Every event type that the contract has, by number, without the prefix."""
    return [
        enums.EventType.Name(number).removeprefix(EVENT_PREFIX)
        for number in enums.EventType.values()
        if number
    ]


def command_types() -> list[str]:
    """Every command type that the contract has, by number, without the prefix."""
    numbers = enums.CommandType.values()
    return [enums.CommandType.Name(number).removeprefix(COMMAND_PREFIX) for number in numbers if number]


def served_rpcs(service: str) -> list[str]:
    """The RPCs of a service that are not refused whatever they say, in the order of the contract."""
    return [rpc.name for rpc in rpcs(service) if snake_case(rpc.name) not in REFUSED]


def all_served_rpcs() -> set[str]:
    """Those of both services."""
    return {name for service in (WORKFLOW_SERVICE, OPERATOR_SERVICE) for name in served_rpcs(service)}


def events_in(data: Any) -> Iterator[str]:
    """The types of the events in recorded data, without the prefix."""
    if isinstance(data, dict):
        event_type = data.get("event_type")
        if isinstance(event_type, str) and event_type.startswith(EVENT_PREFIX):
            yield event_type.removeprefix(EVENT_PREFIX)
        data = list(data.values())
    if isinstance(data, list):
        for item in data:
            yield from events_in(item)


def complaints(kind: str, every: Iterable[str], exceptions: Mapping[str, str], seen: set[str]) -> list[str]:
    """What was not seen and is no exception, and which exceptions are none."""
    wanted = set(every)
    return [
        *(f"no scenario shows {kind} {name}" for name in sorted(wanted - seen - exceptions.keys())),
        *(f"{kind} {name} is listed as never seen, and was" for name in sorted(seen & exceptions.keys())),
        *(f"{kind} {name} does not exist" for name in sorted(exceptions.keys() - wanted)),
    ]


class NotingClient(RawClient):
    """A raw client that remembers what the server took: RPCs that were answered, and commands among them."""

    def __init__(self, address: str, *, identity: str) -> None:
        super().__init__(address, identity=identity)
        self.answered: set[str] = set()
        self.commands: set[str] = set()

    async def invoke(self, request: Message, **options: Any) -> Message:
        """As the raw client does."""
        response = await super().invoke(request, **options)
        self.answered.add(request.DESCRIPTOR.name.removesuffix("Request"))
        if isinstance(request, workflowservice.RespondWorkflowTaskCompletedRequest):
            names = (enums.CommandType.Name(command.command_type) for command in request.commands)
            self.commands.update(name.removeprefix(COMMAND_PREFIX) for name in names)
        return response
