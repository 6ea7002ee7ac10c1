"""RPCs on the registry of Nexus endpoints."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from perdure.api.nexus.v1 import Endpoint as EndpointMessage
from perdure.api.nexus.v1 import EndpointSpec
from perdure.api.operatorservice.v1 import (
    CreateNexusEndpointRequest,
    CreateNexusEndpointResponse,
    DeleteNexusEndpointRequest,
    DeleteNexusEndpointResponse,
    GetNexusEndpointRequest,
    GetNexusEndpointResponse,
    ListNexusEndpointsRequest,
    ListNexusEndpointsResponse,
    UpdateNexusEndpointRequest,
    UpdateNexusEndpointResponse,
)
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from perdure.core.run.limits import Limits
from perdure.core.run.protos import set_timestamp
from perdure.server.namespaces import ALL_STATES, Namespaces
from perdure.server.nexus_endpoints import Endpoint, NexusEndpoints
from perdure.server.runtime import Runtime
from perdure.server.service import checks
from perdure.server.service.call import Call

MAX_NAME_BYTES = 200
MAX_DESCRIPTION_BYTES = 20_000
MAX_URL_BYTES = 4 * 1024
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9\-]*[a-zA-Z0-9]")
_NAME_TEXT = r"^[a-zA-Z][a-zA-Z0-9\\-]*[a-zA-Z0-9]$"
_UUID_LENGTHS = (32, 36, 38, 45)
"""How long a UUID's text may be in the forms that are accepted: bare, with dashes, in braces, as a URN."""


class NexusEndpointRpcs:
    """Handlers of the RPCs on Nexus endpoints.

    Args:
        endpoints: the registry.
        namespaces: those that endpoints point to.
        runtime: clock and ids.
        limits: of names of task queues.
    """

    def __init__(
        self, endpoints: NexusEndpoints, namespaces: Namespaces, runtime: Runtime, limits: Limits
    ) -> None:
        self._endpoints = endpoints
        self._namespaces = namespaces
        self._runtime = runtime
        self._limits = limits

    async def create_nexus_endpoint(
        self, request: CreateNexusEndpointRequest, call: Call
    ) -> CreateNexusEndpointResponse:
        """OperatorService.CreateNexusEndpoint: names are unique on a server."""
        self._check_spec(request.spec)
        now_ns = self._runtime.now_ns()
        created = await self._endpoints.create(self._of(request.spec, self._runtime.new_id(), 0, now_ns))
        return CreateNexusEndpointResponse(endpoint=self._shown(created))

    async def update_nexus_endpoint(
        self, request: UpdateNexusEndpointRequest, call: Call
    ) -> UpdateNexusEndpointResponse:
        """OperatorService.UpdateNexusEndpoint: replaces the spec of the version that the caller has read."""
        self._check_spec(request.spec)
        stored = self._endpoints.by_id(request.id)
        created_ns = stored.created_ns if stored is not None else 0
        changed = self._of(request.spec, request.id, request.version, created_ns, self._runtime.now_ns())
        return UpdateNexusEndpointResponse(endpoint=self._shown(await self._endpoints.update(changed)))

    async def delete_nexus_endpoint(
        self, request: DeleteNexusEndpointRequest, call: Call
    ) -> DeleteNexusEndpointResponse:
        """OperatorService.DeleteNexusEndpoint: whatever its version is."""
        issues = _id_issues(request.id)
        if request.version <= 0:
            issues.append("endpoint version is non-positive")
        _raise(issues)
        await self._endpoints.delete(request.id)
        return DeleteNexusEndpointResponse()

    async def get_nexus_endpoint(
        self, request: GetNexusEndpointRequest, call: Call
    ) -> GetNexusEndpointResponse:
        """OperatorService.GetNexusEndpoint."""
        _raise(_id_issues(request.id))
        found = self._endpoints.by_id(request.id)
        if found is None:
            raise NotFoundError(f"Nexus endpoint with ID `{request.id}` not found")
        return GetNexusEndpointResponse(endpoint=self._shown(found))

    async def list_nexus_endpoints(
        self, request: ListNexusEndpointsRequest, call: Call
    ) -> ListNexusEndpointsResponse:
        """OperatorService.ListNexusEndpoints: in the order of ids, or the one of a name."""
        if request.name:
            found = self._endpoints.by_name(request.name)
            return ListNexusEndpointsResponse(endpoints=[self._shown(found)] if found is not None else [])
        size = request.page_size
        if size < 0:
            raise InvalidArgumentError("page_size is negative")
        if size > MAX_PAGE_SIZE:
            raise InvalidArgumentError(f"page_size exceeds limit of {MAX_PAGE_SIZE}")
        first_id = request.next_page_token.decode("ascii", "replace")
        rows, next_id = self._endpoints.page(first_id, size or DEFAULT_PAGE_SIZE)
        return ListNexusEndpointsResponse(
            endpoints=[self._shown(row) for row in rows], next_page_token=next_id.encode()
        )

    # --- from and to messages

    def _check_spec(self, spec: EndpointSpec) -> None:
        issues = _name_issues(spec.name)
        target = spec.target
        variant = target.WhichOneof("variant")
        if variant is None:
            issues.append("empty target variant")
        elif variant == "worker":
            issues += self._worker_issues(target.worker.namespace, target.worker.task_queue)
        else:
            issues += _url_issues(target.external.url)
        if variant is not None and spec.description.ByteSize() > MAX_DESCRIPTION_BYTES:
            issues.append(f"description size exceeds limit of {MAX_DESCRIPTION_BYTES}")
        _raise(issues)

    def _worker_issues(self, namespace: str, task_queue: str) -> list[str]:
        issues = []
        if not namespace:
            issues.append("target namespace not set")
        elif not self._namespaces.has(namespace):
            raise FailedPreconditionError(
                f"could not verify namespace referenced by target exists: Namespace {namespace} is not found."
            )
        try:
            checks.task_queue(TaskQueue(name=task_queue) if task_queue else None, self._limits)
        except InvalidArgumentError as error:
            issues.append(f'invalid target task queue: "{error}"')
        return issues

    def _of(
        self, spec: EndpointSpec, endpoint_id: str, version: int, created_ns: int, modified_ns: int = 0
    ) -> Endpoint:
        worker = spec.target.worker
        is_worker = spec.target.HasField("worker")
        return Endpoint(
            endpoint_id,
            spec.name,
            version,
            spec.description if spec.HasField("description") else None,
            self._namespaces.get(worker.namespace, ALL_STATES).namespace_id if is_worker else "",
            worker.task_queue if is_worker else "",
            "" if is_worker else spec.target.external.url,
            created_ns,
            modified_ns,
        )

    def _shown(self, endpoint: Endpoint) -> EndpointMessage:
        message = EndpointMessage(id=endpoint.endpoint_id, version=endpoint.version)
        spec = message.spec
        spec.name = endpoint.name
        if endpoint.description is not None:
            spec.description.CopyFrom(endpoint.description)
        if endpoint.url:
            spec.target.external.url = endpoint.url
        else:
            namespace = self._namespaces.by_id(endpoint.namespace_id)
            # The name of a namespace that is gone is not known any more: its id still says which one it was.
            spec.target.worker.namespace = namespace.name if namespace is not None else endpoint.namespace_id
            spec.target.worker.task_queue = endpoint.task_queue
        set_timestamp(message.created_time, endpoint.created_ns)
        if endpoint.modified_ns:
            set_timestamp(message.last_modified_time, endpoint.modified_ns)
        message.url_prefix = f"/nexus/endpoints/{endpoint.endpoint_id}/services"
        return message


def _raise(issues: list[str]) -> None:
    if issues:
        raise InvalidArgumentError(", ".join(issues))


def _name_issues(name: str) -> list[str]:
    if not name:
        return ["endpoint name not set"]
    issues = []
    if len(name.encode()) > MAX_NAME_BYTES:
        issues.append(f"endpoint name exceeds length limit of {MAX_NAME_BYTES}")
    if not _NAME.fullmatch(name):
        issues.append(f'endpoint name must match the regex: "{_NAME_TEXT}"')
    return issues


def _url_issues(url: str) -> list[str]:
    if not url:
        return ["empty target URL"]
    if len(url.encode()) > MAX_URL_BYTES:
        return [f"target URL length exceeds limit of {MAX_URL_BYTES}"]
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        return [f"invalid target URL: {error}"]
    if scheme not in ("http", "https"):
        return [f'invalid target URL scheme: "{scheme}", expected http or https']
    return []


def _id_issues(endpoint_id: str) -> list[str]:
    if not endpoint_id:
        return ["endpoint ID not set"]
    if checks.is_uuid(endpoint_id):
        return []
    length = len(endpoint_id.encode())
    reason = "invalid UUID format" if length in _UUID_LENGTHS else f"invalid UUID length: {length}"
    return [f'malformed endpoint ID: "{reason}"']
