"""Large payloads are found wherever they are in a request, and warned about when it is sent."""

from __future__ import annotations

import logging

import pytest

from perdure.api.common.v1 import Payload, Payloads
from perdure.api.workflowservice.v1 import RespondWorkflowTaskCompletedRequest, StartWorkflowExecutionRequest
from perdure.client import Client
from perdure.converter._payload_limits import LargeField, PayloadSizeLimits, large_fields
from perdure.service import PayloadLimitsConfig
from tests.unit.sdk_data.drivers import run

LIMITS = PayloadSizeLimits(payloads_bytes=1000, memo_bytes=500)


def _completion() -> RespondWorkflowTaskCompletedRequest:
    request = RespondWorkflowTaskCompletedRequest()
    request.commands.add().schedule_activity_task_command_attributes.input.payloads.add().data = b"x" * 2000
    request.commands.add().schedule_activity_task_command_attributes.input.payloads.add().data = b"x" * 20
    child = request.commands.add().start_child_workflow_execution_command_attributes
    child.memo.fields["a"].data = b"x" * 700
    child.input.payloads.add().data = b"x" * 700
    child.header.fields["h"].data = b"x" * 5000
    request.commands.add().user_metadata.summary.data = b"x" * 1500
    return request


def test_each_large_field_is_named() -> None:
    assert large_fields(_completion(), LIMITS) == [
        LargeField("commands[0].schedule_activity_task_command_attributes.input", "payloads", 2006, 1000),
        LargeField("commands[2].start_child_workflow_execution_command_attributes.memo", "memo", 712, 500),
        LargeField("commands[3].user_metadata.summary", "payloads", 1503, 1000),
    ]


@pytest.mark.parametrize(
    ("limits", "kinds"),
    [
        (PayloadSizeLimits(0, 0), []),
        (PayloadSizeLimits(1000, 0), ["payloads", "payloads"]),
        (PayloadSizeLimits(0, 500), ["memo"]),
        (PayloadSizeLimits(10**6, 10**6), []),
    ],
)
def test_a_limit_of_zero_is_none(limits: PayloadSizeLimits, kinds: list[str]) -> None:
    assert [field.kind for field in large_fields(_completion(), limits)] == kinds


def test_several_small_payloads_are_large_together() -> None:
    request = StartWorkflowExecutionRequest(input=Payloads(payloads=[Payload(data=b"x" * 100)] * 20))
    [field] = large_fields(request, LIMITS)
    assert (field.path, field.size_bytes) == ("input", 20 * 104)


def test_a_client_warns_about_what_it_sends(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        limits = PayloadLimitsConfig(payloads_warn_size=1000, memo_warn_size=100)
        client = await Client.connect("sqlite://", payload_limits=limits)
        try:
            await client.start_workflow("Some", "x" * 1000, id="w", task_queue="q", memo={"m": "x" * 200})
            await client.start_workflow("Some", "x", id="w2", task_queue="q", memo={"m": "x"})
        finally:
            await client.close()

    with caplog.at_level(logging.WARNING):
        run(scenario())
    texts = [record.getMessage() for record in caplog.records if "TMPRL1103" in record.getMessage()]
    assert len(texts) == 2
    assert any("upload payloads" in text and "'field': 'input'" in text for text in texts)
    assert any("upload memo" in text and "external_storage" in text for text in texts)
