"""Slots: given out, given back, in order; bounded by numbers or by the machine's use; the user's own suppliers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from perdure.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    ResourceBasedSlotConfig,
    ResourceBasedSlotSupplier,
    ResourceBasedTunerConfig,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    WorkerTuner,
    _slots,
)
from perdure.worker._resources import ResourceUse, memory_use
from perdure.worker._slots import (
    ActivitySlot,
    FixedSlots,
    ReserveContext,
    make_slots,
)

CONTEXT = ReserveContext("activity", "queue", "me", "build", None)


def test_a_fixed_number_of_slots_is_given_out_in_order() -> None:
    async def scenario() -> None:
        slots = FixedSlots(1)
        first = await slots.reserve()
        assert slots.try_reserve() is None
        waiting = [asyncio.ensure_future(slots.reserve()) for _ in range(2)]
        await asyncio.wait(waiting, timeout=0)
        first.release()
        first.release()
        await waiting[0]
        assert not waiting[1].done()
        waiting[0].result().release()
        (await waiting[1]).release()
        assert slots.free == 1

    asyncio.run(scenario())


def test_a_waiter_that_is_cancelled_takes_no_slot() -> None:
    """Neither before its slot comes, nor when both come at once."""

    async def scenario() -> None:
        slots = FixedSlots(1)
        permit = await slots.reserve()
        early, late = asyncio.ensure_future(slots.reserve()), asyncio.ensure_future(slots.reserve())
        await asyncio.wait([early, late], timeout=0)
        early.cancel()
        await asyncio.wait([early])
        permit.release()
        late.cancel()
        await asyncio.wait([late])
        assert slots.free == 1

    asyncio.run(scenario())


class _Use(ResourceUse):
    def __init__(self, memory: float, cpu: float) -> None:
        super().__init__()
        self.value = (memory, cpu)

    def current(self) -> tuple[float, float]:
        return self.value


@pytest.mark.parametrize(("memory", "cpu", "expected"), [(0.1, 0.1, 4), (0.9, 0.1, 2), (0.1, 0.9, 2)])
def test_slots_beyond_the_minimum_need_a_machine_that_is_not_busy(
    memory: float, cpu: float, expected: int
) -> None:
    config = ResourceBasedSlotConfig(minimum_slots=2, maximum_slots=4, ramp_throttle=timedelta())
    supplier = ResourceBasedSlotSupplier(config, ResourceBasedTunerConfig(0.5, 0.5))
    slots = make_slots(supplier, CONTEXT, _Use(memory, cpu))
    permits = [permit for _ in range(10) if (permit := slots.try_reserve()) is not None]
    assert len(permits) == expected
    permits[0].release()
    assert slots.try_reserve() is not None or expected > 2


def test_no_more_slots_than_the_maximum_although_the_minimum_is_larger() -> None:
    """For workflows five are given out whatever the machine's use is, unless the maximum says less."""
    supplier = ResourceBasedSlotSupplier(
        ResourceBasedSlotConfig(maximum_slots=2), ResourceBasedTunerConfig(0.5, 0.5)
    )
    slots = make_slots(supplier, replace(CONTEXT, slot_type="workflow"), _Use(0.1, 0.1))
    assert [slots.try_reserve() is not None for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("is_ramp", [True, False])
def test_who_waits_for_a_slot_gets_it_as_soon_as_there_is_one(
    monkeypatch: pytest.MonkeyPatch, is_ramp: bool
) -> None:
    """When the throttle's time is over, or one is given back: only a machine that is too busy is looked at again."""
    monkeypatch.setattr(_slots, "_LOOK_AGAIN_S", 1000.0)

    async def scenario() -> None:
        throttle = timedelta(milliseconds=20) if is_ramp else timedelta()
        most = 3 if is_ramp else 1
        config = ResourceBasedSlotConfig(minimum_slots=0, maximum_slots=most, ramp_throttle=throttle)
        supplier = ResourceBasedSlotSupplier(config, ResourceBasedTunerConfig(0.5, 0.5))
        slots = make_slots(supplier, CONTEXT, _Use(0.1, 0.1))
        async with asyncio.timeout(10):
            began_s = time.monotonic()
            permits = [await slots.reserve() for _ in range(most)]
            assert time.monotonic() - began_s >= (most - 1) * throttle.total_seconds()
            waiting = [asyncio.ensure_future(slots.reserve()) for _ in range(2)]
            await asyncio.wait(waiting, timeout=0.05)
            assert not any(task.done() for task in waiting)
            permits[0].release()
            [first], _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            first.result().release()
            await asyncio.wait(waiting)

    asyncio.run(scenario())


def test_the_machines_memory_use_is_a_share() -> None:
    assert 0.0 <= memory_use() <= 1.0


class _Supplier(CustomSlotSupplier):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        self.calls.append(("reserve", ctx.slot_type, ctx.is_sticky))
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        raise RuntimeError("broken")

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        self.calls.append(("used", ctx.slot_info))

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        self.calls.append(("release", ctx.slot_info))
        raise RuntimeError("broken")


def test_a_custom_supplier_sees_each_step_and_its_errors_stay_there() -> None:
    async def scenario() -> None:
        supplier = _Supplier()
        slots = make_slots(supplier, CONTEXT, ResourceUse())
        permit = await slots.reserve(is_sticky=True)
        slots.mark_used(permit, ActivitySlot("a"))
        permit.release()
        assert slots.try_reserve() is None
        assert supplier.calls == [
            ("reserve", "activity", True),
            ("used", ActivitySlot("a")),
            ("release", ActivitySlot("a")),
        ]

    asyncio.run(scenario())


def test_a_fixed_tuner_has_100_slots_of_each_kind_unless_told() -> None:
    tuner = WorkerTuner.create_fixed(activity_slots=7)
    assert tuner._get_activities_max() == 7
    assert tuner._get_workflow_task_slot_supplier() == FixedSizeSlotSupplier(100)


def test_what_is_no_supplier_is_refused() -> None:
    supplier: Any = object()
    with pytest.raises(TypeError, match="Unknown slot supplier"):
        make_slots(supplier, CONTEXT, ResourceUse())
