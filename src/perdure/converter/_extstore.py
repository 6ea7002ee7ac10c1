"""External storage: large payloads go elsewhere, and a small reference travels in their place.

Experimental, as in the SDK whose names these are. Drivers do the storing; this module picks the driver, writes
and reads references, and measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Self, TypeVar

from perdure.api.common.v1 import Payload
from perdure.api.sdk.v1 import ExternalStorageReference
from perdure.converter._json import JSONPlainPayloadConverter
from perdure.converter._payload_converter import JSONProtoPayloadConverter

_T = TypeVar("_T")

_REFERENCE_ENCODING = b"json/external-storage-reference"
"""How references were written before there was a message for them; they are still read."""

_REFERENCE_MESSAGE_TYPE = ExternalStorageReference.DESCRIPTOR.full_name.encode()

_REFERENCE_MARKER_KEY = "__temporal_external_storage_reference"
"""Metadata of a reference that a payload codec has encoded, and that cannot be recognised otherwise."""

_ENCODE_STORAGE_REFERENCES = False
"""Whether references pass through the payload codec. They can be read that way, but older SDKs cannot, so none
are written yet."""


@dataclass
class StorageOperationMetrics:
    """What the storage operations inside one block of code amounted to."""

    payload_count: int = 0
    """Payloads stored or retrieved."""

    total_size: int = 0
    """Their size in bytes."""

    driver_names: set[str] = dataclasses.field(default_factory=set)
    """The drivers that took part."""

    _spans: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    @property
    def total_duration(self) -> timedelta:
        """How long at least one operation was running."""
        total = 0.0
        end_so_far = float("-inf")
        for start, end in sorted(self._spans):
            total += max(0.0, end - max(start, end_so_far))
            end_so_far = max(end_so_far, end)
        return timedelta(seconds=total)

    def record_batch(self, count: int, size: int, start: float, end: float, driver_names: set[str]) -> None:
        """Add operations that ran together.

        Args:
            count: How many payloads.
            size: Their size in bytes.
            start: When they began, in seconds of the monotonic clock.
            end: When the last one ended.
            driver_names: The drivers that took part.
        """
        self.payload_count += count
        self.total_size += size
        self._spans.append((start, end))
        self.driver_names.update(driver_names)

    @contextlib.contextmanager
    def track(self) -> Iterator[Self]:
        """Collect here what happens inside the `with` block."""
        token = _current_storage_metrics.set(self)
        try:
            yield self
        finally:
            _current_storage_metrics.reset(token)


_current_storage_metrics: contextvars.ContextVar[StorageOperationMetrics | None] = contextvars.ContextVar(
    "_current_storage_metrics", default=None
)


@dataclass(frozen=True)
class StorageDriverClaim:
    """What a driver needs to find a payload again."""

    claim_data: Mapping[str, str]
    """The driver's own data."""


@dataclass(frozen=True, kw_only=True)
class StorageDriverWorkflowInfo:
    """The workflow that a payload is for."""

    namespace: str
    """Its namespace."""

    id: str | None = None
    """Its workflow id."""

    run_id: str | None = None
    """Its run id, if known."""

    type: str | None = None
    """Name of its type, if known."""


@dataclass(frozen=True, kw_only=True)
class StorageDriverActivityInfo:
    """The activity that a payload is for."""

    namespace: str
    """Its namespace."""

    id: str | None = None
    """Its activity id."""

    run_id: str | None = None
    """Its run id, for activities without a workflow."""

    type: str | None = None
    """Name of its type, if known."""


@dataclass(frozen=True)
class StorageDriverStoreContext:
    """What a driver is told when it stores."""

    target: StorageDriverActivityInfo | StorageDriverWorkflowInfo | None = None
    """The workflow or activity that the payload is for: the one being started, scheduled or signalled, else the
    one that is running."""


@dataclass(frozen=True)
class StorageDriverSelectContext(StorageDriverStoreContext):
    """What the selector of drivers is told."""


@dataclass(frozen=True)
class StorageDriverRetrieveContext:
    """What a driver is told when it retrieves."""


class StorageDriver(ABC):
    """Stores payloads somewhere and gets them back."""

    @abstractmethod
    def name(self) -> str:
        """Return the name of this instance, which references carry."""
        raise NotImplementedError

    def type(self) -> str:
        """Return the name of this kind of driver, the same in all languages; the class's name by default."""
        return type(self).__name__

    @abstractmethod
    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        """Store payloads.

        Args:
            context: What they are for.
            payloads: What to store.

        Returns:
            A claim for each, in the same order.
        """
        raise NotImplementedError

    @abstractmethod
    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Get payloads back.

        Args:
            context: Nothing yet.
            claims: What `store` returned.

        Returns:
            A payload for each, in the same order.
        """
        raise NotImplementedError


class StorageWarning(RuntimeWarning):
    """Something about external storage is not as it should be."""


@dataclass(frozen=True)
class _StorageReference:
    """A reference as it was written before there was a message for it."""

    driver_name: str
    driver_claim: StorageDriverClaim


_DriverSelector = Callable[[StorageDriverSelectContext, Payload], StorageDriver | None]


@dataclass(frozen=True)
class ExternalStorage:
    """Which payloads are stored elsewhere, and by which driver."""

    drivers: Sequence[StorageDriver]
    """The drivers, each with a name of its own; references are resolved by these names."""

    driver_selector: _DriverSelector | None = None
    """Returns the driver for a payload, one of `drivers`, or None to leave it where it is. Needed when there is
    more than one driver."""

    payload_size_threshold: int = 256 * 1024
    """Payloads of fewer bytes are left where they are."""

    _driver_map: dict[str, StorageDriver] = dataclasses.field(init=False, repr=False, compare=False)
    _store_context: StorageDriverStoreContext = dataclasses.field(
        default=StorageDriverStoreContext(), init=False, repr=False, compare=False
    )
    _select_context: StorageDriverSelectContext = dataclasses.field(
        default=StorageDriverSelectContext(), init=False, repr=False, compare=False
    )

    _claim_converter: ClassVar[JSONProtoPayloadConverter] = JSONProtoPayloadConverter()
    _legacy_claim_converter: ClassVar[JSONPlainPayloadConverter] = JSONPlainPayloadConverter(
        encoding=_REFERENCE_ENCODING.decode()
    )

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: There is no driver, no selector among several, two of one name, or a negative threshold.
        """
        if not self.drivers:
            raise ValueError("ExternalStorage.drivers must contain at least one driver.")
        if self.payload_size_threshold < 0:
            raise ValueError("ExternalStorage.payload_size_threshold must be greater than or equal to zero.")
        if len(self.drivers) > 1 and self.driver_selector is None:
            raise ValueError(
                "ExternalStorage.driver_selector must be specified if multiple drivers are registered."
            )
        driver_map: dict[str, StorageDriver] = {}
        for driver in self.drivers:
            name = driver.name()
            if name in driver_map:
                raise ValueError(
                    f"ExternalStorage.drivers contains multiple drivers with name '{name}'."
                    " Each driver must have a unique name."
                )
            driver_map[name] = driver
        object.__setattr__(self, "_driver_map", driver_map)

    def _with_store_context(self, context: StorageDriverStoreContext) -> ExternalStorage:
        """Return a copy that stores for somebody."""
        copy = dataclasses.replace(self)
        object.__setattr__(copy, "_store_context", context)
        object.__setattr__(copy, "_select_context", StorageDriverSelectContext(target=context.target))
        return copy

    def _select_driver(self, context: StorageDriverSelectContext, payload: Payload) -> StorageDriver | None:
        """Return the driver that stores a payload, or None to leave it where it is."""
        if payload.ByteSize() < self.payload_size_threshold:
            return None
        if self.driver_selector is None:
            return self.drivers[0]
        driver = self.driver_selector(context, payload)
        if driver is not None and self._driver_map.get(driver.name()) is not driver:
            raise ValueError(
                f"Driver '{driver.name()}' returned by driver_selector is not registered in ExternalStorage.drivers"
            )
        return driver

    def _get_driver_by_name(self, name: str) -> StorageDriver:
        driver = self._driver_map.get(name)
        if driver is None:
            raise ValueError(
                f"No driver found with name '{name}': add the driver that stored the payload to"
                f" ExternalStorage.drivers, which has {', '.join(sorted(self._driver_map))}"
            )
        return driver

    async def _store_payload_sequence(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads, with references in place of those that were stored."""
        groups: dict[str, list[int]] = {}
        for index, payload in enumerate(payloads):
            driver = self._select_driver(self._select_context, payload)
            if driver is not None:
                groups.setdefault(driver.name(), []).append(index)
        results = list(payloads)
        if not groups:
            return results
        start = time.monotonic()
        claims_by_driver = await _gather_cancel_on_error(
            [
                _named(
                    self._driver_map[name].store(self._store_context, [payloads[index] for index in indexes]),
                    f"Storage driver '{name}' raised this in `store`.",
                )
                for name, indexes in groups.items()
            ]
        )
        size = 0
        for (name, indexes), claims in zip(groups.items(), claims_by_driver, strict=True):
            _require_count(name, "claims", len(claims), len(indexes))
            for index, claim in zip(indexes, claims, strict=True):
                payload_size = payloads[index].ByteSize()
                size += payload_size
                results[index] = self._reference(name, claim, payload_size)
        _record(groups, size, start)
        return results

    def _reference(self, driver_name: str, claim: StorageDriverClaim, size: int) -> Payload:
        reference = self._claim_converter.to_payload(
            ExternalStorageReference(driver_name=driver_name, claim_data=claim.claim_data)
        )
        if reference is None:
            raise ValueError(f"Failed to serialize storage reference for driver '{driver_name}'")
        reference.external_payloads.add().size_bytes = size
        if _ENCODE_STORAGE_REFERENCES:
            reference.metadata[_REFERENCE_MARKER_KEY] = b"true"
        return reference

    def _decode_reference(self, payload: Payload) -> ExternalStorageReference | None:
        """Return the reference that a payload is, or None if it is none."""
        encoding = payload.metadata.get("encoding")
        if encoding == _REFERENCE_ENCODING:
            legacy = self._legacy_claim_converter.from_payload(payload, _StorageReference)
            return ExternalStorageReference(
                driver_name=legacy.driver_name, claim_data=legacy.driver_claim.claim_data
            )
        if encoding != b"json/protobuf" or payload.metadata.get("messageType") != _REFERENCE_MESSAGE_TYPE:
            return None
        reference = self._claim_converter.from_payload(payload, ExternalStorageReference)
        return reference if isinstance(reference, ExternalStorageReference) else None

    async def _retrieve_payload_sequence(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads, with what was stored in place of references."""
        groups: dict[str, list[int]] = {}
        claims: dict[int, StorageDriverClaim] = {}
        for index, payload in enumerate(payloads):
            reference = self._decode_reference(payload)
            if reference is not None:
                self._get_driver_by_name(reference.driver_name)
                groups.setdefault(reference.driver_name, []).append(index)
                claims[index] = StorageDriverClaim(claim_data=dict(reference.claim_data))
        results = list(payloads)
        if not groups:
            return results
        start = time.monotonic()
        context = StorageDriverRetrieveContext()
        stored_by_driver = await _gather_cancel_on_error(
            [
                _named(
                    self._driver_map[name].retrieve(context, [claims[index] for index in indexes]),
                    f"Storage driver '{name}' raised this in `retrieve`, asked for {claims[indexes[0]].claim_data}"
                    + (f" and {len(indexes) - 1} more." if len(indexes) > 1 else "."),
                )
                for name, indexes in groups.items()
            ]
        )
        size = 0
        for (name, indexes), stored in zip(groups.items(), stored_by_driver, strict=True):
            _require_count(name, "payloads", len(stored), len(indexes))
            for index, payload in zip(indexes, stored, strict=True):
                results[index] = payload
                size += payload.ByteSize()
        _record(groups, size, start)
        return results


async def _named(answer: Coroutine[Any, Any, _T], note: str) -> _T:
    """Return a driver's answer; an error of its own gets a note, because it seldom says whose it is."""
    try:
        return await answer
    except Exception as error:  # a driver is the user's code
        error.add_note(note)
        raise


def _is_reference_payload(payload: Payload) -> bool:
    """Tell whether a payload stands for one that is stored elsewhere."""
    metadata = payload.metadata
    encoding = metadata.get("encoding")
    return encoding == _REFERENCE_ENCODING or (
        encoding == b"json/protobuf" and metadata.get("messageType") == _REFERENCE_MESSAGE_TYPE
    )


def _has_reference_marker(payload: Payload) -> bool:
    """Tell whether a payload is an encoded reference."""
    return payload.metadata.get(_REFERENCE_MARKER_KEY) == b"true"


def _stands_for_another(payload: Payload) -> bool:
    """Tell whether a payload is a reference, encoded or not."""
    return _has_reference_marker(payload) or _is_reference_payload(payload)


def _require_count(driver_name: str, what: str, count: int, expected: int) -> None:
    if count != expected:
        raise ValueError(f"Driver '{driver_name}' returned {count} {what}, expected {expected}")


def _record(groups: Mapping[str, Sequence[int]], size: int, start: float) -> None:
    metrics = _current_storage_metrics.get()
    if metrics is not None:
        count = sum(len(indexes) for indexes in groups.values())
        metrics.record_batch(count, size, start, time.monotonic(), set(groups))


async def _gather_cancel_on_error(coroutines: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run coroutines together; if one fails, cancel the others and wait for their end before raising."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:  # Cancelling ends the others too.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
