"""Serialization contexts: what is known about a payload while it is converted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


class SerializationContext:
    """Says to whom a payload belongs.

    It names the workflow or activity whose input or output is converted. Inside a workflow that is the child
    for a child's payloads, and the activity for an activity's.
    """


@dataclass(frozen=True)
class WorkflowSerializationContext(SerializationContext):
    """The payload belongs to a workflow."""

    namespace: str
    """Namespace of the workflow."""

    workflow_id: str
    """Id of the workflow; for a schedule, the prefix of the ids of the workflows it starts."""


@dataclass(frozen=True)
class ActivitySerializationContext(SerializationContext):
    """The payload belongs to an activity."""

    namespace: str
    """Namespace of the activity."""

    activity_id: str | None
    """Id of the activity, if known."""

    activity_type: str | None
    """Name of the activity type; deprecated, because not every side knows it."""

    activity_task_queue: str | None
    """Task queue of the activity; deprecated, because not every side knows it."""

    workflow_id: str | None
    """Id of the workflow that started the activity, if one did."""

    workflow_type: str | None
    """Type of the workflow that started the activity, if one did."""

    is_local: bool
    """Whether it is a local activity."""


@dataclass(frozen=True)
class NexusSerializationContext(SerializationContext):
    """The payload belongs to a Nexus operation.

    Not every side of an operation has this context, so what is encoded with it must be readable without.
    """

    endpoint: str
    """Name of the endpoint."""

    service: str
    """Name of the service."""

    operation: str
    """Name of the operation."""


class WithSerializationContext:
    """Something that converts differently depending on the context.

    Payload converters, encoding converters, codecs and failure converters may implement it.
    """

    def with_context(self, context: SerializationContext) -> Self:
        """Return a copy that uses the context, or this object if the context makes no difference.

        Args:
            context: Says to whom the payloads belong.
        """
        raise NotImplementedError("a class with a serialization context must implement with_context")
