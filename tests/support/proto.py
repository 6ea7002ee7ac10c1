"""The wire messages the tests use, under short names; the only place that says which package they come from.

`perdure.api` has the module layout of `temporalio.api`, so pointing the tests at the other one is a change of the
package name below and of nothing else.
"""

from temporalio.api.command import v1 as command
from temporalio.api.common import v1 as common
from temporalio.api.enums import v1 as enums
from temporalio.api.errordetails import v1 as errordetails
from temporalio.api.failure import v1 as failure
from temporalio.api.filter import v1 as filter
from temporalio.api.history import v1 as history
from temporalio.api.namespace import v1 as namespace
from temporalio.api.operatorservice import v1 as operatorservice
from temporalio.api.query import v1 as query
from temporalio.api.sdk import v1 as sdk
from temporalio.api.taskqueue import v1 as taskqueue
from temporalio.api.workflow import v1 as workflow
from temporalio.api.workflowservice import v1 as workflowservice

__all__ = [
    "command",
    "common",
    "enums",
    "errordetails",
    "failure",
    "filter",
    "history",
    "namespace",
    "operatorservice",
    "query",
    "sdk",
    "taskqueue",
    "workflow",
    "workflowservice",
]
