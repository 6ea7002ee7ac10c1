"""Conformance: Nexus endpoints."""

from __future__ import annotations

import asyncio

import pytest

from perdure.core.errors import VersionConflictError
from perdure.store.protocol import Store, StoredEndpoint

FIRST = StoredEndpoint("id 1", "one", 1, b"\x00data")


async def test_endpoints_are_listed_by_id_as_they_were_put(store: Store) -> None:
    assert list(await store.list_endpoints()) == []
    other = StoredEndpoint("id 0", "two", 1, b"")
    await store.put_endpoint(FIRST)
    await store.put_endpoint(other)
    assert list(await store.list_endpoints()) == [other, FIRST]


async def test_a_newer_version_replaces_the_stored_one_even_under_another_name(store: Store) -> None:
    await store.put_endpoint(FIRST)
    renamed = StoredEndpoint("id 1", "renamed", 2, b"new")
    await store.put_endpoint(renamed)
    assert list(await store.list_endpoints()) == [renamed]


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_another_version_than_the_next_conflicts(store: Store, version: int) -> None:
    await store.put_endpoint(FIRST)
    with pytest.raises(VersionConflictError):
        await store.put_endpoint(StoredEndpoint("id 1", "one", version, b"new"))
    assert list(await store.list_endpoints()) == [FIRST]


async def test_a_name_belongs_to_one_endpoint(store: Store) -> None:
    await store.put_endpoint(FIRST)
    await store.put_endpoint(StoredEndpoint("id 2", "two", 1, b""))
    for thief in (StoredEndpoint("id 3", "one", 1, b""), StoredEndpoint("id 2", "one", 2, b"")):
        with pytest.raises(VersionConflictError, match="one"):
            await store.put_endpoint(thief)
    puts = [store.put_endpoint(StoredEndpoint(f"id {number}", "new", 1, b"")) for number in range(5, 12)]
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert outcomes.count(None) == 1


async def test_a_deleted_endpoint_is_gone_and_its_name_free(store: Store) -> None:
    await store.put_endpoint(FIRST)
    assert await store.delete_endpoint("id 1") is True
    assert await store.delete_endpoint("id 1") is False
    await store.put_endpoint(StoredEndpoint("id 2", "one", 1, b""))
    assert [endpoint.endpoint_id for endpoint in await store.list_endpoints()] == ["id 2"]
