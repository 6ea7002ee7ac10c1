"""Every test of the core runs under observation: no call may change a state in a way the tables do not have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.core.observe import Seen, observed


@pytest.fixture(scope="package", autouse=True)
def watched_core() -> Iterator[None]:
    """Holds every change of state against `perdure.core.run.machines`."""
    seen: Seen = {}
    with observed(seen):
        yield
