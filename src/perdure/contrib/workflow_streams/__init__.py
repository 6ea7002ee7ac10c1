"""Workflow streams: what a workflow and its activities have to say while they run, by numbered items and topics.

    self.stream = WorkflowStream()                                    # in `__init__` of the workflow
    self.stream.topic("progress", type=Progress).publish(progress)    # in the workflow

    async with WorkflowStreamClient.from_within_activity() as stream:  # in an activity: batches, each kept once
        stream.topic("tokens", type=str).publish(token)

    stream = WorkflowStreamClient.create(client, workflow_id)         # anywhere: follows continue-as-new
    async for item in stream.subscribe("progress", result_type=Progress):
        print(item.offset, item.data)

Experimental, as it is in Temporal's SDK, whose names and messages these are: either SDK may publish to, host or read a
stream of the other. Decision record 46 says what is bounded, what happens when something is lost, and what differs.
"""

from perdure.contrib.workflow_streams._client import WorkflowStreamClient
from perdure.contrib.workflow_streams._stream import WorkflowStream
from perdure.contrib.workflow_streams._topic_handle import TopicHandle, WorkflowTopicHandle
from perdure.contrib.workflow_streams._types import (
    PollInput,
    PollResult,
    PublishBufferFullError,
    PublishEntry,
    PublisherState,
    PublishInput,
    TruncatedOffsetError,
    WorkflowStreamItem,
    WorkflowStreamState,
)

__all__ = [
    "PollInput",
    "PollResult",
    "PublishBufferFullError",
    "PublishEntry",
    "PublishInput",
    "PublisherState",
    "TopicHandle",
    "TruncatedOffsetError",
    "WorkflowStream",
    "WorkflowStreamClient",
    "WorkflowStreamItem",
    "WorkflowStreamState",
    "WorkflowTopicHandle",
]
