"""`invariant` and `present` raise with what is needed to find the cause, and stay silent otherwise."""

from __future__ import annotations

import pytest

from perdure.core.errors import InvariantViolation, PerdureError
from perdure.core.invariant import invariant, present


def test_a_broken_rule_raises_with_its_message_and_context() -> None:
    with pytest.raises(
        InvariantViolation, match=r"^event ids have no gap \(expected=3, found=5\)$"
    ) as caught:
        invariant(False, "event ids have no gap", expected=3, found=5)
    assert caught.value.context == {"expected": 3, "found": 5}
    assert isinstance(caught.value, PerdureError)


def test_any_truth_value_counts() -> None:
    invariant([0], "never seen")
    with pytest.raises(InvariantViolation, match=r"^the list has an entry$"):
        invariant([], "the list has an entry")


def test_what_is_there_is_given_back() -> None:
    """Also what counts as false."""
    assert present(0, "never seen") == 0
    with pytest.raises(InvariantViolation, match=r"^the task is gone \(seq=3\)$"):
        present(None, "the task is gone", seq=3)
