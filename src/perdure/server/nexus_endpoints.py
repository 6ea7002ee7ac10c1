"""The registry of Nexus endpoints: names of handlers that workflows call. Kept in the store, held in memory whole.

A worker target is kept by its namespace's id; what it is called is looked up when the endpoint is shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from perdure.api.common.v1 import Payload
from perdure.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    NotFoundError,
    ResourceExhaustedError,
)
from perdure.core.run.state import Record, encode
from perdure.server.registry import Registry
from perdure.store.protocol import Store, StoredEndpoint

MAX_ENDPOINTS = 10_000
"""Endpoints that a server keeps: they are all in memory."""


class _Data(Record):
    """What is stored of an endpoint beside its id, name and version."""

    description: bytes = b""
    namespace_id: str = ""
    task_queue: str = ""
    url: str = ""
    created_ns: int = 0
    modified_ns: int = 0


_DECODER = msgspec.json.Decoder(_Data)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint.

    Attributes:
        endpoint_id: a UUID.
        name: unique on this server.
        version: 1 for a new one, one more with each update.
        description: for people; None when there is none.
        namespace_id, task_queue: where its handlers poll; empty for an external one.
        url: where its handlers are reached by HTTP; empty for workers.
        created_ns, modified_ns: times, nanoseconds since the epoch; 0 while it was never modified.
    """

    endpoint_id: str
    name: str
    version: int
    description: Payload | None
    namespace_id: str
    task_queue: str
    url: str
    created_ns: int
    modified_ns: int = 0


class NexusEndpoints(Registry):
    """All endpoints of a store, in memory.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        super().__init__("Nexus endpoint")
        self._store = store
        self._by_id: dict[str, Endpoint] = {}
        self._by_name: dict[str, Endpoint] = {}

    async def load(self) -> None:
        """Reads every endpoint; called once at start."""
        found = await self._store.list_endpoints()
        self._by_id.clear()
        self._by_name.clear()
        for stored in found:
            self._remember(_decode(stored))

    def by_id(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint of this id, or None."""
        return self._by_id.get(endpoint_id)

    def by_name(self, name: str) -> Endpoint | None:
        """The endpoint of this name, or None."""
        return self._by_name.get(name)

    def targeting(self, namespace_id: str) -> Endpoint | None:
        """An endpoint whose handlers poll in this namespace, or None."""
        return next((each for each in self._by_id.values() if each.namespace_id == namespace_id), None)

    def page(self, first_id: str, size: int) -> tuple[Sequence[Endpoint], str]:
        """At most `size` endpoints from `first_id` on in the order of ids ("" for the first), and where the next page
        starts ("" after the last).

        Raises:
            FailedPreconditionError: there is no endpoint of this id any more.
        """
        ids = sorted(self._by_id)
        start = bisect_left(ids, first_id)
        if first_id and (start == len(ids) or ids[start] != first_id):
            raise FailedPreconditionError(
                "could not find endpoint indicated by nexus list endpoints next page token"
            )
        rows = [self._by_id[endpoint_id] for endpoint_id in ids[start : start + size]]
        return rows, ids[start + size] if start + size < len(ids) else ""

    async def create(self, endpoint: Endpoint) -> Endpoint:
        """Adds an endpoint; returns it with its version.

        Raises:
            AlreadyExistsError: the name is taken.
            ResourceExhaustedError: there are too many.
            UnavailableError: the store cannot write now.
        """
        return await self._finished(self._create(replace(endpoint, version=1)))

    async def _create(self, endpoint: Endpoint) -> Endpoint:
        await self._without_doubt()
        if endpoint.name in self._by_name:
            raise AlreadyExistsError(
                f"error creating Nexus endpoint. Endpoint with name {endpoint.name} already registered"
            )
        if len(self._by_id) >= MAX_ENDPOINTS:
            raise ResourceExhaustedError(f"cannot register more than {MAX_ENDPOINTS} Nexus endpoints")
        return await self._put(endpoint)

    async def update(self, endpoint: Endpoint) -> Endpoint:
        """Replaces an endpoint; `endpoint.version` is the one it was read at. Returns it with its new version.

        Raises:
            NotFoundError: there is no endpoint of this id.
            FailedPreconditionError: it is at another version.
            AlreadyExistsError: another endpoint has the name.
            UnavailableError: the store cannot write now.
        """
        return await self._finished(self._update(endpoint))

    async def _update(self, endpoint: Endpoint) -> Endpoint:
        await self._without_doubt()
        endpoint_id = endpoint.endpoint_id
        stored = self._by_id.get(endpoint_id)
        if stored is None:
            raise NotFoundError(f"error updating Nexus endpoint. endpoint ID {endpoint_id} not found")
        if stored.version != endpoint.version:
            raise FailedPreconditionError(
                f"nexus endpoint version mismatch. received: {endpoint.version} expected {stored.version}"
            )
        other = self._by_name.get(endpoint.name)
        if other is not None and other.endpoint_id != endpoint_id:
            raise AlreadyExistsError(
                f"error updating Nexus endpoint. Endpoint with name {endpoint.name} already registered"
            )
        return await self._put(replace(endpoint, version=stored.version + 1))

    async def delete(self, endpoint_id: str) -> None:
        """Removes an endpoint.

        Raises:
            NotFoundError: there is no endpoint of this id.
            UnavailableError: the store cannot write now.
        """
        await self._finished(self._delete(endpoint_id))

    async def _delete(self, endpoint_id: str) -> None:
        await self._without_doubt()
        endpoint = self._by_id.get(endpoint_id)
        if endpoint is None:
            raise NotFoundError(f"error deleting nexus endpoint with ID: {endpoint_id}")
        await self._written(self._store.delete_endpoint(endpoint_id))
        self._by_id.pop(endpoint_id, None)
        if self._by_name.get(endpoint.name) is endpoint:
            del self._by_name[endpoint.name]

    async def _put(self, endpoint: Endpoint) -> Endpoint:
        await self._written(self._store.put_endpoint(_encode(endpoint)))
        self._remember(endpoint)
        return endpoint

    def _remember(self, endpoint: Endpoint) -> None:
        previous = self._by_id.get(endpoint.endpoint_id)
        if previous is not None:
            self._by_name.pop(previous.name, None)
        self._by_id[endpoint.endpoint_id] = endpoint
        self._by_name[endpoint.name] = endpoint


def _encode(endpoint: Endpoint) -> StoredEndpoint:
    data = _Data(
        description=endpoint.description.SerializeToString() if endpoint.description is not None else b"",
        namespace_id=endpoint.namespace_id,
        task_queue=endpoint.task_queue,
        url=endpoint.url,
        created_ns=endpoint.created_ns,
        modified_ns=endpoint.modified_ns,
    )
    return StoredEndpoint(endpoint.endpoint_id, endpoint.name, endpoint.version, encode(data))


def _decode(stored: StoredEndpoint) -> Endpoint:
    data = _DECODER.decode(stored.data)
    return Endpoint(
        stored.endpoint_id,
        stored.name,
        stored.version,
        Payload.FromString(data.description) if data.description else None,
        data.namespace_id,
        data.task_queue,
        data.url,
        data.created_ns,
        data.modified_ns,
    )
