"""Large payloads go to a driver and come back; references are the official ones; mistakes are named."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import temporalio.api.common.v1
import temporalio.converter

from perdure.api.common.v1 import Payload
from perdure.api.failure.v1 import Failure
from perdure.converter import (
    DataConverter,
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverSelectContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
    WorkflowSerializationContext,
    _extstore,
)
from perdure.converter._extstore import StorageOperationMetrics
from perdure.exceptions import ApplicationError, ExternalStorageNotConfiguredError
from tests.unit.sdk_data.drivers import MemoryDriver, ReversingCodec, run

LARGE = "x" * 200


def _converter(*drivers: MemoryDriver, **options: Any) -> DataConverter:
    codec = options.pop("codec", None)
    options.setdefault("payload_size_threshold", 100)
    return DataConverter(payload_codec=codec, external_storage=ExternalStorage(drivers=drivers, **options))


def test_only_large_payloads_are_stored_and_come_back_in_order() -> None:
    driver = MemoryDriver()
    converter = _converter(driver)
    values = ["small", LARGE, None, LARGE + "y"]
    payloads = run(converter.encode(values))
    assert [len(payload.external_payloads) for payload in payloads] == [0, 1, 0, 1]
    assert (
        payloads[1].external_payloads[0].size_bytes
        == converter.payload_converter.to_payload(LARGE).ByteSize()
    )
    assert driver.calls == [2]
    assert run(converter.decode(payloads)) == values


def test_a_driver_needs_no_hash() -> None:
    """An ordinary dataclass has none; its name tells it apart."""

    @dataclasses.dataclass
    class Driver(MemoryDriver):
        size: int = 0

        def __post_init__(self) -> None:
            super().__init__()

    converter = _converter(Driver())
    assert run(converter.decode(run(converter.encode([LARGE])))) == [LARGE]


def test_a_reference_has_the_official_form_and_each_side_reads_the_other() -> None:
    driver = MemoryDriver()
    converter = _converter(driver)
    [reference] = run(converter.encode([LARGE]))

    class Official(temporalio.converter.StorageDriver):
        def name(self) -> str:
            return "memory"

        async def store(self, context: Any, payloads: Sequence[Any]) -> list[Any]:
            return [temporalio.converter.StorageDriverClaim({"key": "memory-0"}) for _ in payloads]

        async def retrieve(self, context: Any, claims: Sequence[Any]) -> list[Any]:
            stored = driver.stored[claims[0].claim_data["key"]]
            return [temporalio.api.common.v1.Payload.FromString(stored)]

    official = temporalio.converter.DataConverter(
        external_storage=temporalio.converter.ExternalStorage(
            drivers=[Official()], payload_size_threshold=100
        )
    )
    [theirs] = run(official.encode([LARGE]))
    assert reference.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
    assert run(converter.decode([Payload.FromString(theirs.SerializeToString())])) == [LARGE]
    assert run(official.decode([theirs])) == [LARGE]


def test_references_of_the_first_form_are_still_read() -> None:
    driver = MemoryDriver()
    converter = _converter(driver)
    run(converter.encode([LARGE]))
    old = Payload(
        metadata={"encoding": b"json/external-storage-reference"},
        data=b'{"driver_name":"memory","driver_claim":{"claim_data":{"key":"memory-0"}}}',
    )
    assert run(converter.decode([old])) == [LARGE]


def test_the_codec_works_on_what_is_stored_and_not_on_references() -> None:
    driver = MemoryDriver()
    converter = _converter(driver, codec=ReversingCodec())
    payloads = run(converter.encode([LARGE]))
    assert payloads[0].metadata["encoding"] == b"json/protobuf"
    assert b"reversed" in driver.stored["memory-0"]
    assert run(converter.decode(payloads)) == [LARGE]


def test_encoded_references_are_read_and_written_when_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = MemoryDriver()
    converter = _converter(driver, codec=ReversingCodec())
    monkeypatch.setattr(_extstore, "_ENCODE_STORAGE_REFERENCES", True)
    [reference] = run(converter.encode([LARGE]))
    monkeypatch.setattr(_extstore, "_ENCODE_STORAGE_REFERENCES", False)
    assert reference.metadata["encoding"] == b"reversed"
    assert reference.external_payloads[0].size_bytes > 200
    assert run(converter.decode([reference])) == [LARGE]
    with pytest.raises(RuntimeError, match="TMPRL1106"):
        run(_converter(driver).decode([reference]))
    with pytest.raises(RuntimeError, match="TMPRL1105"):
        run(DataConverter(payload_codec=ReversingCodec()).decode([reference]))


def test_a_reference_without_external_storage_is_refused_for_values_and_failures() -> None:
    driver = MemoryDriver()
    converter = _converter(driver)
    payloads = run(converter.encode([LARGE]))
    failure = Failure()
    run(converter.encode_failure(ApplicationError("m", LARGE), failure))
    for decode in (DataConverter.default.decode(payloads), DataConverter.default.decode_failure(failure)):
        with pytest.raises(ExternalStorageNotConfiguredError, match="TMPRL1105") as raised:
            run(decode)
        assert isinstance(raised.value, RuntimeError)
        assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    # The payload converter alone, as workflow code uses it, does not take the reference for the value.
    with pytest.raises(ExternalStorageNotConfiguredError):
        DataConverter.default.payload_converter.from_payloads(payloads)
    error = run(converter.decode_failure(failure))
    assert isinstance(error, ApplicationError)
    assert error.details == (LARGE,)


def test_the_selector_chooses_the_driver_and_may_choose_none() -> None:
    first, second = MemoryDriver("first"), MemoryDriver("second")
    seen: list[StorageDriverSelectContext] = []

    def select(context: StorageDriverSelectContext, payload: Payload) -> StorageDriver | None:
        seen.append(context)
        return {b"1": first, b"2": second}.get(payload.data[1:2])

    converter = _converter(first, second, driver_selector=select)
    values = ["1" + LARGE, "2" + LARGE, "3" + LARGE, "1" + LARGE]
    payloads = run(converter.encode(values))
    assert (first.calls, second.calls) == ([2], [1])
    assert run(converter.decode(payloads)) == values
    assert all(isinstance(context, StorageDriverStoreContext) for context in seen)


def test_the_driver_is_told_for_whom_it_stores_and_the_context_of_converters_is_kept() -> None:
    driver = MemoryDriver()
    target = StorageDriverWorkflowInfo(namespace="n", id="w")
    converter = _converter(driver)._with_contexts(
        WorkflowSerializationContext("n", "w"), StorageDriverStoreContext(target=target)
    )
    run(converter.encode([LARGE]))
    assert driver.contexts == [StorageDriverStoreContext(target=target)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drivers": []}, "at least one driver"),
        ({"drivers": [MemoryDriver()], "payload_size_threshold": -1}, "greater than or equal to zero"),
        ({"drivers": [MemoryDriver("a"), MemoryDriver("b")]}, "driver_selector must be specified"),
        (
            {"drivers": [MemoryDriver(), MemoryDriver()], "driver_selector": lambda context, payload: None},
            "multiple drivers with name 'memory'",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExternalStorage(**options)


def test_drivers_that_are_not_registered_are_named() -> None:
    stranger = MemoryDriver("stranger")
    with pytest.raises(ValueError, match="'stranger' returned by driver_selector is not registered"):
        run(_converter(MemoryDriver(), driver_selector=lambda context, payload: stranger).encode([LARGE]))
    payloads = run(_converter(stranger).encode([LARGE]))
    with pytest.raises(ValueError, match="No driver found with name 'stranger'.*has memory"):
        run(_converter(MemoryDriver()).decode(payloads))


class _Miscounting(MemoryDriver):
    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        return []


class _Failing(MemoryDriver):
    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        raise OSError("disk full")


def test_a_driver_that_returns_too_few_claims_is_named() -> None:
    with pytest.raises(ValueError, match="Driver 'memory' returned 0 claims, expected 1"):
        run(_converter(_Miscounting()).encode([LARGE]))


def test_an_error_of_a_driver_says_which_one_and_what_it_was_to_do() -> None:
    """Such an error is often a bare key; it stays what it is, so that who knows the driver can handle it."""
    stored = run(_converter(MemoryDriver()).encode([LARGE]))
    with pytest.raises(KeyError) as missing:
        run(_converter(MemoryDriver()).decode(stored))
    assert missing.value.__notes__ == [
        "Storage driver 'memory' raised this in `retrieve`, asked for {'key': 'memory-0'}."
    ]

    with pytest.raises(OSError, match="disk full") as full:
        run(_converter(_Failing()).encode([LARGE]))
    assert full.value.__notes__ == ["Storage driver 'memory' raised this in `store`."]


def test_when_one_driver_fails_the_others_are_cancelled() -> None:
    cancelled = []

    class Slow(MemoryDriver):
        async def store(
            self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
        ) -> list[StorageDriverClaim]:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(self.name())
                raise
            return []

    slow, failing = Slow("slow"), _Failing("failing")
    converter = _converter(
        slow, failing, driver_selector=lambda context, payload: slow if payload.data[1:2] == b"1" else failing
    )
    with pytest.raises(OSError, match="disk full"):
        run(converter.encode(["1" + LARGE, "2" + LARGE]))
    assert cancelled == ["slow"]


def test_operations_are_measured_where_somebody_looks() -> None:
    converter = _converter(MemoryDriver())
    metrics = StorageOperationMetrics()
    with metrics.track():
        payloads = run(converter.encode([LARGE, LARGE, "small"]))
    run(converter.decode(payloads))
    assert (metrics.payload_count, metrics.driver_names) == (2, {"memory"})
    assert metrics.total_size == 2 * converter.payload_converter.to_payload(LARGE).ByteSize()


def test_time_that_operations_shared_counts_once() -> None:
    metrics = StorageOperationMetrics()
    for start, end in ((0, 2), (1, 3), (10, 11), (10.25, 10.5)):
        metrics.record_batch(1, 1, start, end, {"d"})
    assert metrics.total_duration.total_seconds() == 4
