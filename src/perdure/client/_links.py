"""What calls carry that serve an operation elsewhere: links between both histories, and where to answer.

May live here: the seam between the client and what serves such operations. May not: what the operations are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from perdure.api.common.v1 import Link
    from perdure.api.workflowservice.v1 import (
        SignalWithStartWorkflowExecutionResponse,
        StartActivityExecutionResponse,
        StartWorkflowExecutionResponse,
    )
    from perdure.client._callback import Callback


class ServedOperation(Protocol):
    """The operation that the running code serves."""

    @property
    def request_id(self) -> str:
        """Of the request that started the operation: the same if it is made again."""
        ...

    def request_links(self) -> Sequence[Link]:
        """Return links to the caller, for requests made on its behalf."""
        ...

    def take_link(self, link: Link) -> None:
        """Take the link to what a request has caused, for the caller."""
        ...

    def take_start(
        self,
        namespace: str,
        workflow_id: str,
        response: StartWorkflowExecutionResponse | SignalWithStartWorkflowExecutionResponse,
    ) -> None:
        """Take the answer to the start of a workflow, which names the workflow or has a link to it."""
        ...

    def take_activity(
        self, namespace: str, activity_id: str, response: StartActivityExecutionResponse
    ) -> None:
        """Take the answer to the start of an activity, which names its run or has a link to it."""
        ...


served_operation: ContextVar[ServedOperation | None] = ContextVar("perdure_served_operation", default=None)
"""Set while a handler of an operation runs."""


@dataclass(frozen=True)
class Backing:
    """What the start of a workflow, or an update, carries that answers an operation when it is over."""

    request_id: str
    """Of the operation's start: repeating it starts nothing again."""

    callbacks: Sequence[Callback]
    """Where the result is sent."""

    links: Sequence[Link]
    """To the caller."""
