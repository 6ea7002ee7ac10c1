"""Conformance: worker deployments."""

from __future__ import annotations

import pytest

from perdure.core.errors import VersionConflictError
from perdure.store.protocol import Store, StoredDeployment

FIRST = StoredDeployment("namespace", "one", 1, b"\x00data")


async def test_deployments_are_listed_by_namespace_and_name_as_they_were_put(store: Store) -> None:
    assert list(await store.list_deployments()) == []
    others = [StoredDeployment("namespace", "a", 1, b""), StoredDeployment("another", "one", 1, b"")]
    for deployment in (FIRST, *others):
        await store.put_deployment(deployment)
    assert list(await store.list_deployments()) == [others[1], others[0], FIRST]


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_another_version_than_the_next_conflicts(store: Store, version: int) -> None:
    await store.put_deployment(FIRST)
    with pytest.raises(VersionConflictError):
        await store.put_deployment(StoredDeployment("namespace", "one", version, b"new"))
    assert list(await store.list_deployments()) == [FIRST]


async def test_a_deleted_deployment_is_gone(store: Store) -> None:
    newer = StoredDeployment("namespace", "one", 2, b"new")
    await store.put_deployment(FIRST)
    await store.put_deployment(newer)
    assert list(await store.list_deployments()) == [newer]
    assert await store.delete_deployment("namespace", "one")
    assert not await store.delete_deployment("namespace", "one")
    assert list(await store.list_deployments()) == []
