"""The client of all services of one server: connecting, metadata, deadlines, retries.

May live here: what every call has in common. May not: transports, or what a call means.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self, TypeVar
from weakref import WeakKeyDictionary

from google.protobuf.message import Message

from perdure import __version__
from perdure.converter._payload_limits import LargeField, PayloadSizeLimits, large_fields
from perdure.service._config import CLIENT_NAME, ConnectConfig, ConnectionSettings
from perdure.service._connect_advice import connect_advice
from perdure.service._errors import (
    ClientClosedError,
    ClientConnectError,
    NoGrpcAnswerError,
    RPCError,
    RPCStatusCode,
)
from perdure.service._metadata import Headers
from perdure.service._methods import (
    CloudService,
    HealthService,
    Method,
    OperatorService,
    TestService,
    WorkflowService,
    find_method,
)
from perdure.service._retry import Retrier
from perdure.service.transport import Transport, opener_for

if TYPE_CHECKING:
    from perdure.api.workflowservice.v1 import GetSystemInfoResponse
    from perdure.runtime import Runtime
    from perdure.service._metrics import CallMetrics

ResponseT = TypeVar("ResponseT", bound=Message)

logger = logging.getLogger("perdure.service")

DEFAULT_TIMEOUT_S: Final = 30.0
# A server answers a long poll after 60 seconds at the latest.
LONG_POLL_TIMEOUT_S: Final = 70.0
_WARN_AFTER_TRIES: Final = 5


class ServiceClient(ABC):
    """Client of a server's services; `connect` makes one.

    Args:
        config: How it is, or will be, connected.
    """

    @staticmethod
    async def connect(config: ConnectConfig) -> ServiceClient:
        """Connect to a server or open an embedded engine.

        Raises:
            ClientConnectError: There is no server at the address, or it did not accept the connection.
            ValueError: The configuration contradicts itself.
        """
        client = _TransportServiceClient(config)
        if not config.lazy:
            await client._connected_transport()
        return client

    def __init__(self, config: ConnectConfig) -> None:
        super().__init__()
        self.config = config
        self.workflow_service = WorkflowService(self)
        self.operator_service = OperatorService(self)
        self.cloud_service = CloudService(self)
        self.test_service = TestService(self)
        self.health_service = HealthService(self)

    async def check_health(
        self,
        *,
        service: str = "temporal.api.workflowservice.v1.WorkflowService",
        retry: bool = False,
        metadata: Mapping[str, str | bytes] = {},
        timeout: timedelta | None = None,
    ) -> bool:
        """Ask whether a service is being served.

        Args:
            service: Full name of the service.
            retry: Repeat the call as the client's `RetryConfig` says.
            metadata: Metadata of this call.
            timeout: Limit of every try.

        Returns:
            True if it is served; False if the server runs without serving it at the moment.

        Raises:
            RPCError: The server cannot be reached or does not know the service.
        """
        from grpc_health.v1 import health_pb2

        response = await self.health_service.check(
            health_pb2.HealthCheckRequest(service=service), retry=retry, metadata=metadata, timeout=timeout
        )
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:  # noqa: B027 - a client with nothing to close need not say so
        """Close the connection; calls in flight end with an error. Closing twice is fine."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    @abstractmethod
    def worker_service_client(self) -> ServiceClient:
        """The service client that workers poll with."""

    @abstractmethod
    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        """Replace the metadata sent with every call.

        Raises:
            TypeError: A value is neither str nor bytes.
            ValueError: A key does not fit its value.
        """

    @abstractmethod
    def update_api_key(self, api_key: str | None) -> None:
        """Replace the API key, or remove it with None.

        Raises:
            ValueError: The key cannot be sent.
        """

    def _is_from_other_process(self) -> bool:
        """Whether it was connected by the process that this one was forked from, and cannot be used here."""
        return False

    @abstractmethod
    async def _rpc_call(
        self,
        rpc: str,
        req: Message,
        resp_type: type[ResponseT],
        *,
        service: str,
        retry: bool,
        metadata: Mapping[str, str | bytes],
        timeout: timedelta | None,
    ) -> ResponseT: ...


class _TransportServiceClient(ServiceClient):
    """A service client over a `Transport`."""

    def __init__(self, config: ConnectConfig) -> None:
        super().__init__(config)
        # Checked here and not with the first call, so that a lazy client's mistakes are found at once too.
        self._settings = config._to_bridge_config()
        self._large_sizes = PayloadSizeLimits(
            config.payload_limits.payloads_warn_size, config.payload_limits.memo_warn_size
        )
        self._headers = Headers(
            {"client-name": CLIENT_NAME, "client-version": __version__}, config.rpc_metadata, config.api_key
        )
        self._transport: Transport | None = None
        self._runtime: Runtime | None = None
        self._metrics: CallMetrics | None = None
        # Calls of one loop share an attempt to connect; a lock belongs to its loop.
        self._connect_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._state_lock = threading.Lock()
        self._closed = False
        self._system_info: GetSystemInfoResponse | None = None
        self._process_id: int | None = None

    @property
    def worker_service_client(self) -> _TransportServiceClient:
        """This client: workers and users share a connection."""
        return self

    @property
    def system_info(self) -> GetSystemInfoResponse | None:
        """What the server said of itself when the connection was made; None before, and for very old servers."""
        return self._system_info

    def _is_from_other_process(self) -> bool:
        return self._process_id not in (None, os.getpid())

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        self._headers.update(metadata)

    def update_api_key(self, api_key: str | None) -> None:
        self._headers.update_api_key(api_key)

    async def close(self) -> None:
        with self._state_lock:
            self._closed = True
            transport, self._transport = self._transport, None
        # What a forked child closes is its parent's: a socket in use, an engine on a loop that does not run here.
        if transport is not None and not self._is_from_other_process():
            await transport.close()

    async def _connected_transport(self) -> Transport:
        """The transport, which the first call opens.

        Raises:
            ClientClosedError: The client has been closed, possibly while this call was connecting.
            ClientConnectError: There is no server, or it did not accept the connection.
        """
        with self._state_lock:
            lock = self._connect_locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            if self._closed:
                raise ClientClosedError
            if self._transport is not None:
                return self._transport
            opened = await self._connect()
            kept = self._keep(opened)
        if kept is not opened:
            await opened.close()
        if kept is None:
            raise ClientClosedError
        return kept

    def _keep(self, opened: Transport) -> Transport | None:
        """The client's transport from now on; None if it has been closed meanwhile."""
        with self._state_lock:
            # A thread with a loop of its own may have been faster.
            if self._transport is None and not self._closed:
                self._transport = opened
            return self._transport

    async def _connect(self) -> Transport:
        from perdure.runtime import Runtime

        self._runtime = self.config.runtime or Runtime.default()
        self._metrics = self._runtime._call_metrics()
        opener = opener_for(self.config.target_host)
        if opener is not None:
            transport = await opener(self.config.target_host)
        else:
            # Before grpcio is imported: its handling of forks crashes child processes, such as those of activities.
            os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
            transport = await _open_grpc(self._settings)
        try:
            self._system_info = await self._get_system_info(transport)
        except BaseException:
            # Cancelled too: nobody else knows of this transport.
            await transport.close()
            raise
        self._process_id = os.getpid()
        return transport

    async def _get_system_info(self, transport: Transport) -> GetSystemInfoResponse | None:
        from perdure.api.workflowservice.v1 import GetSystemInfoRequest, GetSystemInfoResponse

        method = find_method("workflow", "get_system_info")
        limit = self.config.connect_timeout
        try:
            return await transport.call(
                method.service,
                method.path,
                GetSystemInfoRequest(),
                GetSystemInfoResponse,
                metadata=self._headers.for_call({}),
                timeout=DEFAULT_TIMEOUT_S if limit is None else limit.total_seconds(),
            )
        except RPCError as error:
            if error.status is RPCStatusCode.UNIMPLEMENTED and not isinstance(error, NoGrpcAnswerError):
                return None  # a server from before there was this call
            raise ClientConnectError(connect_advice(self.config, self._settings, error)) from error

    async def _rpc_call(
        self,
        rpc: str,
        req: Message,
        resp_type: type[ResponseT],
        *,
        service: str,
        retry: bool,
        metadata: Mapping[str, str | bytes],
        timeout: timedelta | None,
    ) -> ResponseT:
        method = find_method(service, rpc)
        headers = self._headers.for_call(metadata)
        transport = self._transport or await self._connected_transport()
        for large in large_fields(req, self._large_sizes):
            self._warn_of_size(method, large)
        long_poll = method.long_poll or (method.may_wait and bool(getattr(req, "wait_new_event", False)))
        if timeout:
            timeout_s = timeout.total_seconds()
        else:
            timeout_s = LONG_POLL_TIMEOUT_S if long_poll and retry else DEFAULT_TIMEOUT_S

        def attempt() -> Awaitable[ResponseT]:
            answer = transport.call(
                method.service, method.path, req, resp_type, metadata=headers, timeout=timeout_s
            )
            metrics = self._metrics
            return answer if metrics is None else metrics.measured(method, req, long_poll, answer)

        try:
            return await (self._repeated(method, attempt) if retry else attempt())
        except RPCError as error:
            _add_namespace_advice(error, req)
            raise

    async def _repeated(self, method: Method, attempt: Callable[[], Awaitable[ResponseT]]) -> ResponseT:
        """Make a call until it succeeds, or its error or the retry configuration says that it is over."""
        started_s = time.monotonic()
        retrier: Retrier | None = None
        while True:
            try:
                return await attempt()
            except RPCError as error:
                if retrier is None:
                    retrier = Retrier(self._settings.retry_config, random.random)
                wait_s = retrier.wait_s(error, time.monotonic() - started_s)
                if wait_s is None or self._closed:
                    raise
                self._log_retry(method, retrier.tries, error, wait_s)
            await asyncio.sleep(wait_s)

    def _warn_of_size(self, method: Method, large: LargeField) -> None:
        from perdure.runtime._runtime import log

        # The code in brackets is that of the official SDKs: people look it up and tools match it.
        message = f"[TMPRL1103] Attempted to upload {large.kind} with size that exceeded the warning limit."
        fields = {
            "size": large.size_bytes,
            "limit": large.limit_bytes,
            "field": large.path,
            "rpc": method.name,
            "advice": "send less, or a reference to it; a data converter with external_storage does that by itself",
        }
        log(self._runtime, logging.WARNING, "perdure.service", message, fields)

    def _log_retry(self, method: Method, tries: int, error: RPCError, wait_s: float) -> None:
        level = logging.WARNING if tries >= _WARN_AFTER_TRIES else logging.DEBUG
        logger.log(
            level,
            "%s failed %d times (%s: %s); next try in %.1f s",
            *(method.name, tries, error.status.name, error.message, wait_s),
        )


async def _open_grpc(settings: ConnectionSettings) -> Transport:
    """Open the transport to a server: our own without TLS, that of grpcio for what only it can do."""
    from perdure.service.http2.transport import Http2Transport, address_of

    address = address_of(settings)
    if address is not None:
        return Http2Transport(settings, address)
    from perdure.service.grpc_transport import open_grpc

    return await open_grpc(settings)


def _add_namespace_advice(error: RPCError, request: Message) -> None:
    """Add to an error about an unknown namespace what to do about it."""
    if error.status is not RPCStatusCode.NOT_FOUND or not error.message.startswith("Namespace "):
        return
    namespace = getattr(request, "namespace", "")
    error.add_note(
        f"The call was about namespace {namespace!r}. Connect with one that exists, or create it: "
        f"perdure operator namespace create --namespace {namespace}"
    )
