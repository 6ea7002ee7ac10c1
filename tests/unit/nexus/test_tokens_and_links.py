"""Operation tokens and links: what goes out comes back, and what is damaged is said to be."""

from __future__ import annotations

import base64
import json

import nexusrpc
import pytest
import temporalio.nexus._token as official_tokens
from hypothesis import given
from hypothesis import strategies as st

from perdure.api.common.v1 import Link
from perdure.api.enums.v1 import EventType
from perdure.nexus import WorkflowHandle
from perdure.nexus._link_conversion import (
    nexus_link_to_temporal_link,
    temporal_link_to_nexus_link,
    workflow_started_link,
)
from perdure.nexus._token import OperationToken, OperationTokenType

NAMES = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)


@given(
    kind=st.sampled_from(OperationTokenType),
    namespace=NAMES,
    workflow_id=NAMES,
    activity_id=NAMES,
    run_id=st.none() | NAMES,
    update_id=NAMES,
)
def test_a_token_says_what_it_was_made_of(
    kind: OperationTokenType,
    namespace: str,
    workflow_id: str,
    activity_id: str,
    run_id: str | None,
    update_id: str,
) -> None:
    """Whatever ids there are."""
    token = OperationToken(
        type=kind,
        namespace=namespace,
        workflow_id=workflow_id,
        activity_id=activity_id,
        run_id=run_id,
        update_id=update_id,
    )
    assert OperationToken.decode(token.encode()) == token


@given(
    st.text(max_size=40) | st.binary(max_size=40).map(lambda data: base64.urlsafe_b64encode(data).decode())
)
def test_what_is_no_token_is_a_type_error(text: str) -> None:
    """Tokens come from other systems."""
    try:
        OperationToken.decode(text)
    except TypeError:
        return
    pytest.fail("it is no token")


@pytest.mark.parametrize(
    "fields",
    [
        {"t": 2, "ns": "n", "wid": "w"},
        {"t": 2, "ns": "n", "aid": "a"},
        {"t": 2, "ns": "n", "aid": "", "wid": "w"},
        {"t": 2, "ns": "n", "aid": 1},
        {"t": 1, "ns": "n", "wid": "w", "aid": 1},
        {"t": 4, "ns": "n", "wid": "w"},
        {"t": True, "ns": "n", "wid": "w"},
        {"t": 1, "ns": "n", "wid": ""},
        {"t": 1, "ns": "n"},
        {"t": 1, "wid": "w"},
        {"t": 3, "ns": "n", "wid": "w"},
        {"t": 1, "ns": "n", "wid": "w", "rid": 1},
        {"t": 1, "ns": "n", "wid": "w", "v": 1},
        {"t": 3, "ns": "n", "wid": "w", "uid": "u"},
        [],
    ],
)
def test_a_token_of_something_else_names_no_workflow(fields: object) -> None:
    """Among them those of a later form, and those of updates."""
    token = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")
    with pytest.raises(TypeError, match="invalid"):
        WorkflowHandle.from_token(token)


@pytest.mark.parametrize(
    "token",
    [
        OperationToken(type=OperationTokenType.WORKFLOW, namespace="n", workflow_id="w", version=0),
        OperationToken(type=OperationTokenType.ACTIVITY, namespace="n", activity_id="a"),
        OperationToken(type=OperationTokenType.ACTIVITY, namespace="n", activity_id="a", run_id="r"),
        OperationToken(
            type=OperationTokenType.UPDATE_WORKFLOW,
            namespace="n",
            workflow_id="w",
            run_id="r",
            update_id="u",
        ),
    ],
    ids=["workflow", "activity", "run of an activity", "update"],
)
def test_tokens_are_those_of_the_official_sdk(token: OperationToken) -> None:
    """To the byte, both ways: either side may cancel what the other has started."""
    official = official_tokens.OperationToken.decode(token.encode())
    assert official.encode() == token.encode()
    assert OperationToken.decode(official.encode()) == token
    assert vars(official) == vars(token)


EVENT_TYPES = st.sampled_from(EventType.values())
EVENTS = st.builds(
    lambda names, number, kind: Link(
        workflow_event=Link.WorkflowEvent(
            namespace=names[0],
            workflow_id=names[1],
            run_id=names[2],
            event_ref=Link.WorkflowEvent.EventReference(event_id=number, event_type=kind),
        )
    ),
    st.tuples(NAMES, NAMES, NAMES),
    st.integers(0, 2**40),
    EVENT_TYPES,
)
STARTS = st.builds(workflow_started_link, NAMES, NAMES, NAMES, NAMES)
WORKFLOWS = st.builds(
    lambda names, reason: Link(
        workflow=Link.Workflow(namespace=names[0], workflow_id=names[1], run_id=names[2], reason=reason)
    ),
    st.tuples(NAMES, NAMES, NAMES),
    NAMES | st.just(""),
)
OPERATIONS = st.builds(
    lambda names: Link(
        nexus_operation=Link.NexusOperation(namespace=names[0], operation_id=names[1], run_id=names[2])
    ),
    st.tuples(NAMES, NAMES, NAMES),
)

ACTIVITIES = st.builds(
    lambda names: Link(activity=Link.Activity(namespace=names[0], activity_id=names[1], run_id=names[2])),
    st.tuples(NAMES, NAMES, NAMES),
)


@given(EVENTS | STARTS | WORKFLOWS | OPERATIONS | ACTIVITIES)
def test_a_link_comes_back_from_the_protocols_form(link: Link) -> None:
    """Also with slashes and blanks in ids."""
    nexus_link = temporal_link_to_nexus_link(link)
    assert nexus_link is not None
    assert nexus_link.url.startswith("temporal:///namespaces/")
    assert nexus_link_to_temporal_link(nexus_link) == link


@pytest.mark.parametrize(
    "link",
    [
        nexusrpc.Link(url="temporal:///namespaces/n/workflows/w/r/history?eventType=X", type="unheard.of"),
        nexusrpc.Link(
            url="temporal:///namespaces/n/workflows/w/r", type="temporal.api.common.v1.Link.WorkflowEvent"
        ),
        nexusrpc.Link(
            url="temporal:///namespaces/n/workflows/w/r/history?referenceType=EventReference&eventType=nonsense",
            type="temporal.api.common.v1.Link.WorkflowEvent",
        ),
        nexusrpc.Link(
            url="temporal:///namespaces/n/workflows/w/r/history?referenceType=EventReference"
            "&eventType=WorkflowExecutionStarted&eventID=x",
            type="temporal.api.common.v1.Link.WorkflowEvent",
        ),
        nexusrpc.Link(url="temporal://[", type="temporal.api.common.v1.Link.NexusOperation"),
        nexusrpc.Link(url="temporal://[", type="temporal.api.common.v1.Link.Activity"),
        nexusrpc.Link(url="temporal:///else", type="temporal.api.common.v1.Link.NexusOperation"),
        nexusrpc.Link(
            url="temporal:///namespaces/n/activities/a/r", type="temporal.api.common.v1.Link.Activity"
        ),
    ],
)
def test_a_damaged_link_is_left_out(link: nexusrpc.Link) -> None:
    """A caller's bad link is no reason to refuse its operation."""
    assert nexus_link_to_temporal_link(link) is None
