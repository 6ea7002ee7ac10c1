"""The wire messages the tests use, under short names; the only place that says which package they come from."""

from perdure.api.activity import v1 as activity
from perdure.api.command import v1 as command
from perdure.api.common import v1 as common
from perdure.api.enums import v1 as enums
from perdure.api.errordetails import v1 as errordetails
from perdure.api.failure import v1 as failure
from perdure.api.filter import v1 as filter
from perdure.api.google.rpc import Status
from perdure.api.history import v1 as history
from perdure.api.namespace import v1 as namespace
from perdure.api.nexus import v1 as nexus
from perdure.api.operatorservice import v1 as operatorservice
from perdure.api.protobuf import Any as AnyMessage
from perdure.api.protobuf import Duration, Timestamp
from perdure.api.protocol import v1 as protocol
from perdure.api.query import v1 as query
from perdure.api.sdk import v1 as sdk
from perdure.api.taskqueue import v1 as taskqueue
from perdure.api.update import v1 as update
from perdure.api.worker import v1 as worker
from perdure.api.workflow import v1 as workflow
from perdure.api.workflowservice import v1 as workflowservice

__all__ = [
    "AnyMessage",
    "Duration",
    "Status",
    "Timestamp",
    "activity",
    "command",
    "common",
    "enums",
    "errordetails",
    "failure",
    "filter",
    "history",
    "namespace",
    "nexus",
    "operatorservice",
    "protocol",
    "query",
    "sdk",
    "taskqueue",
    "update",
    "worker",
    "workflow",
    "workflowservice",
]
