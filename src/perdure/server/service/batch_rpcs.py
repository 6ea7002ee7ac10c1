"""RPCs on batch operations: start, stop, describe, list. What a job does is in `engine/batches.py`."""

from __future__ import annotations

from perdure.api.workflowservice.v1 import (
    DescribeBatchOperationRequest,
    DescribeBatchOperationResponse,
    ListBatchOperationsRequest,
    ListBatchOperationsResponse,
    StartBatchOperationRequest,
    StartBatchOperationResponse,
    StopBatchOperationRequest,
    StopBatchOperationResponse,
)
from perdure.core.batch import operations
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.limits import Limits
from perdure.server.engine.batches import Batches
from perdure.server.namespaces import Namespaces
from perdure.server.service import checks
from perdure.server.service.call import Call
from perdure.store.cursor import ListPosition, decode_cursor, encode_cursor
from perdure.store.protocol import BatchKey, BatchPosition

MAX_PAGE = 1000
MAX_EXECUTIONS = 1000
"""Executions that a request may list."""


class BatchRpcs:
    """Handlers of the RPCs on batch operations.

    Args:
        batches: the jobs.
        namespaces: for names.
        limits: the length of ids.
    """

    def __init__(self, batches: Batches, namespaces: Namespaces, limits: Limits) -> None:
        self._batches = batches
        self._namespaces = namespaces
        self._limits = limits

    async def start_batch_operation(
        self, request: StartBatchOperationRequest, call: Call
    ) -> StartBatchOperationResponse:
        """StartBatchOperation: once per job id."""
        namespace = self._namespaces.get(request.namespace)
        operations.check(request)
        if checks.too_long(request.job_id, self._limits):
            raise InvalidArgumentError("JobId length exceeds limit.")
        if checks.too_long(request.reason, self._limits):
            raise InvalidArgumentError("Reason length exceeds limit.")
        count = len(request.executions) + len(request.target_executions)
        if count > MAX_EXECUTIONS:
            raise InvalidArgumentError(f"too many executions: {count}, the limit is {MAX_EXECUTIONS}")
        await self._batches.create(namespace, request)
        return StartBatchOperationResponse()

    async def stop_batch_operation(
        self, request: StopBatchOperationRequest, call: Call
    ) -> StopBatchOperationResponse:
        """StopBatchOperation: what is under way is finished, nothing more is begun."""
        key = self._key(request)
        if not request.reason:
            raise InvalidArgumentError("Reason is not set on request.")
        await self._batches.stop_job(key, request.reason, request.identity)
        return StopBatchOperationResponse()

    async def describe_batch_operation(
        self, request: DescribeBatchOperationRequest, call: Call
    ) -> DescribeBatchOperationResponse:
        """DescribeBatchOperation: what was asked and how far it has come."""
        return await self._batches.describe(self._key(request))

    async def list_batch_operations(
        self, request: ListBatchOperationsRequest, call: Call
    ) -> ListBatchOperationsResponse:
        """ListBatchOperations: open ones first, then the last closed."""
        namespace = self._namespaces.get(request.namespace)
        size = request.page_size if 0 < request.page_size <= MAX_PAGE else MAX_PAGE
        after = BatchPosition(*decode_cursor(request.next_page_token)) if request.next_page_token else None
        shown, last = await self._batches.listed(namespace, after, size)
        token = b"" if last is None else encode_cursor(ListPosition(*last))
        return ListBatchOperationsResponse(operation_info=shown, next_page_token=token)

    def _key(self, request: StopBatchOperationRequest | DescribeBatchOperationRequest) -> BatchKey:
        namespace = self._namespaces.get(request.namespace)
        if not request.job_id:
            raise InvalidArgumentError("JobId is not set on request.")
        return BatchKey(namespace.namespace_id, request.job_id)
