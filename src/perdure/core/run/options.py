"""Options of a run that change while it is open, and what requests leave on it: both are one event that workers ignore.

A start that found the run attaches its request id, links and callbacks. An operator changes its priority, or which
worker version it goes to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perdure.api.common.v1 import Callback, Link
from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import WorkflowExecutionOptionsUpdatedEventAttributes
from perdure.api.workflow.v1 import WorkflowExecutionOptions
from perdure.core.errors import InvalidArgumentError
from perdure.core.run import callback, versioning
from perdure.core.run.state import RunHeader
from perdure.core.run.transition import Transition

_UPDATED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED")


def attach(
    tx: Transition, *, request_id: str, links: Iterable[Link], callbacks: Sequence[Callback] = ()
) -> None:
    """Records the attachment; workflows need not hear of it.

    Args:
        tx: the transition.
        request_id: the request is known by from now on; empty for none.
        links: where the request came from.
        callbacks: who is to be told how the run ends, too.
    """
    event = tx.new_event(_UPDATED)
    event.worker_may_ignore = True
    event.workflow_execution_options_updated_event_attributes.attached_request_id = request_id
    event.workflow_execution_options_updated_event_attributes.attached_completion_callbacks.extend(callbacks)
    event.links.extend(links)
    if request_id:
        tx.attached_requests.put(request_id, 0)
    tx.append(event)
    if callbacks:
        callback.register(tx, request_id, callbacks)


def attach_to_update(tx: Transition, update_id: str, request_id: str, callbacks: Iterable[Callback]) -> None:
    """Records callbacks that another request brings to an update that the workflow works on.

    Args:
        tx: the transition.
        update_id: whose.
        request_id: the request is known by from now on.
        callbacks: what it brings.
    """
    event = tx.new_event(_UPDATED)
    event.worker_may_ignore = True
    attached = event.workflow_execution_options_updated_event_attributes.workflow_update_options.add()
    attached.update_id, attached.attached_request_id = update_id, request_id
    attached.attached_completion_callbacks.extend(callbacks)
    tx.attached_requests.put(request_id, 0)
    tx.append(event)


def of(header: RunHeader) -> WorkflowExecutionOptions:
    """The options that a run has now."""
    options = WorkflowExecutionOptions()
    if header.versioning is not None and header.versioning.override:
        options.versioning_override.ParseFromString(header.versioning.override)
    if header.priority:
        options.priority.ParseFromString(header.priority)
    return options


def update(
    tx: Transition, wanted: WorkflowExecutionOptions, paths: set[str], identity: str
) -> WorkflowExecutionOptions:
    """Changes the options that `paths` name; nothing is recorded when they are what they were.

    Args:
        tx: the transition.
        wanted: new values; an option that is named and not given is taken away.
        paths: which, in the words of the message's fields.
        identity: whose wish it is.

    Returns:
        all options as they are now.

    Raises:
        InvalidArgumentError: parts of the versioning override are named, which changes as a whole.
    """
    before = of(tx.header)
    merged = of(tx.header)
    _merge(merged, wanted, paths)
    told = WorkflowExecutionOptions()
    told.CopyFrom(merged)  # the override in the form in which it was given
    if merged.HasField("versioning_override"):
        merged.versioning_override.CopyFrom(versioning.normalized(merged.versioning_override))
    if merged == before:
        return told
    event = tx.new_event(_UPDATED)
    event.worker_may_ignore = True
    attributes = event.workflow_execution_options_updated_event_attributes
    attributes.identity = identity
    if merged.HasField("versioning_override"):
        attributes.versioning_override.CopyFrom(merged.versioning_override)
    else:
        attributes.unset_versioning_override = True
    if merged.HasField("priority"):
        attributes.priority.CopyFrom(merged.priority)
    tx.append(event)
    take(tx, attributes)
    return told


def take(tx: Transition, attributes: WorkflowExecutionOptionsUpdatedEventAttributes) -> None:
    """What an event of changed options says of the run's options; one that attaches something says nothing."""
    has_override = attributes.HasField("versioning_override")
    if not has_override and not attributes.unset_versioning_override:
        return
    versioning.overridden(tx, attributes.versioning_override if has_override else None)
    tx.header.priority = attributes.priority.SerializeToString() if attributes.HasField("priority") else b""


def _merge(target: WorkflowExecutionOptions, wanted: WorkflowExecutionOptions, paths: set[str]) -> None:
    old_form = {"versioning_override.behavior", "versioning_override.deployment"}
    named = {path for path in paths if path.startswith("versioning_override.")}
    if named & old_form and not old_form <= named:
        raise InvalidArgumentError(
            "error applying update_options: versioning_override fields must be updated together"
        )
    if named - old_form:
        raise InvalidArgumentError(
            "error applying update_options: versioning_override doesn't support partial updates"
        )
    if named or "versioning_override" in paths:
        target.ClearField("versioning_override")
        if wanted.HasField("versioning_override"):
            target.versioning_override.CopyFrom(wanted.versioning_override)
    if "priority" in paths:
        target.ClearField("priority")
        if wanted.HasField("priority"):
            target.priority.CopyFrom(wanted.priority)
    for name in ("priority_key", "fairness_key", "fairness_weight"):
        if f"priority.{name}" in paths:
            setattr(target.priority, name, getattr(wanted.priority, name))
            target.priority.SetInParent()
