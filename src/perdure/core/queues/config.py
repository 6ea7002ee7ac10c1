"""What operators set of a task queue: limits, and weights of fairness keys; how requests change it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from perdure.api.taskqueue.v1 import RateLimitConfig, TaskQueueConfig
from perdure.api.workflowservice.v1 import UpdateTaskQueueConfigRequest
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.priorities import FAIRNESS_KEY_BYTES
from perdure.core.run.protos import set_timestamp
from perdure.core.run.state import Record

MAX_WEIGHTS: Final = 1_000
"""Weights of keys that a queue can have."""
MAX_REASON: Final = 1_000


class Limit(Record):
    """A limit, or that there is none any more, and who said so."""

    per_second: float | None = None
    reason: str = ""
    identity: str = ""
    updated_ns: int = 0


class QueueConfig(Record):
    """What is set of one kind of tasks of a queue. None: it was never set."""

    queue_limit: Limit | None = None
    key_limit: Limit | None = None
    """For each fairness key, times its weight."""
    weights: Mapping[str, float] = msgspec.field(default_factory=dict)

    @property
    def queue_per_second(self) -> float | None:
        """The queue's limit, if it has one."""
        return self.queue_limit.per_second if self.queue_limit is not None else None

    @property
    def key_per_second(self) -> float | None:
        """The limit of a key of weight 1, if there is one."""
        return self.key_limit.per_second if self.key_limit is not None else None

    def weight(self, key: str, given: float) -> float:
        """The weight of a key's tasks: what is set, else what they were given."""
        return self.weights.get(key, given)


def updated(config: QueueConfig, request: UpdateTaskQueueConfigRequest, now_ns: int) -> QueueConfig:
    """A configuration after a request.

    Raises:
        InvalidArgumentError: it would have too many weights.
    """
    changes: dict[str, object] = {}
    for field, name in (
        ("update_queue_rate_limit", "queue_limit"),
        ("update_fairness_key_rate_limit_default", "key_limit"),
    ):
        if request.HasField(field):  # type: ignore[arg-type]  # a row of the table above
            changes[name] = _limit(getattr(request, field), request.identity, now_ns)
    if request.set_fairness_weight_overrides or request.unset_fairness_weight_overrides:
        unset = set(request.unset_fairness_weight_overrides)
        weights = {key: weight for key, weight in config.weights.items() if key not in unset}
        weights.update(request.set_fairness_weight_overrides)
        if len(weights) > MAX_WEIGHTS:
            raise InvalidArgumentError(
                "fairness weight overrides update rejected: exceeding maximum key size"
            )
        changes["weights"] = weights
    return msgspec.structs.replace(config, **changes)


def check(request: UpdateTaskQueueConfigRequest) -> None:
    """Checks the weights that a request sets and unsets.

    Raises:
        InvalidArgumentError: what is wrong with them.
    """
    wanted, unset = request.set_fairness_weight_overrides, request.unset_fairness_weight_overrides
    total = len(wanted) + len(unset)
    if total > MAX_WEIGHTS:
        raise InvalidArgumentError(
            f"too many fairness weight overrides in request: got {total}, maximum {MAX_WEIGHTS}"
        )
    for key in (*wanted, *unset):
        if not key:
            raise InvalidArgumentError("fairness weight override key must not be empty")
        if len(key.encode()) > FAIRNESS_KEY_BYTES:
            raise InvalidArgumentError("fairness key length exceeds limit")
    for key, weight in wanted.items():
        if not weight > 0:
            raise InvalidArgumentError(
                f'invalid fairness weight weight for key "{key}": must be greater than zero'
            )
        if math.isinf(weight):  # JSON, in which this is kept, cannot say it
            raise InvalidArgumentError(f'invalid fairness weight weight for key "{key}": must be finite')
    for key in unset:
        if key in wanted:
            raise InvalidArgumentError(
                f'fairness weight override key "{key}" present in both set and unset lists'
            )


def message(config: QueueConfig) -> TaskQueueConfig:
    """A configuration as responses show it."""
    shown = TaskQueueConfig()
    if config.queue_limit is not None:
        _show(config.queue_limit, shown.queue_rate_limit)
    if config.key_limit is not None:
        _show(config.key_limit, shown.fairness_keys_rate_limit_default)
    for key, weight in config.weights.items():
        shown.fairness_weight_overrides[key] = weight
    return shown


def _limit(update: UpdateTaskQueueConfigRequest.RateLimitUpdate, identity: str, now_ns: int) -> Limit:
    per_second = update.rate_limit.requests_per_second if update.HasField("rate_limit") else None
    return Limit(per_second, update.reason, identity, now_ns)


def _show(limit: Limit, shown: RateLimitConfig) -> None:
    if limit.per_second is not None:
        shown.rate_limit.requests_per_second = limit.per_second
    shown.metadata.reason = limit.reason
    shown.metadata.update_identity = limit.identity
    set_timestamp(shown.metadata.update_time, limit.updated_ns)
