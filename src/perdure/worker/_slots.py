"""Slots at work: a slot is reserved before a poll, used by the task that comes, and released when the task is done.

One `Slots` per kind of task. All of it runs on the worker's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast

from perdure.worker._resources import ResourceUse
from perdure.worker._tuning import (
    DEFAULT_RESOURCE_SLOTS_MAX,
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    ResourceBasedSlotSupplier,
    SlotInfo,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    SlotSupplier,
)

if TYPE_CHECKING:
    from perdure.common import WorkerDeploymentVersion

logger = logging.getLogger("perdure.worker")

SlotKind = Literal["workflow", "activity", "local-activity", "nexus"]
_LOOK_AGAIN_S = 0.1
"""A machine that is too busy is looked at again after this time."""
_AFTER_ERROR_S = 1.0


@dataclass
class ReserveContext:
    """The `SlotReserveContext` that suppliers are given."""

    slot_type: SlotKind
    task_queue: str
    worker_identity: str
    worker_build_id: str
    worker_deployment_version: WorkerDeploymentVersion | None
    is_sticky: bool = False


@dataclass
class WorkflowSlot:
    """A `WorkflowSlotInfo`."""

    workflow_type: str
    is_sticky: bool


@dataclass
class ActivitySlot:
    """An `ActivitySlotInfo` or `LocalActivitySlotInfo`."""

    activity_type: str


@dataclass
class NexusSlot:
    """A `NexusSlotInfo`."""

    service: str
    operation: str


class Permit:
    """One reserved slot; given back exactly once."""

    __slots__ = ("_info", "_release", "supplier_permit")

    def __init__(self, release: Callable[[Permit], None], supplier_permit: SlotPermit | None = None) -> None:
        self._release: Callable[[Permit], None] | None = release
        self._info: SlotInfo | None = None
        self.supplier_permit = supplier_permit

    @property
    def info(self) -> SlotInfo | None:
        """The task in the slot, if one came."""
        return self._info

    def note(self, info: SlotInfo) -> None:
        """Remember which task is in the slot."""
        self._info = info

    def release(self) -> None:
        """Give the slot back. Doing it twice is fine."""
        release, self._release = self._release, None
        if release is not None:
            release(self)


class SlotTally:
    """How many slots of one kind are in use, and what became of their tasks.

    Args:
        supplier_kind: "Fixed", "ResourceBased" or "Custom".
        maximum: So many slots there are; None if only the supplier knows.
    """

    __slots__ = ("failed", "maximum", "on_change", "processed", "supplier_kind", "used")

    def __init__(self, supplier_kind: str, maximum: int | None = None) -> None:
        self.supplier_kind = supplier_kind
        self.maximum = maximum
        self.used = 0
        self.processed = 0
        self.failed = 0
        self.on_change: Callable[[SlotTally], None] | None = None

    @property
    def available(self) -> int | None:
        """How many slots have no task; None if only the supplier knows."""
        return None if self.maximum is None else max(0, self.maximum - self.used)

    def began(self) -> None:
        """A task came."""
        self.used += 1
        if self.on_change is not None:
            self.on_change(self)

    def ended(self, permit: Permit) -> None:
        """A slot was given back, with or without a task in it."""
        if permit.info is None:
            return
        self.used -= 1
        self.processed += 1
        if self.on_change is not None:
            self.on_change(self)


class Slots(Protocol):
    """The slots of one kind of task."""

    tally: SlotTally
    """What became of them."""

    async def reserve(self, *, is_sticky: bool = False) -> Permit:
        """Wait for a slot."""
        ...

    def try_reserve(self) -> Permit | None:
        """Reserve a slot if one is free."""
        ...

    def mark_used(self, permit: Permit, info: SlotInfo) -> None:
        """Note that a task came for the slot."""
        ...


class FixedSlots:
    """A fixed number of slots; waiters are served in the order in which they came."""

    def __init__(self, count: int) -> None:
        self.tally = SlotTally("Fixed", count)
        self._free = count
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """How many slots are free now."""
        return self._free

    async def reserve(self, *, is_sticky: bool = False) -> Permit:
        if self._free == 0 or self._waiters:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    # The slot came together with the cancellation: the next one gets it.
                    self._give_back()
                raise
            return Permit(self._released)
        self._free -= 1
        return Permit(self._released)

    def try_reserve(self) -> Permit | None:
        if self._free == 0 or self._waiters:
            return None
        self._free -= 1
        return Permit(self._released)

    def mark_used(self, permit: Permit, info: SlotInfo) -> None:
        permit.note(info)
        self.tally.began()

    def _released(self, permit: Permit) -> None:
        self.tally.ended(permit)
        self._give_back()

    def _give_back(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1


class ResourceSlots:
    """Slots given out while the machine is used less than a target."""

    def __init__(self, supplier: ResourceBasedSlotSupplier, kind: SlotKind, use: ResourceUse) -> None:
        self.tally = SlotTally("ResourceBased")
        config = supplier.slot_config
        is_workflow = kind == "workflow"
        self._minimum = (
            config.minimum_slots if config.minimum_slots is not None else (5 if is_workflow else 1)
        )
        self._maximum = (
            config.maximum_slots if config.maximum_slots is not None else DEFAULT_RESOURCE_SLOTS_MAX
        )
        default_ramp_s = 0.0 if is_workflow else 0.05
        self._ramp_s = (
            config.ramp_throttle.total_seconds() if config.ramp_throttle is not None else default_ramp_s
        )
        self._targets = supplier.tuner_config
        self._use = use
        self._issued = 0
        self._last_issue_s = 0.0
        self._given_back = asyncio.Event()

    async def reserve(self, *, is_sticky: bool = False) -> Permit:
        while (permit := self.try_reserve()) is None:
            self._given_back.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._given_back.wait()
        return permit

    def _wait_s(self) -> float | None:
        """How long to wait at most before looking again; None if nothing helps but a slot that is given back."""
        if self._issued >= self._maximum:
            return None
        ramp_left_s = self._last_issue_s + self._ramp_s - time.monotonic()
        return ramp_left_s if ramp_left_s > 0 else _LOOK_AGAIN_S

    def try_reserve(self) -> Permit | None:
        if not self._may_issue():
            return None
        self._issued += 1
        self._last_issue_s = time.monotonic()
        return Permit(self._released)

    def _may_issue(self) -> bool:
        if self._issued >= self._maximum:
            return False
        if self._issued < self._minimum:
            return True
        if time.monotonic() - self._last_issue_s < self._ramp_s:
            return False
        memory, cpu = self._use.current()
        return memory < self._targets.target_memory_usage and cpu < self._targets.target_cpu_usage

    def mark_used(self, permit: Permit, info: SlotInfo) -> None:
        permit.note(info)
        self.tally.began()

    def _released(self, permit: Permit) -> None:
        self.tally.ended(permit)
        self._issued -= 1
        self._given_back.set()


class CustomSlots:
    """Slots of a supplier that the user wrote; its errors are logged and never reach the worker."""

    def __init__(self, supplier: CustomSlotSupplier, context: ReserveContext) -> None:
        self.tally = SlotTally("Custom")
        self._supplier = supplier
        self._contexts = {
            is_sticky: cast(SlotReserveContext, ReserveContext(**{**vars(context), "is_sticky": is_sticky}))
            for is_sticky in (False, True)
        }

    async def reserve(self, *, is_sticky: bool = False) -> Permit:
        while True:
            try:
                return Permit(self._released, await self._supplier.reserve_slot(self._contexts[is_sticky]))
            except Exception:  # the supplier is the user's code: whatever it raises, the worker goes on
                logger.warning("Error in custom slot supplier `reserve_slot`", exc_info=True)
            await asyncio.sleep(_AFTER_ERROR_S)

    def try_reserve(self) -> Permit | None:
        try:
            supplier_permit = self._supplier.try_reserve_slot(self._contexts[False])
        except Exception:  # as above
            logger.warning("Error in custom slot supplier `try_reserve_slot`", exc_info=True)
            return None
        return None if supplier_permit is None else Permit(self._released, supplier_permit)

    def mark_used(self, permit: Permit, info: SlotInfo) -> None:
        permit.note(info)
        self.tally.began()
        try:
            self._supplier.mark_slot_used(SlotMarkUsedContext(info, cast(SlotPermit, permit.supplier_permit)))
        except Exception:  # as above
            logger.warning("Error in custom slot supplier `mark_slot_used`", exc_info=True)

    def _released(self, permit: Permit) -> None:
        self.tally.ended(permit)
        try:
            self._supplier.release_slot(
                SlotReleaseContext(permit.info, cast(SlotPermit, permit.supplier_permit))
            )
        except Exception:  # as above
            logger.warning("Error in custom slot supplier `release_slot`", exc_info=True)


def make_slots(supplier: SlotSupplier, context: ReserveContext, use: ResourceUse) -> Slots:
    """Return the slots of a supplier.

    Args:
        supplier: As the tuner says.
        context: What its slots are for.
        use: Shared by all resource-based slots of a worker.

    Raises:
        TypeError: It is no slot supplier.
        ValueError: It has fewer than no slots.
    """
    if isinstance(supplier, FixedSizeSlotSupplier):
        if supplier.num_slots < 0:
            raise ValueError(
                f"num_slots of a FixedSizeSlotSupplier must not be negative, and is {supplier.num_slots}"
            )
        return FixedSlots(supplier.num_slots)
    if isinstance(supplier, ResourceBasedSlotSupplier):
        return ResourceSlots(supplier, context.slot_type, use)
    given: object = supplier
    if isinstance(given, CustomSlotSupplier):
        return CustomSlots(given, context)
    raise TypeError(f"Unknown slot supplier type: {supplier}")
