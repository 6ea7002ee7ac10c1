"""What a workflow says about itself while it runs: search attribute and memo upserts."""

from __future__ import annotations

from collections.abc import MutableMapping

from perdure.api.common.v1 import Memo, Payload, SearchAttributes
from perdure.api.enums.v1 import EventType
from perdure.core.run.attributes import is_nil
from perdure.core.run.transition import Transition

_UPSERTED = EventType.Value("EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES")
_MODIFIED = EventType.Value("EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED")
MEMO = "memo"
SEARCH_ATTRIBUTES = "search_attributes"


def memo(tx: Transition) -> Memo:
    """The run's memo as this transition sees it."""
    return Memo.FromString(tx.blobs.get(MEMO) or b"")


def search_attributes(tx: Transition) -> SearchAttributes:
    """The run's search attributes as this transition sees them."""
    return SearchAttributes.FromString(tx.blobs.get(SEARCH_ATTRIBUTES) or b"")


def merge(target: MutableMapping[str, Payload], update: MutableMapping[str, Payload]) -> None:
    """Takes over an update's keys; a nil payload removes its key."""
    for key, payload in update.items():
        if is_nil(payload):
            target.pop(key, None)
        else:
            target[key].CopyFrom(payload)


def upsert_search_attributes(tx: Transition, update: SearchAttributes, completed_event_id: int) -> None:
    """Records checked search attributes and merges them."""
    event = tx.new_event(_UPSERTED)
    attributes = event.upsert_workflow_search_attributes_event_attributes
    attributes.search_attributes.CopyFrom(update)
    attributes.workflow_task_completed_event_id = completed_event_id
    tx.append(event)
    merged = search_attributes(tx)
    merge(merged.indexed_fields, update.indexed_fields)
    tx.blobs.put(SEARCH_ATTRIBUTES, merged.SerializeToString(deterministic=True))
    tx.visibility_changed = True


def upsert_memo(tx: Transition, update: Memo, completed_event_id: int) -> None:
    """Records memo changes and merges them."""
    event = tx.new_event(_MODIFIED)
    attributes = event.workflow_properties_modified_event_attributes
    attributes.upserted_memo.CopyFrom(update)
    attributes.workflow_task_completed_event_id = completed_event_id
    tx.append(event)
    merged = memo(tx)
    merge(merged.fields, update.fields)
    tx.blobs.put(MEMO, merged.SerializeToString(deterministic=True))
    tx.visibility_changed = True
