"""A service client whose transport answers from a script: what a test sees is the real client around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from google.protobuf.message import Message

from perdure.client import Client
from perdure.service import ConnectConfig, RetryConfig, RPCError, RPCStatusCode
from perdure.service._client import _TransportServiceClient

ResponseT = TypeVar("ResponseT", bound=Message)
Answer = Message | Exception | Callable[[Any], Any]


class FakeTransport:
    """Answers calls from lists of answers by RPC name; the last answer of a list is given again and again."""

    def __init__(self, answers: Mapping[str, list[Answer]] | None = None) -> None:
        self.answers = {name: list(given) for name, given in (answers or {}).items()}
        self.calls: list[tuple[str, Any, dict[str, Any], float | None]] = []
        self.closed = False

    async def call(
        self,
        service: str,
        rpc_path: str,
        request: Message,
        response_type: type[ResponseT],
        *,
        metadata: Mapping[str, str | bytes],
        timeout: float | None,
    ) -> ResponseT:
        """See `Transport.call`."""
        assert rpc_path.startswith(f"/{service}/")
        name = rpc_path.rpartition("/")[2]
        copy = type(request)()
        copy.CopyFrom(request)
        self.calls.append((name, copy, dict(metadata), timeout))
        given = self.answers.get(name)
        if not given:
            return response_type()
        answer = given.pop(0) if len(given) > 1 else given[0]
        if callable(answer) and not isinstance(answer, Exception):
            answer = answer(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, response_type)
        return answer

    async def close(self) -> None:
        """See `Transport.close`."""
        self.closed = True

    def requests(self, name: str) -> list[Any]:
        """The requests of all calls of one RPC."""
        return [request for called, request, _, _ in self.calls if called == name]


def fake_service(
    answers: Mapping[str, list[Answer]] | None = None, **config: Any
) -> tuple[_TransportServiceClient, FakeTransport]:
    """A connected service client, and its transport. Retries wait a millisecond."""
    retry = config.pop("retry_config", RetryConfig(initial_interval_millis=1, max_interval_millis=1))
    service = _TransportServiceClient(
        ConnectConfig(target_host="fake:1", identity="me", retry_config=retry, **config)
    )
    transport = FakeTransport(answers)
    service._transport = transport
    return service, transport


def fake_client(
    answers: Mapping[str, list[Answer]] | None = None, **options: Any
) -> tuple[Client, FakeTransport]:
    """A client over such a service client."""
    service, transport = fake_service(answers)
    return Client(service, namespace="ns", **options), transport


def rpc_error(status: RPCStatusCode, message: str = "no", detail: Message | None = None) -> RPCError:
    """An error as a server sends it."""
    from perdure.api.google.rpc import Status

    raw = b""
    if detail is not None:
        packed = Status(code=int(status), message=message)
        packed.details.add().Pack(detail)
        raw = packed.SerializeToString()
    return RPCError(message, status, raw)
