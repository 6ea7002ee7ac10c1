"""What a request leaves on a run that was open already: a start that found it attaches its request id and links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perdure.api.common.v1 import Callback, Link
from perdure.api.enums.v1 import EventType
from perdure.core.run import callback
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
