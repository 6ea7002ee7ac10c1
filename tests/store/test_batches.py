"""Conformance: batch operations."""

from __future__ import annotations

import pytest

from perdure.core.errors import VersionConflictError
from perdure.store.protocol import BatchKey, BatchPosition, Store, StoredBatch
from tests.store.builders import NAMESPACE, OTHER_NAMESPACE

KEY = BatchKey(NAMESPACE, "job")
OTHER = BatchKey(OTHER_NAMESPACE, "job")


def batch(
    key: BatchKey = KEY,
    version: int = 1,
    *,
    start_ns: int = 5,
    close_ns: int | None = None,
    data: bytes = b"data",
) -> StoredBatch:
    """A batch operation whose entry names it."""
    return StoredBatch(key, version, start_ns, close_ns, key.job_id.encode(), data)


async def _listed(store: Store, size: int) -> list[str]:
    """The ids in the order of the list, read in pages."""
    found: list[str] = []
    after: BatchPosition | None = None
    while rows := await store.list_batches(NAMESPACE, after, size):
        assert len(rows) <= size
        found += [entry.decode() for _, entry in rows]
        after = rows[-1][0]
    return found


async def test_a_batch_is_loaded_as_it_was_put_last(store: Store) -> None:
    assert await store.load_batch(KEY) is None
    for version, close_ns in ((1, None), (2, None), (3, 9)):
        stored = batch(version=version, close_ns=close_ns, data=b"%d" % version)
        await store.put_batch(stored)
        assert await store.load_batch(KEY) == stored
    assert await store.load_batch(OTHER) is None


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_another_version_than_the_next_conflicts_and_changes_nothing(
    store: Store, version: int
) -> None:
    await store.put_batch(batch())
    with pytest.raises(VersionConflictError, match="job"):
        await store.put_batch(batch(version=version, data=b"other"))
    with pytest.raises(VersionConflictError):
        await store.put_batch(batch(OTHER, version=2))
    assert await store.load_batch(KEY) == batch()


async def test_a_deleted_batch_is_gone_and_its_id_free(store: Store) -> None:
    await store.put_batch(batch())
    await store.put_batch(batch(OTHER))
    assert await store.delete_batch(KEY) is True
    assert await store.delete_batch(KEY) is False
    assert await store.load_batch(KEY) is None
    assert await _listed(store, 5) == []
    assert await store.load_batch(OTHER) == batch(OTHER)
    await store.put_batch(batch())


@pytest.mark.parametrize("size", [1, 2, 10])
async def test_lists_show_open_batches_first_and_then_the_last_closed(store: Store, size: int) -> None:
    """In pages that neither leave out nor repeat any, those of equal times included."""
    times = {
        "a": (5, None),
        "b": (6, None),
        "c": (1, 9),
        "d": (2, 9),
        "e": (2, 9),
        "f": (3, 20),
        "g": (6, None),
    }
    for name, (start_ns, close_ns) in times.items():
        await store.put_batch(batch(BatchKey(NAMESPACE, name), start_ns=start_ns, close_ns=close_ns))
    await store.put_batch(batch(OTHER))
    assert await _listed(store, size) == ["b", "g", "a", "f", "d", "e", "c"]
