"""Why a test of another project's suite does not pass on both servers. One that nothing here names fails our tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Reason:
    """Of tests of a suite (`sdk` or `samples`) by a pattern of `file::test`, in which * stands for anything."""

    suite: str
    test: str
    why: str


_STANDALONE_NEXUS: Final = "operations of Nexus that a client starts without a workflow are not built yet"
_UPDATE_CALLBACKS: Final = "callbacks of updates are not built yet"
_SYSTEM_ENDPOINT: Final = "the system's own Nexus endpoint is not built yet"
_PYRIGHT: Final = "needs pyright and uv, which were not there"
_TEST_SERVER: Final = (
    "needs the time-skipping server that the SDK downloads, which it could not; here it is Perdure's"
)
_RUNTIME: Final = "the SDK refuses the test's second client: it is on another runtime"

REASONS: Final = (
    Reason("sdk", "nexus/test_standalone_operations.py::*", _STANDALONE_NEXUS),
    Reason("sdk", "nexus/test_signal_link_propagation_e2e.py::test_standalone_*", _STANDALONE_NEXUS),
    Reason("sdk", "nexus/test_signal_link_propagation_e2e.py::test_start_from_handler_*", _STANDALONE_NEXUS),
    Reason(
        "sdk", "nexus/test_temporal_operation.py::test_customized_temporal_operation_*", _STANDALONE_NEXUS
    ),
    Reason("sdk", "nexus/test_temporal_operation.py::test_temporal_operation_update_*", _UPDATE_CALLBACKS),
    Reason("sdk", "nexus/test_temporal_system_nexus.py::test_external_workflow_handle_*", _SYSTEM_ENDPOINT),
    Reason(
        "sdk",
        "nexus/test_temporal_system_nexus.py::test_system_nexus_proto_roundtrip*",
        "the test needs an older release of the protobuf library",
    ),
    Reason("sdk", "test_type_errors.py::*", _PYRIGHT),
    Reason(
        "sdk", "test_activity.py::test_manual_cancellation", "expects another status code than either gives"
    ),
    Reason("sdk", "testing/test_workflow.py::test_workflow_env_time_skipping_*", _TEST_SERVER),
    Reason("sdk", "*::test_*_client_updates_when_worker_client_changes", _RUNTIME),
    Reason("sdk", "worker/test_workflow.py::test_workflow_replace_worker_client", _RUNTIME),
    Reason(
        "sdk",
        "worker/test_workflow.py::test_workflow_eviction_deadlock",
        "the sandbox refuses the test's own workflow",
    ),
    Reason(
        "sdk",
        "test_client.py::test_build_id_interactions",
        "version sets, which came before worker deployments, are not built",
    ),
    Reason("samples", "nexus_standalone_operations/*", _STANDALONE_NEXUS),
    Reason("samples", "sleep_for_days/*", _TEST_SERVER),
    Reason("samples", "updatable_timer/*", _TEST_SERVER),
    Reason("samples", "hello/hello_query_test.py::*", _TEST_SERVER),
)
