"""What official code imports from `temporalio.api` is in `perdure.api` under the same name, module by module."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import subprocess
import sys
import types
from collections.abc import Iterator

import pytest
import temporalio.api

_NOT_HERE = (
    "temporalio.api.cluster",
    "temporalio.api.interaction",
    "temporalio.api.dependencies",
)
"""What nothing else refers to any more, and options for other generators."""
_LOST = {
    "CloudService",
    "OperatorService",
    "TestService",
    "WorkflowService",
    "REQUEST_HEADER_FIELD_NUMBER",
    "request_header",
}
"""Experimental calls without a stub, and an extension that only the generator of headers reads."""


def _official() -> Iterator[str]:
    for found in pkgutil.walk_packages(temporalio.api.__path__, "temporalio.api."):
        if not found.name.startswith(_NOT_HERE):
            yield found.name


def _public(module: types.ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


@pytest.mark.parametrize("name", sorted(_official()))
def test_what_a_module_has_is_here(name: str) -> None:
    """Moving over changes nothing but the first word."""
    official = importlib.import_module(name)
    if name.endswith("request_response_pb2_grpc") and not _public(official):
        return
    ours = importlib.import_module("perdure" + name.removeprefix("temporalio"))
    assert _public(official) - _LOST <= {*dir(ours), *vars(ours)}
    for attribute in _public(official) - _LOST:
        assert getattr(ours, attribute) is not None


def test_classes_are_those_of_the_package() -> None:
    """One class under two names, which says that it is of the package and can be pickled."""
    from perdure.api.common import v1
    from perdure.api.common.v1 import message_pb2

    assert message_pb2.Payload is v1.Payload
    assert message_pb2.Payload.__module__ == "perdure.api.common.v1"
    assert pickle.loads(pickle.dumps(message_pb2.Payload(data=b"x"))) == v1.Payload(data=b"x")
    assert message_pb2.DESCRIPTOR.name == "temporal/api/common/v1/message.proto"


def test_a_module_of_a_file_shows_that_file_alone() -> None:
    """What it has not is said as for any module; services are not among the messages, nor the reverse."""
    from perdure.api.workflowservice.v1 import request_response_pb2, service_pb2, service_pb2_grpc

    assert "StartWorkflowExecutionRequest" in dir(request_response_pb2)
    assert not hasattr(service_pb2, "WorkflowServiceStub")
    assert not hasattr(service_pb2_grpc, "StartWorkflowExecutionRequest")
    with pytest.raises(AttributeError, match=r"message_pb2' has no attribute 'Payloud'"):
        importlib.import_module("perdure.api.common.v1.message_pb2").Payloud  # noqa: B018


def test_all_of_a_file_can_be_imported_at_once() -> None:
    """`from ..._pb2 import *`, in any order and before the package."""
    code = (
        "from perdure.api.common.v1.message_pb2 import *\n"
        "from perdure.api.workflowservice.v1.service_pb2_grpc import *\n"
        "print(Payload.__name__, WorkflowServiceStub.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Payload", "WorkflowServiceStub"]
