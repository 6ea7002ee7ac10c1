"""The end of the chain of interceptors: where a client's calls become RPCs.

May live here: the class that has all calls. May not: the calls.
"""

from __future__ import annotations

from perdure.client._impl_activities import ActivityCalls
from perdure.client._impl_operations import OperationCalls
from perdure.client._impl_others import ScheduleCalls, VersioningCalls
from perdure.client._impl_workflows import WorkflowCalls


class _ClientImpl(WorkflowCalls, ActivityCalls, OperationCalls, ScheduleCalls, VersioningCalls):
    """All calls of a client."""
