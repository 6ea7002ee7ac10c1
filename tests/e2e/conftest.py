"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.python_sdk import SharedServer


@pytest.fixture(scope="session")
def shared_server() -> Iterator[SharedServer]:
    """One server for all tests that do not kill it."""
    shared = SharedServer()
    shared.start()
    try:
        yield shared
    finally:
        shared.stop()
