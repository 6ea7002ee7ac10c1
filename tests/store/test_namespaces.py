"""Conformance: namespaces."""

from __future__ import annotations

import asyncio

import pytest

from perdure.core.errors import VersionConflictError
from perdure.store.protocol import Store, StoredNamespace
from tests.store.builders import NAMESPACE, OTHER_NAMESPACE, run_key, write

FIRST = StoredNamespace(NAMESPACE, "default", 1, b"\x00config")


async def test_namespaces_are_listed_by_name_as_they_were_put(store: Store) -> None:
    assert list(await store.list_namespaces()) == []
    other = StoredNamespace(OTHER_NAMESPACE, "another", 1, b"")
    await store.put_namespace(FIRST)
    await store.put_namespace(other)
    assert list(await store.list_namespaces()) == [other, FIRST]


async def test_a_newer_version_replaces_the_stored_one_even_under_another_name(store: Store) -> None:
    await store.put_namespace(FIRST)
    renamed = StoredNamespace(NAMESPACE, "renamed", 2, b"new")
    await store.put_namespace(renamed)
    assert list(await store.list_namespaces()) == [renamed]


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_another_version_than_the_next_conflicts(store: Store, version: int) -> None:
    await store.put_namespace(FIRST)
    with pytest.raises(VersionConflictError):
        await store.put_namespace(StoredNamespace(NAMESPACE, "default", version, b"new"))
    with pytest.raises(VersionConflictError):
        await store.put_namespace(StoredNamespace(OTHER_NAMESPACE, "other", 2, b""))
    assert list(await store.list_namespaces()) == [FIRST]


async def test_a_name_belongs_to_one_namespace(store: Store) -> None:
    await store.put_namespace(FIRST)
    await store.put_namespace(StoredNamespace(OTHER_NAMESPACE, "other", 1, b""))
    for thief in (
        StoredNamespace("third", "default", 1, b""),
        StoredNamespace(OTHER_NAMESPACE, "default", 2, b""),
    ):
        with pytest.raises(VersionConflictError, match="default"):
            await store.put_namespace(thief)
    assert [namespace.name for namespace in await store.list_namespaces()] == ["default", "other"]


async def test_of_registrations_of_one_name_exactly_one_wins(store: Store) -> None:
    puts = [store.put_namespace(StoredNamespace(f"id {number}", "default", 1, b"")) for number in range(9)]
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert outcomes.count(None) == 1
    assert len(await store.list_namespaces()) == 1


async def test_a_deleted_namespace_is_gone_and_its_name_free(store: Store) -> None:
    await store.put_namespace(FIRST)
    await store.commit([write(run_key(1))])
    assert await store.delete_namespace(NAMESPACE) is True
    assert await store.delete_namespace(NAMESPACE) is False
    assert list(await store.list_namespaces()) == []
    await store.put_namespace(StoredNamespace(OTHER_NAMESPACE, "default", 1, b""))
    assert await store.load_run(run_key(1)) is not None
