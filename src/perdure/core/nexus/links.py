"""Links between a caller and its handler: as messages of Temporal, and as the URLs with a type that Nexus carries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from perdure.api.common.v1 import Link
from perdure.api.enums.v1 import EventType
from perdure.api.nexus.v1 import Link as NexusLink

WORKFLOW_EVENT = Link.WorkflowEvent.DESCRIPTOR.full_name
ACTIVITY = Link.Activity.DESCRIPTOR.full_name
NEXUS_OPERATION = Link.NexusOperation.DESCRIPTOR.full_name
_SAFE = "$&+=:@"
"""What a segment of a path holds as it is, beside letters, digits and -_.~"""
_WORKFLOW_PATH = re.compile(r"/namespaces/([^/]+)/workflows/([^/]+)/([^/]+)/history")
_ACTIVITY_PATH = re.compile(r"/namespaces/([^/]+)/activities/([^/]+)/([^/]+)/details")
_OPERATION_PATH = re.compile(r"/namespaces/([^/]+)/nexus-operations/([^/]+)/([^/]+)/details")
_PREFIX = "EVENT_TYPE_"


def _short_name(number: int) -> str:
    words = EventType.Name(number).removeprefix(_PREFIX).split("_")  # type: ignore[arg-type]  # an enum number
    return "".join(word.capitalize() for word in words)


_EVENT_TYPES = {_short_name(number): number for number in EventType.values()}


def to_nexus(link: Link) -> NexusLink | None:
    """The link as Nexus carries it; None for one that Nexus has no form for."""
    kind = link.WhichOneof("variant")
    if kind == "workflow_event":
        event = link.workflow_event
        path = _path("workflows", "history", event.namespace, event.workflow_id, event.run_id)
        query: dict[str, str] = {}
        if event.HasField("event_ref"):
            query["referenceType"] = "EventReference"
            if event.event_ref.event_id > 0:
                query["eventID"] = str(event.event_ref.event_id)
            query["eventType"] = _short_name(event.event_ref.event_type)
        elif event.HasField("request_id_ref"):
            query["referenceType"] = "RequestIdReference"
            query["requestID"] = event.request_id_ref.request_id
            query["eventType"] = _short_name(event.request_id_ref.event_type)
        encoded = f"?{urlencode(sorted(query.items()))}" if query else ""
        return NexusLink(url=f"temporal://{path}{encoded}", type=WORKFLOW_EVENT)
    if kind == "activity":
        activity = link.activity
        path = _path("activities", "details", activity.namespace, activity.activity_id, activity.run_id)
        return NexusLink(url=f"temporal://{path}", type=ACTIVITY)
    if kind == "nexus_operation":
        named = link.nexus_operation
        path = _path("nexus-operations", "details", named.namespace, named.operation_id, named.run_id)
        return NexusLink(url=f"temporal://{path}", type=NEXUS_OPERATION)
    return None


def _path(collection: str, last: str, namespace: str, name: str, run_id: str) -> str:
    parts = [quote(part, safe=_SAFE) for part in (namespace, name, run_id)]
    return f"/namespaces/{parts[0]}/{collection}/{parts[1]}/{parts[2]}/{last}"


def from_nexus(links: Iterable[NexusLink]) -> list[Link]:
    """The links that mean something here. Others are left out: links are for people and end no operation."""
    found = (_from_nexus(link) for link in links)
    return [link for link in found if link is not None]


def _from_nexus(link: NexusLink) -> Link | None:
    try:
        url = urlsplit(link.url)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
    except ValueError:
        return None
    if url.scheme != "temporal":
        return None
    made = Link()
    if link.type == WORKFLOW_EVENT:
        named = _match(_WORKFLOW_PATH, url.path)
        event = made.workflow_event
        if named is None or not _refer(event, query):
            return None
        event.namespace, event.workflow_id, event.run_id = named
        return made
    if link.type == ACTIVITY:
        named = _match(_ACTIVITY_PATH, url.path)
        if named is None:
            return None
        made.activity.namespace, made.activity.activity_id, made.activity.run_id = named
        return made
    if link.type == NEXUS_OPERATION:
        named = _match(_OPERATION_PATH, url.path)
        if named is None:
            return None
        operation = made.nexus_operation
        operation.namespace, operation.operation_id, operation.run_id = named
        return made
    return None


def _match(pattern: re.Pattern[str], path: str) -> tuple[str, str, str] | None:
    found = pattern.fullmatch(path)
    return None if found is None else (unquote(found[1]), unquote(found[2]), unquote(found[3]))


def _refer(event: Link.WorkflowEvent, query: dict[str, str]) -> bool:
    """Fills in what of the workflow is meant; False when the query does not say."""
    text = query.get("eventType", "")
    number = _EVENT_TYPES.get(text)
    if number is None and text.startswith(_PREFIX) and text in EventType.keys():  # noqa: SIM118  # an enum, no mapping
        number = EventType.Value(text)
    if number is None:
        return False
    kind = query.get("referenceType")
    if kind == "EventReference":
        event_id = query.get("eventID", "")
        if event_id and not re.fullmatch(r"[0-9]{1,18}", event_id):
            return False
        event.event_ref.event_id = int(event_id or 0)
        event.event_ref.event_type = number
        return True
    if kind == "RequestIdReference":
        event.request_id_ref.request_id = query.get("requestID", "")
        event.request_id_ref.event_type = number
        return True
    return False
