"""The tables and clients of the services agree with the official ones and with a real gRPC connection."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import pytest
import temporalio.api.operatorservice.v1 as official_operator
import temporalio.api.testservice.v1 as official_test
import temporalio.api.workflowservice.v1 as official_workflow
from google.protobuf.message import Message

from perdure.api import services
from perdure.api.workflowservice.v1 import (
    GetSystemInfoRequest,
    GetSystemInfoResponse,
    WorkflowServiceAsyncStub,
    WorkflowServiceStub,
)


@pytest.mark.parametrize(
    ("service_name", "official"),
    [
        (services.WORKFLOW_SERVICE, official_workflow.request_response_pb2),
        (services.OPERATOR_SERVICE, official_operator.request_response_pb2),
        (services.TEST_SERVICE, official_test.request_response_pb2),
    ],
)
def test_every_rpc_has_its_request_and_response_class(service_name: str, official: object) -> None:
    table = services.rpcs(service_name)
    assert table
    assert len({rpc.name for rpc in table}) == len(table)
    for rpc in table:
        for cls in (rpc.request, rpc.response):
            assert issubclass(cls, Message)
            if cls.DESCRIPTOR.full_name.startswith("temporal."):
                assert hasattr(official, cls.DESCRIPTOR.name)


def test_the_workflow_service_has_the_rpcs_of_the_official_stub() -> None:
    names = {rpc.name for rpc in services.rpcs(services.WORKFLOW_SERVICE)}
    stub = official_workflow.WorkflowServiceStub(grpc.insecure_channel("127.0.0.1:1"))
    assert names == {name for name in vars(stub) if not name.startswith("_")}


def test_an_unknown_service_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        services.rpcs("temporal.api.nowhere.v1.Service")


def _server() -> tuple[grpc.Server, int]:
    def get_system_info(
        request: GetSystemInfoRequest, context: grpc.ServicerContext
    ) -> GetSystemInfoResponse:
        return GetSystemInfoResponse(server_version="1.2.3")

    rpc = next(rpc for rpc in services.rpcs(services.WORKFLOW_SERVICE) if rpc.name == "GetSystemInfo")
    handler = grpc.unary_unary_rpc_method_handler(
        get_system_info,
        request_deserializer=rpc.request.FromString,
        response_serializer=rpc.response.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    server.add_registered_method_handlers(services.WORKFLOW_SERVICE, {rpc.name: handler})
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def test_the_generated_client_calls_a_server_over_both_kinds_of_channel() -> None:
    server, port = _server()

    async def call() -> GetSystemInfoResponse:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            return await WorkflowServiceAsyncStub(channel).GetSystemInfo(GetSystemInfoRequest(), timeout=10)

    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = WorkflowServiceStub(channel).GetSystemInfo(GetSystemInfoRequest(), timeout=10)
        assert answer == GetSystemInfoResponse(server_version="1.2.3")
        assert asyncio.run(call()).server_version == "1.2.3"
    finally:
        server.stop(grace=None).wait()
