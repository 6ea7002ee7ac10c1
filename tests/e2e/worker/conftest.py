"""Fixtures of the worker's end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.worker.targets import KINDS, Target


@pytest.fixture(scope="session", params=KINDS)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """One server of each kind for all tests that do not kill it."""
    target = Target(request.param)
    target.start()
    try:
        yield target
    finally:
        target.stop()
