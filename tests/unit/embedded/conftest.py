"""The address of an engine in a process of its own, for the tests of such engines."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def address(tmp_path: Path) -> str:
    """The address of a file that is not there yet, whose engine gets a process."""
    return f"sqlite:///{tmp_path}/orders.db?engine=process"
