"""Messages of the public `google.protobuf` package are taken where ours of the same name are due; nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf import (
    any_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

from perdure.api import protobuf
from perdure.api.filter.v1 import StartTimeFilter
from perdure.api.history.v1 import HistoryEvent
from perdure.api.namespace.v1 import NamespaceConfig
from perdure.api.schedule.v1 import IntervalSpec
from perdure.api.workflowservice.v1 import (
    RegisterNamespaceRequest,
    StartWorkflowExecutionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from perdure.client import Client
from perdure.testing import WorkflowEnvironment
from tests.unit.server.support import run

# Of any type: the classes' stubs name ours.
TIME: Any = timestamp_pb2.Timestamp(seconds=5)
MASK: Any = field_mask_pb2.FieldMask(paths=["a.b"])
SECOND: Any = timedelta(seconds=1)
DAY: Any = duration_pb2.Duration(seconds=86_400)


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (
            lambda: RegisterNamespaceRequest(namespace="a", workflow_execution_retention_period=DAY),
            lambda made: (made.namespace, made.workflow_execution_retention_period.seconds) == ("a", 86_400),
        ),
        (
            lambda: NamespaceConfig(workflow_execution_retention_ttl=DAY),
            lambda made: made.workflow_execution_retention_ttl.seconds == 86_400,
        ),
        (
            lambda: IntervalSpec(interval=DAY, phase=SECOND),
            lambda made: made.phase.seconds == 1,
        ),
        (
            lambda: UpdateWorkflowExecutionOptionsRequest(update_mask=MASK),
            lambda made: list(made.update_mask.paths) == ["a.b"],
        ),
        (
            lambda: StartTimeFilter(earliest_time=TIME),
            lambda made: made.earliest_time.seconds == 5,
        ),
        (
            lambda: _copied(StartWorkflowExecutionRequest().workflow_run_timeout, DAY),
            lambda made: made.seconds,
        ),
        (
            lambda: _merged(protobuf.Duration(nanos=1), DAY),
            lambda made: (made.seconds, made.nanos) == (86_400, 1),
        ),
    ],
)
def test_what_applications_have_at_hand_is_taken(
    make: Callable[[], Any], seen: Callable[[Any], bool]
) -> None:
    """In constructors, `CopyFrom` and `MergeFrom`; what protobuf itself takes stays as it is."""
    assert seen(make())


def _copied(ours: Any, theirs: Any) -> Any:
    ours.CopyFrom(theirs)
    return ours


def _merged(ours: Any, theirs: Any) -> Any:
    ours.MergeFrom(theirs)
    return ours


@pytest.mark.parametrize(
    "theirs",
    [
        any_pb2.Any(type_url="a", value=b"b"),
        duration_pb2.Duration(seconds=1),
        empty_pb2.Empty(),
        field_mask_pb2.FieldMask(paths=["a"]),
        struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=1)}),
        struct_pb2.ListValue(values=[struct_pb2.Value(bool_value=True)]),
        timestamp_pb2.Timestamp(seconds=1),
        wrappers_pb2.StringValue(value="a"),
    ],
)
def test_every_well_known_message_is_copied_from_the_public_one(theirs: Any) -> None:
    """And theirs from ours by its bytes, as between any two pools."""
    ours = getattr(protobuf, type(theirs).__name__)()
    ours.CopyFrom(theirs)
    assert ours.SerializeToString() == theirs.SerializeToString()
    assert type(theirs).FromString(ours.SerializeToString()) == theirs


def test_what_is_something_else_is_refused_as_ever() -> None:
    """Messages of another name, values of other kinds, unknown fields; nothing is left of an attempt."""
    with pytest.raises(TypeError):
        RegisterNamespaceRequest(workflow_execution_retention_period=TIME)
    with pytest.raises(TypeError):
        RegisterNamespaceRequest(workflow_execution_retention_period="a day")  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError)):
        RegisterNamespaceRequest(workflow_execution_retention_period=DAY, no_such_field=1)  # type: ignore[call-arg]
    for wrong in (TIME, None, "a"):
        with pytest.raises(TypeError):
            protobuf.Duration().CopyFrom(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Timestamp"):
        HistoryEvent(event_time=TIME)  # made by the thousand: not opened


def test_calls_take_them() -> None:
    """As code for the official SDK makes a namespace, and changes one."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local() as environment:
            client: Client = environment.client
            await client.workflow_service.register_namespace(
                RegisterNamespaceRequest(namespace="made", workflow_execution_retention_period=DAY)
            )

    run(scenario())
