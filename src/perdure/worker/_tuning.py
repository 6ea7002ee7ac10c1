"""How many tasks a worker takes at once: the public options, and the base class for slot suppliers of one's own.

What acts on them is in `_slots`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from perdure.common import WorkerDeploymentVersion

DEFAULT_SLOTS = 100
DEFAULT_RESOURCE_SLOTS_MAX = 500


@dataclass(frozen=True)
class FixedSizeSlotSupplier:
    """Gives out at most a fixed number of slots.

    Attributes:
        num_slots: That number.
    """

    num_slots: int


@dataclass(frozen=True)
class ResourceBasedTunerConfig:
    """Up to which use of the machine a `ResourceBasedSlotSupplier` gives out slots.

    Attributes:
        target_memory_usage: Share of the machine's (or container's) memory, 0 to 1. More than 0.8 risks running out.
        target_cpu_usage: Share of its processors, 0 to 1.
    """

    target_memory_usage: float
    target_cpu_usage: float


@dataclass(frozen=True)
class ResourceBasedSlotConfig:
    """Limits of one kind of slots within a resource-based tuner.

    Attributes:
        minimum_slots: Given out whatever the machine's use is. By default 5 for workflows and 1 for others.
        maximum_slots: Never more than this. By default 500.
        ramp_throttle: Shortest time between two slots beyond the minimum, so that their use can be seen first. By
            default 0 for workflows and 50 ms for others.
    """

    minimum_slots: int | None = None
    maximum_slots: int | None = None
    ramp_throttle: timedelta | None = None


@dataclass(frozen=True)
class ResourceBasedSlotSupplier:
    """Gives out slots while the machine's memory and processors are used less than a target.

    Attributes:
        slot_config: Limits of these slots.
        tuner_config: The targets; the same for all resource-based suppliers of a worker.
    """

    slot_config: ResourceBasedSlotConfig
    tuner_config: ResourceBasedTunerConfig


class SlotPermit:
    """A reserved slot. Subclass it to carry data of your own."""


class SlotReserveContext(Protocol):
    """What a slot is asked for.

    Attributes:
        slot_type: "workflow", "activity", "local-activity" or "nexus".
        task_queue: Task queue that will be polled.
        worker_identity: Identity of the worker.
        worker_build_id: Build id of the worker; use `worker_deployment_version`.
        worker_deployment_version: Deployment version of the worker, if it has one.
        is_sticky: Whether it is for a poll of the worker's own (sticky) queue.
    """

    slot_type: Literal["workflow", "activity", "local-activity", "nexus"]
    task_queue: str
    worker_identity: str
    worker_build_id: str
    worker_deployment_version: WorkerDeploymentVersion | None
    is_sticky: bool


@runtime_checkable
class WorkflowSlotInfo(Protocol):
    """The workflow task in a slot.

    Attributes:
        workflow_type: Its workflow's type.
        is_sticky: Whether it came through the worker's own (sticky) queue.
    """

    workflow_type: str
    is_sticky: bool


@runtime_checkable
class ActivitySlotInfo(Protocol):
    """The activity in a slot.

    Attributes:
        activity_type: Its type.
    """

    activity_type: str


@runtime_checkable
class LocalActivitySlotInfo(Protocol):
    """The local activity in a slot.

    Attributes:
        activity_type: Its type.
    """

    activity_type: str


@runtime_checkable
class NexusSlotInfo(Protocol):
    """The Nexus task in a slot.

    Attributes:
        service: Its service.
        operation: Its operation.
    """

    service: str
    operation: str


SlotInfo: TypeAlias = WorkflowSlotInfo | ActivitySlotInfo | LocalActivitySlotInfo | NexusSlotInfo
"""What a slot is used for, as a slot supplier is told."""


@dataclass(frozen=True)
class SlotMarkUsedContext:
    """A slot begins to be used.

    Attributes:
        slot_info: The task in it.
        permit: What `reserve_slot` or `try_reserve_slot` returned.
    """

    slot_info: SlotInfo
    permit: SlotPermit


@dataclass(frozen=True)
class SlotReleaseContext:
    """A slot is free again.

    Attributes:
        slot_info: The task that was in it; None if it was never used.
        permit: What `reserve_slot` or `try_reserve_slot` returned.
    """

    slot_info: SlotInfo | None
    permit: SlotPermit


class CustomSlotSupplier(ABC):
    """Base class for a slot supplier of one's own. Its methods are called on the worker's event loop."""

    @abstractmethod
    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Wait until a slot is free, and reserve it. Called before each poll; may be cancelled.

        An exception other than a cancellation is logged, and the call is repeated a moment later.

        Args:
            ctx: What the slot is for.

        Returns:
            The permit, to which data may be attached by subclassing.
        """

    @abstractmethod
    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """Reserve a slot if one is free now: for tasks that come with the answer to another call. Must not block.

        Args:
            ctx: What the slot is for.

        Returns:
            The permit, or None.
        """

    @abstractmethod
    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """Note that a task has come for a reserved slot. Must not block.

        Args:
            ctx: The task and the permit.
        """

    @abstractmethod
    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Take a slot back: its task is done, or it was never needed. Must not block.

        Args:
            ctx: The task, if there was one, and the permit.
        """


SlotSupplier: TypeAlias = FixedSizeSlotSupplier | ResourceBasedSlotSupplier | CustomSlotSupplier


class WorkerTuner(ABC):
    """Decides how many tasks of each kind a worker takes at once."""

    @classmethod
    def create_resource_based(
        cls,
        *,
        target_memory_usage: float,
        target_cpu_usage: float,
        workflow_config: ResourceBasedSlotConfig | None = None,
        activity_config: ResourceBasedSlotConfig | None = None,
        local_activity_config: ResourceBasedSlotConfig | None = None,
        nexus_config: ResourceBasedSlotConfig | None = None,
    ) -> WorkerTuner:
        """Make a tuner that takes tasks while memory and processors are used less than a target.

        Args:
            target_memory_usage: See `ResourceBasedTunerConfig`.
            target_cpu_usage: See `ResourceBasedTunerConfig`.
            workflow_config: Limits for workflow tasks.
            activity_config: Limits for activities.
            local_activity_config: Limits for local activities.
            nexus_config: Limits for Nexus tasks.
        """
        targets = ResourceBasedTunerConfig(target_memory_usage, target_cpu_usage)
        configs = (workflow_config, activity_config, local_activity_config, nexus_config)
        return CompositeTuner(
            *(ResourceBasedSlotSupplier(config or ResourceBasedSlotConfig(), targets) for config in configs)
        )

    @classmethod
    def create_fixed(
        cls,
        *,
        workflow_slots: int | None = None,
        activity_slots: int | None = None,
        local_activity_slots: int | None = None,
        nexus_slots: int | None = None,
    ) -> WorkerTuner:
        """Make a tuner with fixed numbers of slots, 100 of each kind that is not given."""
        counts = (workflow_slots, activity_slots, local_activity_slots, nexus_slots)
        return CompositeTuner(*(FixedSizeSlotSupplier(count or DEFAULT_SLOTS) for count in counts))

    @classmethod
    def create_composite(
        cls,
        *,
        workflow_supplier: SlotSupplier,
        activity_supplier: SlotSupplier,
        local_activity_supplier: SlotSupplier,
        nexus_supplier: SlotSupplier,
    ) -> WorkerTuner:
        """Make a tuner out of one slot supplier for each kind of task."""
        return CompositeTuner(workflow_supplier, activity_supplier, local_activity_supplier, nexus_supplier)

    @abstractmethod
    def _get_workflow_task_slot_supplier(self) -> SlotSupplier: ...

    @abstractmethod
    def _get_activity_task_slot_supplier(self) -> SlotSupplier: ...

    @abstractmethod
    def _get_local_activity_task_slot_supplier(self) -> SlotSupplier: ...

    @abstractmethod
    def _get_nexus_slot_supplier(self) -> SlotSupplier: ...

    def _get_activities_max(self) -> int | None:
        return slot_supplier_max(self._get_activity_task_slot_supplier())

    def _get_nexus_tasks_max(self) -> int | None:
        return slot_supplier_max(self._get_nexus_slot_supplier())


def slot_supplier_max(supplier: SlotSupplier) -> int | None:
    """Return the largest number of slots that a supplier gives out, or None if only it knows."""
    if isinstance(supplier, FixedSizeSlotSupplier):
        return supplier.num_slots
    if isinstance(supplier, ResourceBasedSlotSupplier):
        return supplier.slot_config.maximum_slots or DEFAULT_RESOURCE_SLOTS_MAX
    return None


@dataclass(frozen=True)
class CompositeTuner(WorkerTuner):
    """One slot supplier for each kind of task."""

    workflow_slot_supplier: SlotSupplier
    activity_slot_supplier: SlotSupplier
    local_activity_slot_supplier: SlotSupplier
    nexus_slot_supplier: SlotSupplier

    def _get_workflow_task_slot_supplier(self) -> SlotSupplier:
        return self.workflow_slot_supplier

    def _get_activity_task_slot_supplier(self) -> SlotSupplier:
        return self.activity_slot_supplier

    def _get_local_activity_task_slot_supplier(self) -> SlotSupplier:
        return self.local_activity_slot_supplier

    def _get_nexus_slot_supplier(self) -> SlotSupplier:
        return self.nexus_slot_supplier
