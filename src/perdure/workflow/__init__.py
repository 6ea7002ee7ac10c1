"""What workflow code uses: decorators, and functions that are called inside a running workflow.

Names live in private modules by theme and are re-exported here. The executor is in `perdure.worker.workflow_code`.
"""

from __future__ import annotations

from perdure.workflow._definition import (
    DynamicWorkflowConfig,
    _Definition,
    _is_unbound_method_on_cls,
    _parameters_identical_up_to_naming,
    defn,
    dynamic_config,
    init,
    run,
)
from perdure.workflow._handlers import (
    HandlerUnfinishedPolicy,
    UnfinishedSignalHandlersWarning,
    UnfinishedUpdateHandlersWarning,
    UpdateMethodMultiParam,
    _assert_dynamic_handler_args,
    _bind_method,
    _QueryDefinition,
    _SignalDefinition,
    _update_validator,
    _UpdateDefinition,
    query,
    signal,
    update,
)

__all__ = [
    "DynamicWorkflowConfig",
    "HandlerUnfinishedPolicy",
    "UnfinishedSignalHandlersWarning",
    "UnfinishedUpdateHandlersWarning",
    "UpdateMethodMultiParam",
    "_Definition",
    "_QueryDefinition",
    "_SignalDefinition",
    "_UpdateDefinition",
    "_assert_dynamic_handler_args",
    "_bind_method",
    "_is_unbound_method_on_cls",
    "_parameters_identical_up_to_naming",
    "_update_validator",
    "defn",
    "dynamic_config",
    "init",
    "query",
    "run",
    "signal",
    "update",
]
