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


_PYRIGHT: Final = "needs pyright and uv, which were not there"
_TEST_SERVER: Final = (
    "needs the time-skipping server that the SDK downloads, which it could not; here it is Perdure's"
)
_RUNTIME: Final = "the SDK refuses the test's second client: it is on another runtime"

REASONS: Final = (
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
    Reason(
        "sdk",
        "test_client.py::test_build_id_interactions",
        "version sets, which came before worker deployments, are not built",
    ),
    Reason("samples", "sleep_for_days/*", _TEST_SERVER),
    Reason("samples", "updatable_timer/*", _TEST_SERVER),
    Reason("samples", "hello/hello_query_test.py::*", _TEST_SERVER),
)
