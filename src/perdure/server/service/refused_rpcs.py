"""RPCs that a server without the feature refuses: earlier forms of worker versioning, and what only Temporal's cloud or
a setting of its server has. Each answers as Temporal's server does where that is off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn

from perdure.api.workflowservice.v1 import PollWorkflowExecutionTimeSkippingRequest
from perdure.core.errors import PermissionDeniedError, ServiceError, UnimplementedError
from perdure.server.namespaces import Namespaces
from perdure.server.service import checks
from perdure.server.service.call import Call

_VERSION_SETS = "Worker versioning v0.1 (Version Set-based, deprecated) is disabled on this namespace."
_VERSION_RULES = "Worker versioning v0.2 (Rules-based, deprecated) is disabled on this namespace."
_DEPLOYMENTS = "Deployments are deprecated and no longer supported, use Worker Deployments instead"

_DEPLOYMENT_RPCS = (
    "describe_deployment",
    "list_deployments",
    "get_deployment_reachability",
    "get_current_deployment",
    "set_current_deployment",
)
_RULE_RPCS = {
    "create_workflow_rule": "CreateWorkflowRule",
    "describe_workflow_rule": "DescribeWorkflowRule",
    "delete_workflow_rule": "DeleteWorkflowRule",
    "list_workflow_rules": "ListWorkflowRules",
    "trigger_workflow_rule": "TriggerWorkflowRule",
}
REFUSED: Final[Mapping[str, tuple[type[ServiceError], str]]] = {
    "update_worker_build_id_compatibility": (PermissionDeniedError, _VERSION_SETS),
    "get_worker_build_id_compatibility": (PermissionDeniedError, _VERSION_SETS),
    "update_worker_versioning_rules": (PermissionDeniedError, _VERSION_RULES),
    "get_worker_versioning_rules": (PermissionDeniedError, _VERSION_RULES),
    "get_worker_task_reachability": (PermissionDeniedError, _VERSION_RULES),
    **dict.fromkeys(_DEPLOYMENT_RPCS, (UnimplementedError, _DEPLOYMENTS)),
    **{name: (UnimplementedError, f"method {rpc} not supported") for name, rpc in _RULE_RPCS.items()},
    "fetch_worker_config": (UnimplementedError, "FetchWorkerConfig command is not enabled."),
    "update_worker_config": (UnimplementedError, "UpdateWorkerConfig command is not enabled."),
    "poll_workflow_execution_time_skipping": (
        UnimplementedError,
        "The Time-Skipping feature is not enabled for namespace.",
    ),
}
"""By the handler's name: the error and its message, once the request's namespace is known to be there."""


class RefusedRpcs:
    """Handlers of the RPCs above.

    Args:
        namespaces: a request of a namespace that is not there is told that first.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        for name, (error, message) in REFUSED.items():
            setattr(self, name, self._refusal(error, message))

    def _refusal(self, error: type[ServiceError], message: str) -> Callable[[Any, Call], Awaitable[NoReturn]]:
        async def refuse(request: Any, call: Call) -> NoReturn:
            self._namespaces.get(request.namespace)
            if isinstance(request, PollWorkflowExecutionTimeSkippingRequest):
                checks.execution(request)
            raise error(message)

        return refuse
