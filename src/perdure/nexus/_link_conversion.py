"""Links between histories, in the form of the API and in that of the Nexus protocol (a URL and a type), both ways.

May live here: those two forms. May not: who has links, or what they are put into.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import nexusrpc

from perdure.api.common.v1 import Link
from perdure.api.enums.v1 import EventType

logger = logging.getLogger("perdure.nexus")

_WORKFLOW_EVENT: Final = Link.WorkflowEvent.DESCRIPTOR.full_name
_WORKFLOW: Final = Link.Workflow.DESCRIPTOR.full_name
_NEXUS_OPERATION: Final = Link.NexusOperation.DESCRIPTOR.full_name
_ACTIVITY: Final = Link.Activity.DESCRIPTOR.full_name
_WORKFLOW_PATH: Final = re.compile(
    r"/namespaces/(?P<namespace>[^/]+)/workflows/(?P<workflow_id>[^/]+)/(?P<run_id>[^/]+)(?P<history>/history)?"
)
_OPERATION_PATH: Final = re.compile(
    r"/namespaces/(?P<namespace>[^/]+)/nexus-operations/(?P<operation_id>[^/]+)/(?P<run_id>[^/]*)/details"
)
_ACTIVITY_PATH: Final = re.compile(
    r"/namespaces/(?P<namespace>[^/]+)/activities/(?P<activity_id>[^/]+)/(?P<run_id>[^/]+)/details"
)
_EVENT_TYPE_PREFIX: Final = "EVENT_TYPE_"


def nexus_link_to_temporal_link(nexus_link: nexusrpc.Link) -> Link | None:
    """Return a link as the API has it; None, and a line in the log, if it is damaged or of an unknown type."""
    reader = _READERS.get(nexus_link.type)
    if reader is None:
        logger.warning("Invalid Nexus link: unknown link type %s", nexus_link)
        return None
    return reader(nexus_link)


def temporal_link_to_nexus_link(temporal_link: Link) -> nexusrpc.Link | None:
    """Return a link as the Nexus protocol has it; None if it is empty.

    Raises:
        NotImplementedError: The protocol has no form for links to what this one leads to.
    """
    variant = temporal_link.WhichOneof("variant")
    if variant is None:
        logger.warning("Invalid Temporal link: missing variant")
        return None
    writer = _WRITERS.get(variant)
    if writer is None:
        raise NotImplementedError(f"The Nexus protocol has no form for a link of kind {variant!r}")
    return writer(getattr(temporal_link, variant))


def workflow_event_to_nexus_link(workflow_event: Link.WorkflowEvent) -> nexusrpc.Link:
    """Return a link to an event of a workflow as the Nexus protocol has it."""
    query: dict[str, Any] = {}
    if workflow_event.HasField("event_ref"):
        reference = workflow_event.event_ref
        query = {
            "eventID": reference.event_id,
            "eventType": _event_name(reference.event_type),
            "referenceType": "EventReference",
        }
    elif workflow_event.HasField("request_id_ref"):
        request = workflow_event.request_id_ref
        query = {"referenceType": "RequestIdReference"}
        if request.request_id:
            query["requestID"] = request.request_id
        query["eventType"] = _event_name(request.event_type)
    return nexusrpc.Link(url=_workflow_url(workflow_event, "/history", query), type=_WORKFLOW_EVENT)


def workflow_to_nexus_link(workflow: Link.Workflow) -> nexusrpc.Link:
    """Return a link to a workflow as the Nexus protocol has it."""
    query = {"reason": workflow.reason} if workflow.reason else {}
    return nexusrpc.Link(url=_workflow_url(workflow, "", query), type=_WORKFLOW)


def nexus_operation_to_nexus_link(op_link: Link.NexusOperation) -> nexusrpc.Link:
    """Return a link to a standalone operation as the Nexus protocol has it."""
    url = _details_url("nexus-operations", op_link.namespace, op_link.operation_id, op_link.run_id)
    return nexusrpc.Link(url=url, type=_NEXUS_OPERATION)


def activity_link_to_nexus_link(activity: Link.Activity) -> nexusrpc.Link:
    """Return a link to a standalone activity as the Nexus protocol has it."""
    url = _details_url("activities", activity.namespace, activity.activity_id, activity.run_id)
    return nexusrpc.Link(url=url, type=_ACTIVITY)


def nexus_link_to_workflow_event_link(link: nexusrpc.Link) -> Link | None:
    """Return a link to an event of a workflow as the API has it, or None if it is damaged."""
    try:
        names, query = _workflow_parts(link, is_history=True)
        result = Link()
        event = result.workflow_event
        event.namespace, event.workflow_id, event.run_id = names
        kind = _single(query, "referenceType")
        if kind == "EventReference":
            event.event_ref.event_type = _event_type(query)  # type: ignore[assignment]  # an enum number
            event.event_ref.event_id = int(_single(query, "eventID") or 0)
        elif kind == "RequestIdReference":
            event.request_id_ref.event_type = _event_type(query)  # type: ignore[assignment]  # an enum number
            event.request_id_ref.request_id = _single(query, "requestID")
        else:
            raise ValueError("referenceType must be 'EventReference' or 'RequestIdReference'")
    except ValueError as error:
        _log_damaged(link, error)
        return None
    return result


def nexus_link_to_workflow_link(link: nexusrpc.Link) -> Link | None:
    """Return a link to a workflow as the API has it, or None if it is damaged."""
    try:
        names, query = _workflow_parts(link, is_history=False)
        namespace, workflow_id, run_id = names
        workflow = Link.Workflow(namespace=namespace, workflow_id=workflow_id, run_id=run_id)
        workflow.reason = _single(query, "reason")
        return Link(workflow=workflow)
    except ValueError as error:
        _log_damaged(link, error)
        return None


def nexus_link_to_nexus_operation_link(nexus_link: nexusrpc.Link) -> Link | None:
    """Return a link to a standalone operation as the API has it, or None if it is damaged."""
    try:
        return Link(nexus_operation=Link.NexusOperation(**_names(nexus_link, _OPERATION_PATH)))
    except ValueError as error:
        _log_damaged(nexus_link, error)
        return None


def nexus_link_to_activity_link(nexus_link: nexusrpc.Link) -> Link | None:
    """Return a link to a standalone activity as the API has it, or None if it is damaged."""
    try:
        return Link(activity=Link.Activity(**_names(nexus_link, _ACTIVITY_PATH)))
    except ValueError as error:
        _log_damaged(nexus_link, error)
        return None


def workflow_started_link(namespace: str, workflow_id: str, run_id: str, request_id: str) -> Link:
    """Return the link to the start of a workflow that a request has started."""
    link = Link()
    event = link.workflow_event
    event.namespace, event.workflow_id, event.run_id = namespace, workflow_id, run_id
    event.request_id_ref.request_id = request_id
    event.request_id_ref.event_type = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
    return link


_READERS: Final[Mapping[str, Callable[[nexusrpc.Link], Link | None]]] = {
    _WORKFLOW_EVENT: nexus_link_to_workflow_event_link,
    _WORKFLOW: nexus_link_to_workflow_link,
    _NEXUS_OPERATION: nexus_link_to_nexus_operation_link,
    _ACTIVITY: nexus_link_to_activity_link,
}
_WRITERS: Final[Mapping[str, Callable[[Any], nexusrpc.Link]]] = {
    "workflow_event": workflow_event_to_nexus_link,
    "workflow": workflow_to_nexus_link,
    "nexus_operation": nexus_operation_to_nexus_link,
    "activity": activity_link_to_nexus_link,
}


def _names(link: nexusrpc.Link, path: re.Pattern[str]) -> dict[str, str]:
    """Return the names in the path of a link.

    Raises:
        ValueError: It has another one, or the link is no URL.
    """
    match = path.fullmatch(urlsplit(link.url).path)
    if match is None:
        raise ValueError(f"its path must match {path.pattern}")
    return {name: unquote(value) for name, value in match.groupdict().items()}


def _log_damaged(link: nexusrpc.Link, error: ValueError) -> None:
    logger.warning("Invalid Nexus link: %s: %s", link, error)


def _workflow_url(target: Link.WorkflowEvent | Link.Workflow, suffix: str, query: Mapping[str, Any]) -> str:
    names = (quote(part, safe="") for part in (target.namespace, target.workflow_id, target.run_id))
    namespace, workflow_id, run_id = names
    url = f"temporal:///namespaces/{namespace}/workflows/{workflow_id}/{run_id}{suffix}"
    return f"{url}?{urlencode(query)}" if query else url


def _details_url(collection: str, *names: str) -> str:
    namespace, name, run_id = (quote(part, safe="") for part in names)
    return f"temporal:///namespaces/{namespace}/{collection}/{name}/{run_id}/details"


def _workflow_parts(
    link: nexusrpc.Link, *, is_history: bool
) -> tuple[tuple[str, str, str], Mapping[str, list[str]]]:
    url = urlsplit(link.url)
    match = _WORKFLOW_PATH.fullmatch(url.path)
    if match is None or (match["history"] is not None) != is_history:
        suffix = "/history" if is_history else ""
        raise ValueError(
            f"its path must match /namespaces/{{namespace}}/workflows/{{workflow_id}}/{{run_id}}{suffix}"
        )
    names = (unquote(match["namespace"]), unquote(match["workflow_id"]), unquote(match["run_id"]))
    return names, parse_qs(url.query)


def _single(query: Mapping[str, list[str]], name: str) -> str:
    values = query.get(name, [""])
    if len(values) != 1:
        raise ValueError(f"Expected {name} to have at most 1 value")
    return values[0]


def _event_name(event_type: int) -> str:
    """Return the name in the form of the protocol: `NexusOperationScheduled`."""
    words = EventType.Name(event_type).removeprefix(_EVENT_TYPE_PREFIX).lower().split("_")  # type: ignore[arg-type]
    return "".join(word.capitalize() for word in words)


def _event_type(query: Mapping[str, list[str]]) -> int:
    name = _single(query, "eventType")
    if not name.startswith(_EVENT_TYPE_PREFIX):
        if not re.match("[A-Z][a-z]", name):
            raise ValueError(f"Invalid event type name: {name!r}")
        name = _EVENT_TYPE_PREFIX + re.sub("(?<!^)([A-Z])", r"_\1", name).upper()
    return int(EventType.Value(name))
