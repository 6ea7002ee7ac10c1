"""How many calls a namespace may make: a second, and at once of those that wait. Off unless a server is told.

May live here: counting calls and refusing those over a limit. May not: what a call does, or limits of doors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from google.protobuf.message import Message

from perdure.api.enums.v1 import ResourceExhaustedCause, ResourceExhaustedScope
from perdure.core.errors import ResourceExhaustedError
from perdure.server.config import Quotas
from perdure.server.engine.rate_limits import RateLimit
from perdure.server.service.call import Call
from perdure.server.service.service import HandlerFunction, Method

_NAMESPACE: Final = ResourceExhaustedScope.Value("RESOURCE_EXHAUSTED_SCOPE_NAMESPACE")
_RATE: Final = ResourceExhaustedCause.Value("RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT")
_AT_ONCE: Final = ResourceExhaustedCause.Value("RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT")

_LISTING: Final = frozenset(
    {
        "CountActivityExecutions", "CountNexusOperationExecutions", "CountSchedules", "CountWorkflowExecutions",
        "GetWorkerTaskReachability", "ListActivityExecutions", "ListArchivedWorkflowExecutions",
        "ListBatchOperations", "ListClosedWorkflowExecutions", "ListNexusOperationExecutions",
        "ListOpenWorkflowExecutions", "ListSchedules", "ListWorkerDeployments", "ListWorkflowExecutions",
        "ScanWorkflowExecutions",
    }
)  # fmt: skip
"""RPCs that look through lists: they have a rate of their own."""


def _always(request: Any) -> bool:
    return True


_WAITING: Final[dict[str, Callable[[Any], bool]]] = {
    "PollActivityTaskQueue": _always,
    "PollWorkflowTaskQueue": _always,
    "PollNexusTaskQueue": _always,
    "PollWorkflowExecutionUpdate": _always,
    "PollActivityExecution": _always,
    "PollNexusOperationExecution": _always,
    "PollWorkflowExecutionTimeSkipping": _always,
    "QueryWorkflow": _always,
    "UpdateWorkflowExecution": _always,
    "ExecuteMultiOperation": _always,
    "GetWorkflowExecutionHistory": lambda request: bool(request.wait_new_event),
    "DescribeActivityExecution": lambda request: bool(request.long_poll_token),
    "DescribeNexusOperationExecution": lambda request: bool(request.long_poll_token),
}
"""RPCs that wait for something, and whether a request does."""


class QuotaKeeper:
    """Counts the calls of each namespace.

    Args:
        quotas: what a namespace may do.
        has_namespace: whether there is a namespace of this name. Others' calls fail anyway, and are not counted.
        clock_s: steady time, seconds.
    """

    def __init__(
        self, quotas: Quotas, has_namespace: Callable[[str], bool], clock_s: Callable[[], float]
    ) -> None:
        self._quotas = quotas
        self._has_namespace = has_namespace
        self._clock_s = clock_s
        self._rates: dict[tuple[str, bool], RateLimit] = {}
        self._waiting: Counter[tuple[str, str]] = Counter()

    def limited(self, method: Method) -> Method:
        """The same RPC within the limits; itself if none applies to it."""
        serve, name = method.serve, method.path.rsplit("/", 1)[-1]
        if serve is None or "namespace" not in method.request.DESCRIPTOR.fields_by_name:
            return method
        if self._quotas.waiting_calls and name in _WAITING:
            serve = self._at_most_at_once(name, _WAITING[name], serve)
        is_listing = name in _LISTING
        if self._quotas.lists_per_second if is_listing else self._quotas.calls_per_second:
            serve = self._at_most_per_second(is_listing, serve)
        return replace(method, serve=serve)

    def _at_most_per_second(self, is_listing: bool, serve: HandlerFunction) -> HandlerFunction:
        async def within_rate(request: Any, call: Call) -> Message:
            namespace = request.namespace
            if self._has_namespace(namespace) and not self._rate(namespace, is_listing).take(self._clock_s()):
                raise ResourceExhaustedError("namespace rate limit exceeded", _RATE, _NAMESPACE)
            return await serve(request, call)

        return within_rate

    def _rate(self, namespace: str, is_listing: bool) -> RateLimit:
        found = self._rates.get((namespace, is_listing))
        if found is None:
            for known in [key for key in self._rates if not self._has_namespace(key[0])]:
                del self._rates[known]
            quotas = self._quotas
            per_second = quotas.lists_per_second if is_listing else quotas.calls_per_second
            burst_ratio = quotas.lists_burst_ratio if is_listing else quotas.calls_burst_ratio
            found = self._rates[namespace, is_listing] = RateLimit(per_second, self._clock_s(), burst_ratio)
        return found

    def _at_most_at_once(
        self, name: str, waits: Callable[[Any], bool], serve: HandlerFunction
    ) -> HandlerFunction:
        async def within_count(request: Any, call: Call) -> Message:
            if not waits(request) or not self._has_namespace(request.namespace):
                return await serve(request, call)
            key = (request.namespace, name)
            if self._waiting[key] >= self._quotas.waiting_calls:
                raise ResourceExhaustedError(
                    "namespace concurrent poller limit exceeded", _AT_ONCE, _NAMESPACE
                )
            self._waiting[key] += 1
            try:
                return await serve(request, call)
            finally:
                self._waiting[key] -= 1
                if not self._waiting[key]:
                    del self._waiting[key]

        return within_count
