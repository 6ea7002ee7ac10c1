"""Failures that the server makes, and what it keeps of those that are too large."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.run import failures
from tests.support.builders import application_failure
from tests.support.proto import failure


def _large(depth: int = 0) -> failure.Failure:
    large = application_failure("ä" * 5000, type="Boom")
    large.stack_trace = "s" * 5000
    if depth:
        large.cause.CopyFrom(_large(depth - 1))
    return large


def test_a_small_failure_is_kept_whole() -> None:
    small = application_failure()
    assert failures.truncated_failure(small, small.ByteSize()) is small


def test_a_large_failure_is_kept_in_part() -> None:
    large = _large()
    kept = failures.truncated_failure(large, 4096)
    assert kept.message == "Failure exceeds size limit."
    assert kept.HasField("server_failure_info")
    assert not kept.server_failure_info.non_retryable
    assert kept.cause.application_failure_info.type == "Boom"
    assert large.message.startswith(kept.cause.message)
    assert len(kept.cause.message) > 1500
    assert kept.ByteSize() <= 4096 + 64


@pytest.mark.parametrize("non_retryable", [False, True])
def test_what_stands_for_a_failure_may_forbid_another_attempt(non_retryable: bool) -> None:
    kept = failures.oversized(_large(), 4096, non_retryable=non_retryable)
    assert kept.server_failure_info.non_retryable is non_retryable
    assert kept.HasField("server_failure_info")


def test_causes_are_kept_as_far_as_there_is_room() -> None:
    kept = failures.oversized(_large(depth=50), 100_000)
    depth = 0
    inner = kept
    while inner.HasField("cause"):
        inner = inner.cause
        depth += 1
    assert 3 < depth <= 22


def test_a_server_failure_stays_one() -> None:
    large = failure.Failure(
        message="x" * 5000, server_failure_info=failure.ServerFailureInfo(non_retryable=True)
    )
    assert failures.truncated_failure(large, 100).cause.server_failure_info.non_retryable


def test_other_kinds_lose_their_kind() -> None:
    large = failure.Failure(message="x" * 5000, canceled_failure_info=failure.CanceledFailureInfo())
    assert failures.truncated_failure(large, 100).cause.WhichOneof("failure_info") is None


@given(st.text(max_size=300), st.text(max_size=300), st.integers(0, 400))
def test_what_is_kept_fits_and_is_text(message: str, trace: str, room: int) -> None:
    """Cutting in the middle of a character leaves none of it; nothing grows."""
    whole = failure.Failure(message=message, stack_trace=trace, source="s")
    kept = failures.oversized(whole, room).cause
    assert message.startswith(kept.message)
    assert trace.startswith(kept.stack_trace)
    assert kept.ByteSize() <= room + 16
