"""What all calls of a client have in common.

May live here: how a call is made and its payloads are converted. May not: any single call.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from perdure.client._interceptor import OutboundInterceptor
from perdure.client._wire import _apply_headers
from perdure.common import HeaderCodecBehavior
from perdure.converter import (
    DataConverter,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)

if TYPE_CHECKING:
    from perdure.api.common.v1 import Payload
    from perdure.client._client import Client
    from perdure.service._methods import UnaryCall


class RpcInput(Protocol):
    """What every input of a call has."""

    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


class ImplBase(OutboundInterceptor):
    """The end of the chain of interceptors.

    Args:
        client: The client whose calls these are.
    """

    def __init__(self, client: Client) -> None:
        # There is no next one: the base class's own `__init__` is left out on purpose.
        self._client = client

    async def _call(self, call: UnaryCall, request: Any, input: RpcInput) -> Any:
        """Make a call with retries."""
        return await call(request, retry=True, metadata=input.rpc_metadata, timeout=input.rpc_timeout)

    def _workflow_converter(
        self, workflow_id: str, *, run_id: str | None = None, workflow_type: str | None = None
    ) -> DataConverter:
        """Return the data converter for payloads sent to a workflow."""
        namespace = self._client.namespace
        converter = self._client.data_converter._for_workflow(namespace, workflow_id)
        if converter.external_storage is None:
            return converter
        target = StorageDriverWorkflowInfo(
            id=workflow_id, run_id=run_id or None, type=workflow_type, namespace=namespace
        )
        return converter._with_store_context(StorageDriverStoreContext(target=target))

    async def _apply_headers(self, source: Mapping[str, Payload] | None, dest: Any) -> None:
        behavior = self._client._config["header_codec_behavior"]
        await _apply_headers(source, dest, behavior is HeaderCodecBehavior.CODEC, self._client.data_converter)
