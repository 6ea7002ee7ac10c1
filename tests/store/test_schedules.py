"""Conformance: schedules."""

from __future__ import annotations

import pytest

from perdure.core.errors import CurrentRunConflictError, StoreUnavailableError, VersionConflictError
from perdure.store.protocol import ScheduleKey, ScheduleWakeup, Store, StoredSchedule
from tests.store.builders import NAMESPACE, OTHER_NAMESPACE, run_key, write

KEY = ScheduleKey(NAMESPACE, "nightly")
OTHER = ScheduleKey(OTHER_NAMESPACE, "nightly")


def schedule(
    key: ScheduleKey = KEY, version: int = 1, wakeup_ns: int | None = None, data: bytes = b"data \x00"
) -> StoredSchedule:
    """A schedule whose entry names it."""
    return StoredSchedule(key, version, wakeup_ns, f"entry of {key.schedule_id} {version}".encode(), data)


async def test_a_schedule_is_loaded_as_it_was_put_last(store: Store) -> None:
    assert await store.load_schedule(KEY) is None
    for version, wakeup_ns in ((1, 5), (2, None), (3, 7)):
        await store.put_schedule(schedule(version=version, wakeup_ns=wakeup_ns))
        assert await store.load_schedule(KEY) == schedule(version=version, wakeup_ns=wakeup_ns)
    assert await store.load_schedule(OTHER) is None


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_another_version_than_the_next_conflicts_and_changes_nothing(
    store: Store, version: int
) -> None:
    await store.put_schedule(schedule(wakeup_ns=3))
    with pytest.raises(VersionConflictError, match="nightly"):
        await store.put_schedule(schedule(version=version, wakeup_ns=9, data=b"other"))
    with pytest.raises(VersionConflictError):
        await store.put_schedule(schedule(OTHER, version=2))
    assert await store.load_schedule(KEY) == schedule(wakeup_ns=3)
    assert await store.due_schedules(100, None, 10) == (ScheduleWakeup(3, KEY),)


async def test_a_schedule_is_written_with_the_runs_that_it_starts_or_neither_is(store: Store) -> None:
    """Whatever one of them conflicts with, of all that was to be written nothing is."""
    await store.put_schedule(schedule(wakeup_ns=3))
    first = write(run_key(1))
    await store.commit([first], schedule(version=2, wakeup_ns=9))
    assert await store.load_schedule(KEY) == schedule(version=2, wakeup_ns=9)
    assert await store.due_schedules(100, None, 10) == (ScheduleWakeup(9, KEY),)
    second, third = write(run_key(2)), write(run_key(3))
    for unit in ([second], [second, third]):
        with pytest.raises(VersionConflictError, match="nightly"):
            await store.commit(unit, schedule(version=2))
    again = write(run_key(4, "workflow-1"))
    for unit in ([again], [second, again]):
        with pytest.raises(CurrentRunConflictError):
            await store.commit(unit, schedule(version=3))
    assert await store.load_run(second.run) is None
    assert await store.load_schedule(KEY) == schedule(version=2, wakeup_ns=9)
    await store.commit([second, third], schedule(version=3))
    assert await store.load_run(second.run) is not None
    assert await store.load_schedule(KEY) == schedule(version=3)


async def test_a_deleted_schedule_is_gone_everywhere_and_its_name_free(store: Store) -> None:
    await store.put_schedule(schedule(wakeup_ns=3))
    await store.put_schedule(schedule(OTHER))
    assert await store.delete_schedule(KEY) is True
    assert await store.delete_schedule(KEY) is False
    assert await store.load_schedule(KEY) is None
    assert not await store.due_schedules(100, None, 10)
    assert not await store.list_schedules(NAMESPACE, "", 10)
    assert await store.load_schedule(OTHER) == schedule(OTHER)
    await store.put_schedule(schedule())


async def test_wake_ups_come_in_order_and_page_by_page(store: Store) -> None:
    wanted = []
    for number, wakeup_ns in enumerate((5, 1, 9, 5, 30)):
        for namespace_id in (NAMESPACE, OTHER_NAMESPACE):
            key = ScheduleKey(namespace_id, f"schedule {number}")
            await store.put_schedule(schedule(key, wakeup_ns=wakeup_ns))
            wanted.append(ScheduleWakeup(wakeup_ns, key))
    await store.put_schedule(schedule(wakeup_ns=None))
    wanted = [wakeup for wakeup in sorted(wanted) if wakeup.wakeup_ns <= 9]
    assert list(await store.due_schedules(9, None, 100)) == wanted
    found: list[ScheduleWakeup] = []
    while page := await store.due_schedules(9, found[-1] if found else None, 3):
        assert len(page) <= 3
        found += page
    assert found == wanted


async def test_lists_are_of_one_namespace_in_the_order_of_ids(store: Store) -> None:
    for name in ("b", "a", "c", "Z"):
        await store.put_schedule(schedule(ScheduleKey(NAMESPACE, name)))
    await store.put_schedule(schedule(ScheduleKey(OTHER_NAMESPACE, "x")))
    await store.put_schedule(schedule(ScheduleKey(NAMESPACE, "a"), version=2))
    listed = await store.list_schedules(NAMESPACE, "", 10)
    assert [name for name, _ in listed] == ["Z", "a", "b", "c"]
    assert listed[1] == ("a", b"entry of a 2")
    assert [name for name, _ in await store.list_schedules(NAMESPACE, "a", 1)] == ["b"]
    assert not await store.list_schedules(NAMESPACE, "c", 10)


async def test_a_closed_store_says_that_it_is_unavailable(store: Store) -> None:
    await store.close()
    for call in (
        lambda: store.put_schedule(schedule()),
        lambda: store.load_schedule(KEY),
        lambda: store.delete_schedule(KEY),
        lambda: store.due_schedules(1, None, 1),
        lambda: store.list_schedules(NAMESPACE, "", 1),
    ):
        with pytest.raises(StoreUnavailableError):
            await call()
