"""Names of the official SDK that an application may import: which modules have them all, and what is missing still."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

MISSING: dict[str, set[str]] = {
    "activity": {"CallableType"},
    "client": {
        "NexusClient",
        "NexusOperationExecution",
        "NexusOperationExecutionAsyncIterator",
        "NexusOperationExecutionCancellationInfo",
        "NexusOperationExecutionCount",
        "NexusOperationExecutionCountAggregationGroup",
        "NexusOperationExecutionDescription",
        "NexusOperationHandle",
    },
    "common": set(),
    "contrib.opentelemetry": {"MetricsExporter", "ReplaySafeLoggerProvider", "ReplaySafeMeterProvider"},
    "contrib.pydantic": set(),
    "converter": set(),
    "envconfig": set(),
    "exceptions": set(),
    "nexus": {"CancelActivityOptions"},
    "plugin": set(),
    "runtime": set(),
    "service": {"ServiceRequest", "ServiceResponse"},
    "testing": {"TimeSkipper", "TimeSkippingConfig"},
    "types": set(),
    "worker": set(),
    "worker.workflow_sandbox": set(),
    "workflow": {"EventGroup", "create_event_group", "signal_with_start_workflow"},
}
"""What no module of ours offers yet; `docs/compatibility.md` names it too. Type variables of signatures are no loss."""


def _public_names(module: ModuleType) -> set[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return set(listed)
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and str(getattr(value, "__module__", "")).startswith("temporalio")
    }


@pytest.mark.parametrize("name", MISSING)
def test_what_a_module_lacks_is_known(name: str) -> None:
    """A name that is there now has to leave the table, and one that a release of the official SDK adds has to enter."""
    official, ours = (importlib.import_module(f"{package}.{name}") for package in ("temporalio", "perdure"))
    assert {public for public in _public_names(official) if not hasattr(ours, public)} == MISSING[name]
