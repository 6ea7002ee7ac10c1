"""Conformance: configurations of task queues."""

from __future__ import annotations

import pytest

from perdure.core.errors import VersionConflictError
from perdure.store.protocol import Store, StoredQueueConfig
from tests.store.builders import QUEUE

FIRST = StoredQueueConfig(QUEUE, 1, b"\x00data")


async def test_configurations_are_listed_by_queue_as_they_were_put(store: Store) -> None:
    assert list(await store.list_queue_configs()) == []
    other = StoredQueueConfig(QUEUE._replace(name="another"), 1, b"")
    for config in (FIRST, other):
        await store.put_queue_config(config)
    assert list(await store.list_queue_configs()) == sorted((FIRST, other), key=lambda kept: kept.queue)


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_another_version_than_the_next_conflicts(store: Store, version: int) -> None:
    await store.put_queue_config(FIRST)
    with pytest.raises(VersionConflictError):
        await store.put_queue_config(StoredQueueConfig(QUEUE, version, b"new"))
    assert list(await store.list_queue_configs()) == [FIRST]


async def test_a_deleted_configuration_is_gone(store: Store) -> None:
    newer = StoredQueueConfig(QUEUE, 2, b"new")
    await store.put_queue_config(FIRST)
    await store.put_queue_config(newer)
    assert list(await store.list_queue_configs()) == [newer]
    assert await store.delete_queue_config(QUEUE)
    assert not await store.delete_queue_config(QUEUE)
    assert list(await store.list_queue_configs()) == []
